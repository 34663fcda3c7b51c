/**
 * Memory that comes and goes while requests run, in as many regions as there may
 * be, and more memory than this machine has.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { mappingsOf } from "../../sys/mapping.ts";
import { FrontEndError, SharedRegion } from "../../vhost/testing/front_end.ts";
import { Guest, header, SECTOR, ServedDisk, T_IN } from "./disk.ts";

const SLOTS = 512;
const HOTPLUG_BASE = 0x1_0000_0000, DIMM = 0x2_0000;
/** Bytes of one read; it covers the end of a DIMM. */
const LENGTH = 8 * SECTOR;

/** Requests whose data go to places outside of the guest's first region. */
class Reader {
  readonly guest: Guest;
  /** Requests on their way, by token: where their bytes go. */
  readonly #pending = new Map<
    number,
    { region: SharedRegion; sector: number; leaving: boolean }
  >();
  #sector = 0;
  /** Requests whose memory was gone when they were taken. */
  refused = 0;

  constructor(guest: Guest) {
    this.guest = guest;
  }

  /** Reads into the last bytes of a region; does not wait. */
  read(region: SharedRegion, leaving = false): void {
    const { guest } = this;
    const [driver] = guest.drivers;
    this.#sector = (this.#sector + 64) % 8000;
    const address = region.guestAddress + region.size - LENGTH;
    const token = driver.submit([
      { readable: header(T_IN, this.#sector) },
      { address, length: LENGTH, write: true },
      { writable: 1 },
    ], { indirect: true });
    this.#pending.set(token, { region, sector: this.#sector, leaving });
    if (driver.kickNeeded()) guest.frontEnd.kick(0);
  }

  /** Waits for all, and checks what the last one of each region brought. */
  async settle(): Promise<number> {
    const done = await this.guest.complete(this.#pending.size);
    const last = new Map<SharedRegion, number>();
    for (const { token, length } of done) {
      const { region, sector, leaving } = this.#pending.get(token)!;
      // What was not taken before its memory went is refused.
      if (length === 0 && leaving) this.refused++;
      else {
        assertEquals(length, LENGTH + 1);
        last.set(region, sector);
      }
    }
    for (const [region, sector] of last) {
      const at = region.size - LENGTH;
      const words = new Uint32Array(region.bytes.buffer, at, LENGTH / 4);
      assertEquals([words[0], words[SECTOR / 4]], [sector, sector + 1]);
    }
    this.#pending.clear();
    return done.length;
  }
}

Deno.test("512 slots are plugged and unplugged under I/O, twice", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket, { copy: false });
  const { frontEnd } = guest;
  assertEquals(await frontEnd.getMaxMemSlots(), SLOTS);
  using dimms = new DisposableStack();
  const regions = Array.from(
    { length: SLOTS - 1 },
    (_, i) => dimms.use(SharedRegion.create(HOTPLUG_BASE + i * DIMM, DIMM)),
  );
  using over = SharedRegion.create(HOTPLUG_BASE + SLOTS * DIMM, DIMM);
  const reader = new Reader(guest);
  const before = { fds: openFdCount(), mappings: mappingsOf("vhost-test") };
  let requests = 0;
  for (let turn = 0; turn < 2; turn++) {
    for (const [i, region] of regions.entries()) {
      // Requests are on their way while each region comes.
      if (i > 0) {
        reader.read(regions[i - 1]);
        reader.read(regions[i >> 1]);
      }
      await frontEnd.addMemReg(region);
      if (i % 8 === 7) requests += await reader.settle();
    }
    requests += await reader.settle();
    await assertRejects(() => frontEnd.addMemReg(over), FrontEndError);
    const last = regions[regions.length >> 1];
    for (let i = 0; i < regions.length; i++) {
      // Every other one from the front, the rest from the back.
      const at = i % 2 === 0 ? i >> 1 : regions.length - 1 - (i >> 1);
      // The one that goes is being written, and so is one that stays.
      reader.read(regions[at], true);
      if (i < regions.length - 1) reader.read(last);
      await frontEnd.remMemReg(regions[at]);
      if (i % 8 === 7) requests += await reader.settle();
    }
    requests += await reader.settle();
    const status = await disk.server.status() as {
      session: { regions: unknown[] };
    };
    assertEquals(status.session.regions.length, 1);
    assertEquals(
      { fds: openFdCount(), mappings: mappingsOf("vhost-test") },
      before,
    );
  }
  assert(requests > 4 * SLOTS - 10, `${requests} requests`);
});

Deno.test("16 GiB of sparse memory: its first and its last bytes", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket, { copy: false });
  using large = SharedRegion.create(HOTPLUG_BASE, 16 * 2 ** 30);
  await guest.frontEnd.addMemReg(large);
  const reader = new Reader(guest);
  reader.read(large);
  assertEquals(await reader.settle(), 1);
  const [driver] = guest.drivers;
  driver.submit([
    { readable: header(T_IN, 7) },
    { address: HOTPLUG_BASE, length: SECTOR, write: true },
    // Beyond 4 GiB of the region: no 32 bits hold the offset.
    { address: HOTPLUG_BASE + 5 * 2 ** 31, length: SECTOR, write: true },
    { writable: 1 },
  ], { indirect: true });
  guest.frontEnd.kick(0);
  const [{ length }] = await guest.complete(1);
  assertEquals(length, 2 * SECTOR + 1);
  const { buffer } = large.bytes;
  assertEquals(new Uint32Array(buffer, 0, 1)[0], 7);
  assertEquals(new Uint32Array(buffer, 5 * 2 ** 31, 1)[0], 8);
});
