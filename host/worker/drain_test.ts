/** Rings that are drained while their requests fail and are held. */

import { assertEquals } from "@std/assert";
import { BlkDevice } from "../../backends/blk/device.ts";
import { resolveBlkOptions } from "../../backends/blk/options.ts";
import { VIRTIO_BLK_T_OUT } from "../../backends/blk/protocol.ts";
import { header, MODERN_WCE } from "../../backends/blk/testing/bench.ts";
import { FakeStorage } from "../../backends/storage/testing/fake_storage.ts";
import { Errno } from "../../sys/errno.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import { SplitInflight, splitInflightSize } from "../../virtqueue/inflight.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

/** Turns that a ring may take to stop. */
const MOST_TURNS = 10_000;
const RING_SIZE = 64;

/** A disk with on-error=stop, all of whose writes fail once `full` is set. */
class FullDisk implements Disposable {
  readonly bench: Bench;
  readonly storage = new FakeStorage(2 ** 20);
  full = false;
  #polls = 0;

  constructor(slots: number) {
    this.bench = new Bench(new EpollWaiter(), slots);
    const { storage } = this;
    storage.poll = () => {
      if (++this.#polls > MOST_TURNS) throw new Error("the ring does not stop");
      while (this.full && storage.pending.length > 0) {
        storage.errors.push(Errno.ENOSPC);
        storage.complete(0);
      }
      return 0;
    };
    const nothing = (): void => {};
    this.bench.hosted.device = new BlkDevice(
      resolveBlkOptions({ path: "/nowhere", onError: "stop" }),
      storage,
      {
        memory: this.bench.hosted.memory,
        slotsPerQueue: slots,
        worker: 0,
        ring: () => null,
        configChanged: nothing,
        resume: nothing,
        watch: nothing,
        log: nothing,
      },
    );
    this.bench.hosted.negotiate(MODERN_WCE);
  }

  /** Makes a write available; its head. */
  write(sector: number): number {
    return this.bench.driver.submit([
      { readable: header(VIRTIO_BLK_T_OUT, sector) },
      { readable: new Uint8Array(512) },
      { writable: 1 },
    ]);
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

Deno.test("a request that fails while its ring is drained is not held for ever", () => {
  using disk = new FullDisk(RING_SIZE);
  const { bench, storage } = disk;
  for (let i = 0; i < 2; i++) disk.write(i);
  bench.start();
  bench.turns(1);
  assertEquals(storage.pending.length, 2);
  disk.full = true;
  assertEquals(bench.hosted.stopRing(0), 2);
});

Deno.test("inherited requests that all fail, more than chain objects, are not held for ever", () => {
  using disk = new FullDisk(2);
  const { bench } = disk;
  using area = mapAnonymous(splitInflightSize(RING_SIZE));
  const before = new SplitInflight(new Uint8Array(area.buffer), RING_SIZE);
  for (let i = 0; i < 4; i++) before.take(disk.write(i));
  const { address, size } = area;
  bench.start({ inflight: { address, size, heads: RING_SIZE } });
  bench.turns(1);
  disk.full = true;
  assertEquals(bench.hosted.stopRing(0), 4);
});
