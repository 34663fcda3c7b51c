/** Rings that are drained while their requests fail and are held. */

import { assertEquals } from "@std/assert";
import { BlkDevice } from "../../backends/blk/device.ts";
import { resolveBlkOptions } from "../../backends/blk/options.ts";
import { VIRTIO_BLK_T_OUT } from "../../backends/blk/protocol.ts";
import { header, MODERN_WCE } from "../../backends/blk/testing/bench.ts";
import { FakeStorage } from "../../backends/storage/testing/fake_storage.ts";
import { Errno } from "../../sys/errno.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { mapAnonymous, type Mapping } from "../../sys/mapping.ts";
import {
  featureMask,
  VIRTIO_F_RING_PACKED,
} from "../../virtqueue/constants.ts";
import { SplitInflight, splitInflightSize } from "../../virtqueue/inflight.ts";
import { packedInflightSize } from "../../virtqueue/packed_inflight.ts";
import type { RingDriver } from "../../virtqueue/testing/buffers.ts";
import { FakeDriver, FakeMemory } from "../../virtqueue/testing/driver.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { Bench, GUEST_ADDRESS } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

/** Turns that a ring may take to stop. */
const MOST_TURNS = 10_000;
const RING_SIZE = 64;
/** Where a packed ring begins: wrap counters 1. */
const PACKED_START = 0x8000_8000;
/** Bytes of guest memory for each driver. */
const SHARE = 0x4_0000;

interface DiskOptions {
  readonly slots?: number;
  readonly packed?: boolean;
}

interface StartOptions {
  readonly index?: number;
  /** -1: the ring is polled. */
  readonly kickFd?: number;
  readonly area?: Mapping;
}

/** A disk with on-error=stop, all of whose writes fail once `full` is set. */
class FullDisk implements Disposable {
  readonly bench: Bench;
  readonly packed: boolean;
  storage!: FakeStorage;
  full = false;
  #polls = 0;
  readonly #areas: Mapping[] = [];
  readonly #slots: number;
  /** Kicks ring 1, where it is not polled. */
  readonly kick = EventFd.create();

  constructor({ slots = RING_SIZE, packed = false }: DiskOptions = {}) {
    this.bench = new Bench(new EpollWaiter(), slots);
    this.#slots = slots;
    this.packed = packed;
    this.succeed();
  }

  /** A process that begins, with a device that has done nothing yet. */
  succeed(): void {
    const { hosted } = this.bench;
    const storage = this.storage = new FakeStorage(2 ** 20);
    storage.poll = () => {
      if (++this.#polls > MOST_TURNS) throw new Error("the ring does not stop");
      while (this.full && storage.pending.length > 0) {
        storage.errors.push(Errno.ENOSPC);
        storage.complete(0);
      }
      return 0;
    };
    const nothing = (): void => {};
    hosted.device = new BlkDevice(
      resolveBlkOptions({ path: "/nowhere", onError: "stop", queues: 2 }),
      storage,
      {
        memory: hosted.memory,
        slotsPerQueue: this.#slots,
        worker: 0,
        ring: () => null,
        configChanged: nothing,
        resume: (queue) => hosted.resume(queue),
        watch: nothing,
        log: nothing,
      },
    );
    const layout = this.packed ? featureMask(VIRTIO_F_RING_PACKED) : 0n;
    hosted.negotiate(MODERN_WCE | layout);
  }

  /** Every operation fails within `submit`. */
  failAtOnce(): void {
    this.storage.immediate = true;
    this.storage.errors.push(...new Array(MOST_TURNS).fill(Errno.ENOSPC));
  }

  /** A driver with a ring of its own, in memory of its own. */
  driver(queue: number): FakeDriver | FakePackedDriver {
    const { mapping } = this.bench;
    // The bench's own driver begins at the first byte.
    const at = (queue + 1) * SHARE;
    const memory = new FakeMemory([{
      guestAddress: GUEST_ADDRESS + at,
      bytes: new Uint8Array(mapping.buffer, at, SHARE),
      hostAddress: mapping.address + at,
    }]);
    const options = { size: RING_SIZE };
    return this.packed
      ? new FakePackedDriver(memory, options)
      : new FakeDriver(memory, options);
  }

  /** Makes a write available; its token. */
  write(sector: number, driver: RingDriver = this.bench.driver): number {
    return driver.submit([
      { readable: header(VIRTIO_BLK_T_OUT, sector) },
      { readable: new Uint8Array(512) },
      { writable: 1 },
    ]);
  }

  /** An area for a ring, for as long as the disk is there. */
  area(): Mapping {
    const area = mapAnonymous(
      this.packed
        ? packedInflightSize(RING_SIZE)
        : splitInflightSize(RING_SIZE),
    );
    this.#areas.push(area);
    return area;
  }

  /** Starts ring `index`. */
  start(
    driver: FakeDriver | FakePackedDriver,
    { index = 0, kickFd, area }: StartOptions = {},
  ): void {
    const inflight = area === undefined
      ? undefined
      : { address: area.address, size: area.size, heads: RING_SIZE };
    const position = this.packed ? PACKED_START : 0;
    this.bench.start({ index, kickFd, position, inflight }, driver);
  }

  /** Ends a process: of what ring 0 does since, nothing happened. */
  die(area: Mapping): void {
    const bytes = [area, this.bench.mapping]
      .map(({ buffer }) => new Uint8Array(buffer));
    const saved = bytes.map((each) => each.slice());
    while (this.storage.pending.length > 0) this.storage.complete(0);
    this.bench.hosted.stopRing(0);
    bytes.forEach((each, i) => each.set(saved[i]));
  }

  [Symbol.dispose](): void {
    while (this.storage.pending.length > 0) this.storage.complete(0);
    this.bench[Symbol.dispose]();
    this.kick.close();
    for (const area of this.#areas) area.unmap();
  }
}

Deno.test("a request that fails while its ring is drained is not held for ever", () => {
  using disk = new FullDisk();
  const { bench, storage } = disk;
  for (let i = 0; i < 2; i++) disk.write(i);
  bench.start();
  bench.turns(1);
  assertEquals(storage.pending.length, 2);
  disk.full = true;
  assertEquals(bench.hosted.stopRing(0), 2);
});

Deno.test("inherited requests that all fail, more than chain objects, are not held for ever", () => {
  using disk = new FullDisk({ slots: 2 });
  const { bench } = disk;
  using area = mapAnonymous(splitInflightSize(RING_SIZE));
  const before = new SplitInflight(new Uint8Array(area.buffer), RING_SIZE);
  // Three descriptors each: that is where their heads are.
  for (let i = 0; i < 4; i++) before.take(3 * disk.write(i));
  const { address, size } = area;
  bench.start({ inflight: { address, size, heads: RING_SIZE } });
  bench.turns(1);
  disk.full = true;
  assertEquals(bench.hosted.stopRing(0), 4);
  assertEquals(bench.driver.reap().length, 4);
});

Deno.test("a queue that waits for what another one holds goes on when that stops", () => {
  for (const suspend of [false, true]) {
    using disk = new FullDisk();
    const { bench } = disk;
    const area = disk.area();
    const holder = disk.driver(0), waiting = disk.driver(1);
    disk.start(holder, { area });
    disk.start(waiting, { index: 1, kickFd: disk.kick.fd });
    bench.turns(3);
    disk.storage.immediate = true;
    disk.storage.errors.push(Errno.ENOSPC);
    disk.write(0, holder);
    bench.kick.signal();
    bench.turns(3);
    disk.write(1, waiting);
    disk.kick.signal();
    bench.turns(3);
    const { device } = bench.hosted;
    assertEquals(device.status!().heldRequests, 1);
    assertEquals(waiting.reap(), []);
    bench.hosted.stopRing(0, suspend);
    assertEquals(device.status!().heldRequests, 0);
    bench.turns(3);
    assertEquals(waiting.reap().length, 1);
  }
});

/** More than one call of `serve` takes. */
const REQUESTS = 20;

for (const packed of [false, true]) {
  const layout = packed ? "packed" : "split";
  for (const elsewhere of [false, true]) {
    const where = elsewhere ? "another queue" : "it";
    Deno.test(`a ${layout} ring is drained of what it inherited while ${where} holds requests`, () => {
      using disk = new FullDisk({ packed });
      const { bench } = disk;
      const area = disk.area();
      const driver = disk.driver(0), other = disk.driver(1);
      const tokens = Array.from(
        { length: REQUESTS },
        (_, i) => disk.write(i, driver),
      );
      disk.start(driver, { area });
      bench.turns(5);
      assertEquals(disk.storage.pending.length, REQUESTS);
      // Not in their order: no position in the ring tells what is left.
      disk.storage.complete(1);
      bench.turns(1);
      const answered = driver.reap().map(({ token }) => token);
      assertEquals(answered, [tokens[1]]);
      disk.die(area);
      disk.succeed();
      disk.failAtOnce();
      if (elsewhere) {
        disk.write(40, other);
        disk.start(other, { index: 1, kickFd: -1 });
        bench.turns(2);
      }
      disk.start(driver, { area });
      bench.turns(2);
      const heldBefore = elsewhere ? 0 : 1;
      const [{ queue }] = bench.hosted.rings
        .filter((ring) => ring.queue.index === 0);
      assertEquals(queue.recovering, REQUESTS - 1 - heldBefore);
      const base = bench.hosted.stopRing(0);
      assertEquals(queue.recovering, 0);
      const entries = 3 * REQUESTS;
      assertEquals(
        base,
        packed ? ((entries | 0x8000) << 16 | entries | 0x8000) >>> 0 : REQUESTS,
      );
      if (driver instanceof FakeDriver) {
        assertEquals(driver.usedIndex, REQUESTS);
      }
      for (const { token } of driver.reap()) answered.push(token);
      assertEquals(answered.toSorted((a, b) => a - b), tokens);
      // The one of the other queue is held still.
      const { heldRequests } = bench.hosted.device.status!();
      assertEquals(heldRequests, elsewhere ? 1 : 0);
    });
  }

  Deno.test(`a ${layout} ring whose device takes nothing stops, and has no position`, () => {
    using disk = new FullDisk({ packed });
    const { bench } = disk;
    const area = disk.area();
    const driver = disk.driver(0);
    const restart = (): void => {
      disk.start(driver, { area });
      bench.turns(2);
    };
    for (let i = 0; i < 3; i++) disk.write(i, driver);
    restart();
    disk.die(area);
    bench.device.parked = true;
    bench.hosted.device = bench.device;
    restart();
    // They are in the ring as they were: all is done again from there.
    assertEquals(bench.hosted.stopRing(0), packed ? PACKED_START : 0);
    disk.succeed();
    restart();
    disk.storage.complete(1);
    bench.turns(1);
    assertEquals(driver.reap().length, 1);
    disk.die(area);
    bench.hosted.device = bench.device;
    restart();
    assertEquals(bench.hosted.stopRing(0), -1);
    // The area has them.
    disk.succeed();
    restart();
    assertEquals(disk.storage.pending.map(({ offset }) => offset), [0, 1024]);
  });
}
