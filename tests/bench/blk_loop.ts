/**
 * A block device without a medium in one thread, with chains that lie in memory
 * beforehand: what a request costs the device alone.
 *
 * Theory of operation: descriptors, headers and available entries never change;
 * all that a driver does is to move its available index on by a burst. So what is
 * measured is the device's own path: the ring, the descriptors, the request, the
 * answer. Between two processors the misses of their caches come on top.
 *
 * @module
 */

import {
  MemoryEngine,
  NullEngine,
} from "../../backends/storage/memory_engine.ts";
import { BlkBench, header } from "../../backends/blk/testing/bench.ts";
import {
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../backends/blk/protocol.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../virtqueue/constants.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { median } from "./report.ts";

/** Bytes of the disk, and of each request's data. */
const DISK = 16 << 20, DATA = 4096;
/** Requests that the driver makes available at a time, and those of one turn. */
const BURST = 64, TURN = 8;
/** Chains that there are: they come by again and again. */
const DEPTH = 128;
/** Measurements. */
const ROUNDS = 15;

/** What is measured. */
export interface LoopCase {
  readonly storage: "null" | "memory";
  readonly operation: "read" | "write";
  /** Whether the three descriptors of a chain lie in a table of their own. */
  readonly indirect: boolean;
}

/** The rows of `bench:blk --loop`. */
export const LOOP_CASES: readonly LoopCase[] = [
  { storage: "null", operation: "read", indirect: false },
  { storage: "null", operation: "read", indirect: true },
  { storage: "memory", operation: "read", indirect: true },
  { storage: "memory", operation: "write", indirect: true },
];

/** Writes a chain of three descriptors; its head. */
function layChain(
  { memory }: BlkBench,
  driver: FakeDriver,
  { operation, indirect }: LoopCase,
  index: number,
): number {
  const reading = operation === "read";
  const type = reading ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
  const start = memory.allocate(32, 16);
  memory.write(start, header(type, (index * 7919 % (DISK / DATA)) * 8));
  const first = indirect ? 0 : 3 * index;
  const descriptors = [
    { address: start, length: 16, flags: VIRTQ_DESC_F_NEXT },
    {
      address: memory.allocate(DATA, DATA),
      length: DATA,
      flags: VIRTQ_DESC_F_NEXT | (reading ? VIRTQ_DESC_F_WRITE : 0),
    },
    { address: start + 16, length: 1, flags: VIRTQ_DESC_F_WRITE },
  ];
  const table = indirect ? memory.allocate(48, 16) : driver.descriptorTable;
  descriptors.forEach((descriptor, i) => {
    const next = i < 2 ? first + i + 1 : 0;
    driver.setDescriptorAt(table + 16 * (first + i), { ...descriptor, next });
  });
  if (!indirect) return first;
  driver.setDescriptor(index, {
    address: table,
    length: 48,
    flags: VIRTQ_DESC_F_INDIRECT,
  });
  return index;
}

/**
 * Measures requests of 4 KiB; each is done, or it fails.
 *
 * @param requests number of requests of one measurement
 * @returns nanoseconds for a request: a median
 */
export function measureBlkLoop(one: LoopCase, requests = 640_000): number {
  const medium = { size: DISK, blockSize: 512, readOnly: false };
  const storage = one.storage === "null"
    ? new NullEngine(medium)
    : new MemoryEngine(medium);
  using bench = new BlkBench({ storage });
  const driver = bench.drivers[0], queue = bench.queues[0], { device } = bench;
  if (!(driver instanceof FakeDriver)) throw new Error("not a split ring");
  driver.disableInterrupt();
  const heads = Array.from(
    { length: DEPTH },
    (_, i) => layChain(bench, driver, one, i),
  );
  let index = 0;
  const run = (bursts: number): void => {
    for (let i = 0; i < bursts; i++) {
      for (let k = 0; k < BURST; k++) {
        driver.setAvailable(index + k, heads[(index + k) % DEPTH]);
      }
      index += BURST;
      driver.setAvailableIndex(index);
      for (let k = 0; k < BURST; k += TURN) {
        device.serve(queue, TURN);
        device.poll();
        queue.publish();
      }
    }
  };
  const bursts = Math.ceil(requests / BURST);
  run(bursts);
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    run(bursts);
    times.push((performance.now() - start) * 1e6 / (bursts * BURST));
  }
  const { reads, writes } = device.metrics;
  const sent = (ROUNDS + 1) * bursts * BURST;
  if (reads + writes !== sent) {
    throw new Error(`${reads + writes} of ${sent} requests were done`);
  }
  return median(times);
}

/** Measures all of it, as a table. */
export function blkLoopTable(): string {
  const rows = LOOP_CASES.map((one) => {
    const chain = one.indirect ? "an indirect table" : "three descriptors";
    const name = `${one.storage}, 4k ${one.operation}, ${chain}`;
    return `| ${name} | ${measureBlkLoop(one).toFixed(0)} |`;
  });
  return ["| case | ns/request |", "| --- | ---: |", ...rows].join("\n");
}
