/**
 * Two ports of a switch in one thread with their drivers: what a frame costs
 * without another processor.
 *
 * Theory of operation: each entry of each ring has a buffer of its own, at the
 * distances that DPDK's have, so that the caches have as much to do as with real
 * drivers. Descriptors and available entries never change; all that a driver
 * does is to move its available index on by a burst, in both directions.
 *
 * @module
 */

import { NetBench } from "../../backends/net/testing/bench.ts";
import { VIRTQ_DESC_F_WRITE } from "../../virtqueue/constants.ts";
import type { RunningQueue } from "../../virtqueue/queue.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { median } from "./report.ts";

/** Entries of a ring. */
const ENTRIES = 256;
/** Distance of two buffers, where a frame begins in each, and room for it. */
const STRIDE = 2304, HEADROOM = 128, ROOM = 2048;
/** Bytes of the virtio header, in front of the frame. */
const HEADER = 12;
/** Frames that a driver makes available at a time. */
const BURST = 32;
/** Measurements of one size. */
const ROUNDS = 11;

/** A port with its driver. */
class Port implements Disposable {
  readonly bench = new NetBench(
    { backend: "switch", name: "bench" },
    { size: ENTRIES },
  );
  readonly #sending: FakeDriver;
  readonly #receiving: FakeDriver;
  readonly #tx: RunningQueue = this.bench.queues.get(1)!;
  readonly #rx: RunningQueue = this.bench.queues.get(0)!;

  constructor(size: number, to: number, from: number) {
    const frame = new Uint8Array(size);
    frame.set([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0]);
    this.#receiving = this.#lay(0, HEADER + ROOM, VIRTQ_DESC_F_WRITE);
    this.#sending = this.#lay(1, HEADER + size, 0, frame);
  }

  /** Writes all descriptors of a ring, and a frame behind each header. */
  #lay(
    index: number,
    length: number,
    flags: number,
    frame = new Uint8Array(0),
  ): FakeDriver {
    const driver = this.bench.drivers.get(index);
    if (!(driver instanceof FakeDriver)) throw new Error("not a split ring");
    const { memory } = this.bench;
    const start = memory.allocate(ENTRIES * STRIDE, 128) + HEADROOM;
    for (let i = 0; i < ENTRIES; i++) {
      const address = start + i * STRIDE - HEADER;
      driver.setDescriptor(i, { address, length, flags });
      driver.setAvailable(i, i);
      memory.write(address + HEADER, frame);
    }
    driver.disableInterrupt();
    return driver;
  }

  /** Makes buffers and frames available up to an index. */
  offer(index: number): void {
    this.#receiving.setAvailableIndex(index);
    this.#sending.setAvailableIndex(index);
  }

  /** Sends what is available. */
  serve(): void {
    this.bench.device.serve(this.#tx, BURST);
  }

  /** Ends a turn. */
  publish(): void {
    this.bench.device.poll();
    this.#tx.publish();
    this.#rx.publish();
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

/**
 * Measures frames of a size; each arrives, or it fails.
 *
 * @param frames number of frames of one measurement
 * @returns nanoseconds for a frame, drivers included: a median
 */
export function measureLoop(size: number, frames = 640_000): number {
  using a = new Port(size, 2, 1);
  using b = new Port(size, 1, 2);
  let index = 0;
  const run = (turns: number): void => {
    for (let i = 0; i < turns; i++) {
      index += BURST;
      a.offer(index);
      b.offer(index);
      a.serve();
      b.serve();
      a.publish();
      b.publish();
    }
  };
  const turns = Math.ceil(frames / (2 * BURST));
  run(turns);
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    run(turns);
    times.push((performance.now() - start) * 1e6 / (turns * 2 * BURST));
  }
  const arrived = a.bench.count("rxFrames") + b.bench.count("rxFrames");
  const sent = (ROUNDS + 1) * turns * 2 * BURST;
  if (arrived !== sent) throw new Error(`${arrived} of ${sent} frames arrived`);
  return median(times);
}
