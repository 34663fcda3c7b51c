import { assert, assertEquals } from "@std/assert";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { waitUntil } from "../support/deadline.ts";
import { Guest, header, SECTOR, ServedDisk, T_IN } from "./disk.ts";
import { SLOW, slowly } from "./slow_reads.ts";

const DEPTH = 32;
const HOTPLUGGED = 0x4000_0000;
const PAGES = 16 * 4096;
/** Bytes of a read into memory that leaves. */
const PIECE = 16 * 4096;

/** Verified reads at queue depth 32 on ring 0, until it is told to stop. */
class Load {
  completed = 0;
  wrong = 0;
  #running = true;
  readonly #done: Promise<void>;
  readonly #expected = new Map<number, number>();
  #sector = 0;

  constructor(readonly guest: Guest) {
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    const { guest } = this, [driver] = guest.drivers;
    while (this.#running || driver.inFlight > 0) {
      while (this.#running && driver.inFlight < DEPTH) {
        this.#expected.set(
          guest.submit(T_IN, this.#sector, SECTOR),
          this.#sector,
        );
        this.#sector = (this.#sector + 1) % 8192;
      }
      for (const { token, data } of driver.reap()) {
        const stamp = new DataView(data.buffer).getUint32(0, true);
        if (data[SECTOR] !== 0 || stamp !== this.#expected.get(token)) {
          this.wrong++;
        }
        this.completed++;
      }
      if (driver.inFlight > 0 && !driver.enableInterrupt()) {
        await guest.frontEnd.waitCall(0);
      }
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

slowly.test("memory regions come and go under load, also in them", async () => {
  await using disk = await ServedDisk.start({ queues: 2, ...SLOW });
  using guest = await Guest.connect(disk.socket, { rings: 1 });
  const { frontEnd } = guest;
  const { size, eventIdx } = guest.drivers[0];
  const second = new FakeDriver(guest.memory, { size, eventIdx, copy: false });
  guest.drivers.push(second);
  await guest.start();
  const inFlight = async (): Promise<number> => {
    const rings = (await disk.server.status()).rings as { inFlight: number }[];
    return rings[1].inFlight;
  };
  const load = new Load(guest);
  let waited = 0, drained = 0;
  try {
    for (let i = 0; i < 60; i++) {
      const size = DEPTH * PIECE;
      using added = SharedRegion.create(HOTPLUGGED + (i % 3) * size, size, {
        fileOffset: (i % 2) * 4096,
      });
      await frontEnd.addMemReg(added);
      const sectors = Array.from(
        { length: DEPTH },
        (_, j) => 4 * i + j * PIECE / SECTOR,
      );
      for (const [j, sector] of sectors.entries()) {
        second.submit([
          { readable: header(T_IN, sector) },
          {
            address: added.guestAddress + j * PIECE,
            length: PIECE,
            write: true,
          },
          { writable: 1 },
        ], { indirect: true });
      }
      if (second.kickNeeded()) frontEnd.kick(1);
      const view = new DataView(added.bytes.buffer);
      const stamps = () =>
        sectors.map((_, j) => view.getUint32(j * PIECE, true));
      if (i % 2 === 0) {
        const done = await guest.complete(DEPTH, 1);
        assertEquals(
          done.map(({ length }) => length),
          Array(DEPTH).fill(PIECE + 1),
        );
        assertEquals(stamps(), sectors);
        waited += done.length;
        await frontEnd.remMemReg(added, i % 4 === 0);
      } else {
        const end = second.availableIndex;
        await waitUntil(
          async () => await inFlight() > 0 || second.usedIndex === end,
          { what: "reads in flight", interval: 0 },
        );
        const before = second.usedIndex;
        await frontEnd.remMemReg(added);
        // What the device had taken was finished before the answer; what it
        // had not taken finds no memory and is answered with length 0.
        const after = stamps();
        for (let at = before; at < second.usedIndex; at++) {
          if (second.usedElement(at).length === PIECE + 1) drained++;
        }
        const done = await guest.complete(DEPTH, 1);
        for (const { length } of done) {
          assert(length === PIECE + 1 || length === 0);
        }
        assertEquals(stamps(), after);
      }
    }
  } finally {
    await load.stop();
  }
  assertEquals(load.wrong, 0);
  assert(load.completed > 1000, `only ${load.completed} verified reads`);
  assertEquals(waited, 30 * DEPTH);
  assert(drained > 0, "no read was in flight when its region left");
});

Deno.test("the ring's own memory goes and comes back", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  const { frontEnd } = guest;
  for (let i = 0; i < 20; i++) {
    const { data } = await guest.request(T_IN, i, SECTOR);
    assertEquals(new DataView(data.buffer).getUint32(0, true), i);
    await frontEnd.remMemReg(guest.region);
    // Made available while the device has no memory: served afterwards.
    guest.submit(T_IN, 100 + i, SECTOR);
    await frontEnd.addMemReg(guest.region);
    const [{ data: later }] = await guest.complete(1);
    assertEquals(new DataView(later.buffer).getUint32(0, true), 100 + i);
  }
});

Deno.test("a new memory table replaces the old one under load", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  using extra = SharedRegion.create(HOTPLUGGED, PAGES);
  const load = new Load(guest);
  try {
    for (let i = 0; i < 50; i++) {
      await guest.frontEnd.setMemTable(
        i % 2 === 0 ? [guest.region, extra] : [guest.region],
      );
    }
  } finally {
    await load.stop();
  }
  assertEquals(load.wrong, 0);
  assert(load.completed > 100, `only ${load.completed} verified reads`);
});
