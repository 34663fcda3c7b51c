/**
 * The dirty log of devices that are really served: a front-end copies the memory
 * that a device writes while requests run, by the log alone. When the rings have
 * stopped, copy and original are equal, to the byte.
 */

import { assert, assertEquals } from "@std/assert";
import { requestHead } from "../../backends/scsi/testing/bench.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { LogMemory, setLogging } from "../../vhost/testing/log_memory.ts";
import { dirtyLogSize } from "../../virtqueue/dirty_log.ts";
import { skipUnless } from "../support/skip.ts";
import { Guest, header, SECTOR, ServedDisk, T_IN } from "./disk.ts";
import { NetGuest, ServedNet } from "./net.ts";
import { REQUESTS, ScsiGuest, ServedHba } from "./scsi.ts";

/** Memory that the device writes, and nobody else. */
const TARGET = 0x4000_0000, TARGET_SIZE = 4 << 20;
const ROUNDS = 30, DEPTH = 8;
/** Longest read in sectors: more than a page, and not whole pages. */
const LONGEST = 37;

/** A load on a device: what it writes lies in the target. */
interface Load {
  readonly guest: Guest;
  /** The ring whose device writes. */
  readonly ring: number;
  /** Makes requests available, to be answered at these addresses and lengths. */
  submit(targets: readonly [address: number, length: number][]): void;
}

/** Makes a chain available whose device-writable part is elsewhere. */
function submitTo(
  { guest, ring }: { readonly guest: Guest; readonly ring: number },
  head: Uint8Array,
  writes: readonly [address: number, length: number][],
): void {
  const driver = guest.drivers[ring];
  driver.submit([
    ...(head.length > 0 ? [{ readable: head }] : []),
    ...writes.map(([address, length]) => ({ address, length, write: true })),
  ], { indirect: true });
  if (driver.kickNeeded()) guest.frontEnd.kick(ring);
}

/** Bytes of a used ring, as they are now. */
function usedRing(guest: Guest, ring: number): Uint8Array {
  const { usedRing, size } = guest.drivers[ring];
  const at = usedRing - guest.region.guestAddress;
  return guest.region.bytes.slice(at, at + 6 + 8 * size);
}

/** Copies what the device writes while it does, and checks the copy. */
async function migrate(load: Load, target: SharedRegion): Promise<number> {
  const { guest, ring } = load;
  const { frontEnd, region } = guest;
  const layouts = new Map(guest.drivers.entries());
  const size = dirtyLogSize(TARGET + TARGET_SIZE);
  using log = new LogMemory(size);
  // Another one in its place, later: the first has all marks until its answer.
  using larger = new LogMemory(2 * size);
  using told = EventFd.create();
  const copy = new Uint8Array(TARGET_SIZE);
  const rings = new Uint8Array(region.size);
  let copied = 0, random = 12345, notices = 0;
  const next = (below: number): number => {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    return (random >>> 8) % below;
  };
  const step = (): void => {
    const pages = [...log.takePages(), ...larger.takePages()];
    copied += pages.length;
    for (const page of pages) {
      const at = page * 4096;
      const own = at >= TARGET;
      const from = own ? target : region, to = own ? copy : rings;
      const start = at - from.guestAddress;
      to.set(from.bytes.subarray(start, start + 4096), start);
    }
  };
  for (let round = 0; round < ROUNDS; round++) {
    const targets = Array.from({ length: DEPTH }, (_, i) => {
      const room = TARGET_SIZE / DEPTH;
      const length = SECTOR * (1 + next(LONGEST));
      return [
        TARGET + i * room + next(room - length - 512),
        length,
      ] as [number, number];
    });
    load.submit(targets);
    if (round === ROUNDS / 3) {
      // Requests are in flight when logging begins, and it begins for them too.
      frontEnd.acks = false;
      await log.set(frontEnd);
      frontEnd.acks = true;
      await frontEnd.set(FrontEndMessage.SET_LOG_FD, undefined, [told.fd]);
      await setLogging(frontEnd, true, layouts);
      copy.set(target.bytes);
      rings.set(region.bytes);
    }
    if (round === ROUNDS / 2) await larger.set(frontEnd);
    if (round === ROUNDS / 2) step();
    if (round > ROUNDS / 2) assertEquals(log.takePages(), [], "the old log");
    if (round > ROUNDS / 3) step();
    await guest.complete(DEPTH, ring);
    if (round > ROUNDS / 3) step();
    notices += told.drain();
  }
  for (const index of layouts.keys()) await frontEnd.getVringBase(index);
  step();
  assert(notices > 0, "nobody was told of the log");
  assertEquals(copy.findIndex((byte, i) => byte !== target.bytes[i]), -1);
  const { usedRing: at, size: entries } = guest.drivers[ring];
  const from = at - region.guestAddress;
  assertEquals(
    rings.slice(from, from + 6 + 8 * entries),
    usedRing(guest, ring),
  );
  assert(copy.some((byte) => byte !== 0), "the device wrote nothing");
  return copied;
}

/** As {@linkcode migrate}, then the rings go on without a log. */
async function migrateAndGoOn(load: Load): Promise<void> {
  const { guest, ring } = load;
  using target = SharedRegion.create(TARGET, TARGET_SIZE);
  await guest.frontEnd.addMemReg(target);
  const copied = await migrate(load, target);
  assert(copied > ROUNDS * DEPTH / 2, `only ${copied} pages were marked`);
  await setLogging(guest.frontEnd, false, new Map());
  for (const [index, driver] of guest.drivers.entries()) {
    await guest.frontEnd.setupRing(index, driver, driver.usedIndex);
  }
  load.submit([[TARGET, SECTOR]]);
  await guest.complete(1, ring);
}

for (const engine of ["sync", "io_uring"]) {
  skipUnless(
    engine === "sync" || IoUring.supported(),
    "io_uring is not available",
  ).test(`blk, ${engine}: a copy by the log is the memory`, async () => {
    await using disk = await ServedDisk.start({ engine });
    using guest = await Guest.run(disk.socket, { copy: false });
    let sector = 0;
    await migrateAndGoOn({
      guest,
      ring: 0,
      submit(targets) {
        for (const [address, length] of targets) {
          // Every request reads something else, and in two buffers.
          sector = (sector + 101) % (8192 - LONGEST);
          submitTo({ guest, ring: 0 }, header(T_IN, sector), [
            [address, 100],
            [address + 100, length - 100],
            [address + length, 1],
          ]);
        }
      },
    });
  });
}

Deno.test("blk, 2 Workers: each logs its rings", async () => {
  await using disk = await ServedDisk.start({ queues: 2 }, { workers: 2 });
  using guest = await Guest.run(disk.socket, { copy: false, rings: 2 });
  let sector = 0;
  await migrateAndGoOn({
    guest,
    ring: 1,
    submit(targets) {
      for (const [address, length] of targets) {
        sector = (sector + 101) % (8192 - LONGEST);
        submitTo({ guest, ring: 1 }, header(T_IN, sector), [
          [address, length],
          [address + length, 1],
        ]);
      }
    },
  });
});

Deno.test("scsi: a copy by the log is the memory", async () => {
  await using hba = await ServedHba.start();
  const image = new Uint8Array(4 << 20);
  for (let at = 0; at < image.length; at++) image[at] = at / 512 + at;
  Deno.writeFileSync(hba.image("disk.img"), image);
  using driver = await ScsiGuest.run(hba.socket, { copy: false });
  const { guest } = driver;
  let block = 0;
  await migrateAndGoOn({
    guest,
    ring: REQUESTS,
    submit(targets) {
      for (const [address, length] of targets) {
        block = (block + 101) % (8192 - LONGEST);
        const blocks = length / SECTOR;
        const cdb = [
          ...[0x28, 0, 0, 0, block >> 8, block & 0xff],
          ...[0, 0, blocks, 0],
        ];
        submitTo({ guest, ring: REQUESTS }, requestHead(cdb), [
          [address, 12 + 96],
          [address + 108, length],
        ]);
      }
    },
  });
});

Deno.test("net: a copy by the log is the memory", async () => {
  await using net = await ServedNet.start({ backend: "echo" });
  using driver = await NetGuest.run(net.socket, { copy: false });
  const { guest } = driver;
  let frame = 0;
  await migrateAndGoOn({
    guest,
    ring: 0,
    submit(targets) {
      for (const [address] of targets) {
        submitTo({ guest, ring: 0 }, new Uint8Array(0), [[address, 1526]]);
      }
      driver.send(
        targets.map(([, length]) =>
          new Uint8Array(60 + length % 1400).fill(++frame)
        ),
      );
    },
  });
});
