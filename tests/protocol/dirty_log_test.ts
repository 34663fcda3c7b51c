/**
 * The dirty log of devices that are really served: a front-end copies the memory
 * that a device writes while requests run, by the log alone. When the rings have
 * stopped, copy and original are equal, to the byte. Before that, logging begins
 * once and ends again, as in a migration that is cancelled: under rings that run.
 */

import { assert, assertEquals } from "@std/assert";
import { requestHead } from "../../backends/scsi/testing/bench.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { LogMemory, setLogging } from "../../vhost/testing/log_memory.ts";
import { dirtyLogSize } from "../../virtqueue/dirty_log.ts";
import type {
  FakeBuffer,
  RingDriver,
} from "../../virtqueue/testing/buffers.ts";
import { skipUnless } from "../support/skip.ts";
import {
  Guest,
  type GuestOptions,
  header,
  SECTOR,
  ServedDisk,
  T_IN,
} from "./disk.ts";
import { ServedNet } from "./net.ts";
import { REQUESTS, ServedHba } from "./scsi.ts";

/** Memory that the device writes, and nobody else. */
const TARGET = 0x4000_0000, TARGET_SIZE = 4 << 20;
const ROUNDS = 30, DEPTH = 8;
/** Rounds with a log, and rounds without, where the migration is cancelled. */
const LOGGED = 4, UNLOGGED = 8;
/** Longest read in sectors: more than a page, and not whole pages. */
const LONGEST = 37;

/** A load on a device: what it writes lies in the target. */
interface Load {
  readonly guest: Guest<RingDriver>;
  /** The ring whose device writes. */
  readonly ring: number;
  /** Makes requests available, to be answered at these addresses and lengths. */
  submit(targets: readonly [address: number, length: number][]): void;
}

/** Makes a chain available; what the device writes is elsewhere. */
function submitTo(
  guest: Guest<RingDriver>,
  ring: number,
  readable: readonly Uint8Array[],
  writes: readonly [address: number, length: number][] = [],
): void {
  const driver = guest.drivers[ring];
  const buffers: FakeBuffer[] = [
    ...readable.map((bytes) => ({ readable: bytes })),
    ...writes.map(([address, length]) => ({ address, length, write: true })),
  ];
  assert(driver.submit(buffers, { indirect: true }) >= 0, "the ring is full");
  if (driver.kickNeeded()) guest.frontEnd.kick(ring);
}

/** What a device writes of a ring, as it is now in a copy of the memory. */
function written(
  { region, drivers }: Guest<RingDriver>,
  ring: number,
  bytes: Uint8Array,
): Uint8Array[] {
  const { packed, size, descriptorTable, usedRing } = drivers[ring];
  const part = (address: number, length: number): Uint8Array => {
    const at = address - region.guestAddress;
    return bytes.slice(at, at + length);
  };
  // Of a packed ring the driver writes each descriptor too, but before it.
  return packed
    ? [part(descriptorTable, 16 * size), part(usedRing, 4)]
    : [part(usedRing, 6 + 8 * size)];
}

/** Places to write to, one of each request of a round: the same in each run. */
function placesOfRounds(): () => [address: number, length: number][] {
  let random = 12345;
  const next = (below: number): number => {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    return (random >>> 8) % below;
  };
  return () =>
    Array.from({ length: DEPTH }, (_, i) => {
      const room = TARGET_SIZE / DEPTH;
      const length = SECTOR * (1 + next(LONGEST));
      return [TARGET + i * room + next(room - length - 512), length];
    });
}

/** Begins to log and ends it, each with requests in flight: marks end with it. */
async function cancel(load: Load, log: LogMemory): Promise<void> {
  const { guest, ring } = load;
  const { frontEnd } = guest;
  const layouts = new Map(guest.drivers.entries());
  const places = placesOfRounds();
  await log.set(frontEnd);
  for (let round = 0; round < LOGGED + UNLOGGED; round++) {
    load.submit(places());
    if (round === 0) await setLogging(frontEnd, true, layouts);
    if (round === LOGGED) {
      await setLogging(frontEnd, false, layouts);
      log.takePages();
    }
    await guest.complete(DEPTH, ring);
    const pages = log.takePages();
    if (round >= LOGGED) assertEquals(pages, [], "marked after the end");
    else if (round > 0) {
      // Each request is answered in a part of its own.
      const marked = pages.filter((page) => page * 4096 >= TARGET).length;
      assert(marked >= DEPTH, `only ${marked} pages were marked`);
    }
  }
}

/** Copies what the device writes while it does, and checks the copy. */
async function migrate(load: Load, target: SharedRegion): Promise<number[]> {
  const { guest, ring } = load;
  const { frontEnd, region } = guest;
  const layouts = new Map(guest.drivers.entries());
  const size = dirtyLogSize(TARGET + TARGET_SIZE);
  using cancelled = new LogMemory(size);
  await cancel(load, cancelled);
  using log = new LogMemory(size);
  // Another one in its place, later: the first has all marks until its answer.
  using larger = new LogMemory(2 * size);
  using told = EventFd.create();
  const copy = new Uint8Array(TARGET_SIZE);
  const rings = new Uint8Array(region.size);
  let copied = 0, notices = 0;
  const places = placesOfRounds();
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
    load.submit(places());
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
  const positions: number[] = [];
  for (const index of layouts.keys()) {
    positions.push(await frontEnd.getVringBase(index));
  }
  step();
  assert(notices > 0, "nobody was told of the log");
  assertEquals(copy.findIndex((byte, i) => byte !== target.bytes[i]), -1);
  for (const index of layouts.keys()) {
    assertEquals(
      written(guest, index, rings),
      written(guest, index, region.bytes),
      `ring ${index}`,
    );
  }
  assert(copy.some((byte) => byte !== 0), "the device wrote nothing");
  assert(copied > ROUNDS * DEPTH / 2, `only ${copied} pages were marked`);
  assertEquals(cancelled.takePages(), [], "the log that was cancelled");
  return positions;
}

/** As {@linkcode migrate}, then the rings go on without a log. */
async function migrateAndGoOn(load: Load): Promise<void> {
  const { guest, ring } = load;
  using target = SharedRegion.create(TARGET, TARGET_SIZE);
  await guest.frontEnd.addMemReg(target);
  const positions = await migrate(load, target);
  await setLogging(guest.frontEnd, false, new Map());
  for (const [index, driver] of guest.drivers.entries()) {
    await guest.frontEnd.setupRing(index, driver, positions[index]);
  }
  load.submit([[TARGET, SECTOR]]);
  await guest.complete(1, ring);
}

/**
 * Connects and starts rings of a kind, of a size with which the first ring of
 * descriptors shares no page with what else the device writes.
 */
function run(
  packed: boolean,
  socket: string,
  options: GuestOptions,
): Promise<Guest<RingDriver>> {
  const all = { ...options, size: 256, copy: false };
  return packed ? Guest.runPacked(socket, all) : Guest.run(socket, all);
}

for (const packed of [false, true]) {
  const kind = packed ? "packed" : "split";

  for (const engine of ["sync", "io_uring"]) {
    skipUnless(
      engine === "sync" || IoUring.supported(),
      "io_uring is not available",
    ).test(
      `blk, ${engine}, ${kind}: a copy by the log is the memory`,
      async () => {
        await using disk = await ServedDisk.start({ engine });
        using guest = await run(packed, disk.socket, {});
        let sector = 0;
        await migrateAndGoOn({
          guest,
          ring: 0,
          submit(targets) {
            for (const [address, length] of targets) {
              // Every request reads something else, and in two buffers.
              sector = (sector + 101) % (8192 - LONGEST);
              submitTo(guest, 0, [header(T_IN, sector)], [
                [address, 100],
                [address + 100, length - 100],
                [address + length, 1],
              ]);
            }
          },
        });
      },
    );
  }

  Deno.test(`blk, 2 Workers, ${kind}: each logs its rings`, async () => {
    await using disk = await ServedDisk.start({ queues: 2 }, { workers: 2 });
    using guest = await run(packed, disk.socket, { rings: 2 });
    let sector = 0;
    await migrateAndGoOn({
      guest,
      ring: 1,
      submit(targets) {
        for (const [address, length] of targets) {
          sector = (sector + 101) % (8192 - LONGEST);
          submitTo(guest, 1, [header(T_IN, sector)], [
            [address, length],
            [address + length, 1],
          ]);
        }
      },
    });
  });

  Deno.test(`scsi, ${kind}: a copy by the log is the memory`, async () => {
    await using hba = await ServedHba.start();
    const image = new Uint8Array(4 << 20);
    for (let at = 0; at < image.length; at++) image[at] = at / 512 + at;
    Deno.writeFileSync(hba.image("disk.img"), image);
    using guest = await run(packed, hba.socket, { rings: REQUESTS + 1 });
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
          submitTo(guest, REQUESTS, [requestHead(cdb)], [
            [address, 12 + 96],
            [address + 108, length],
          ]);
        }
      },
    });
  });

  Deno.test(`net, ${kind}: a copy by the log is the memory`, async () => {
    await using net = await ServedNet.start({ backend: "echo" });
    using guest = await run(packed, net.socket, { rings: 3 });
    let frame = 0;
    await migrateAndGoOn({
      guest,
      ring: 0,
      submit(targets) {
        for (const [address] of targets) {
          submitTo(guest, 0, [], [[address, 1526]]);
        }
        guest.drivers[1].reap();
        for (const [, length] of targets) {
          submitTo(guest, 1, [
            new Uint8Array(12),
            new Uint8Array(60 + length % 1400).fill(++frame),
          ]);
        }
      },
    });
  });
}
