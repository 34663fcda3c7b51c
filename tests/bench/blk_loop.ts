/**
 * A block device without a medium in one thread, with chains that lie in memory
 * beforehand: what a request costs the device alone.
 *
 * Theory of operation: headers and tables never change. A driver of a split ring
 * writes available entries and moves its index on by a burst; one of a packed ring
 * writes its descriptors over the device's answers. So what is measured is, but for
 * that, the device's own path: the ring, the descriptors, the request, the answer.
 * Between two processors the misses of their caches come on top.
 *
 * What the dirty log costs is told by ratios: other programs may use the machine,
 * so each row with a log is measured in turns with the same without, and the median
 * of the ratios counts. The log is written as while a guest moves; nobody clears it,
 * which makes no difference to whoever sets bits.
 *
 * @module
 */

import { fromFileUrl } from "@std/path/from-file-url";
import { v8Options } from "../../host/supervisor/command_line.ts";
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
import { DirtyLog, dirtyLogSize } from "../../virtqueue/dirty_log.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { marksAt } from "../../virtqueue/packed_ring.ts";
import {
  RING_PROFILES,
  withRings,
} from "../../virtqueue/testing/ring_profile.ts";
import { runCommand } from "../support/process.ts";
import { median } from "./report.ts";

/** Bytes of the disk, and of each request's data. */
const DISK = 16 << 20, DATA = 4096;
/** Requests that the driver makes available at a time, and those of one turn. */
const BURST = 64, TURN = 8;
/** Chains that there are: they come by again and again. */
const DEPTH = 128;
/** Measurements. */
const ROUNDS = 15;
/** Processes of a row with a log, and as many without, in turns. */
const LOG_TURNS = 7;
/** Guest memory that the log has bits for: more than the driver has. */
const LOGGED = 2 ** 26;

/** What is measured. */
export interface LoopCase {
  readonly storage: "null" | "memory";
  readonly operation: "read" | "write";
  /** Whether the three descriptors of a chain lie in a table of their own. */
  readonly indirect: boolean;
  /** Whether the ring is a packed one (default: split). */
  readonly packed?: boolean;
  /** Whether requests in flight are tracked, as QEMU has it (default: not). */
  readonly tracked?: boolean;
  /**
   * What is written to memory is logged: `on`, all the time; `ended`, it was for a
   * while before (default: it never was).
   */
  readonly log?: "on" | "ended";
}

/** The rows of `bench:blk --loop`. */
export const LOOP_CASES: readonly LoopCase[] = [
  { storage: "null", operation: "read", indirect: false },
  { storage: "null", operation: "read", indirect: false, packed: true },
  { storage: "null", operation: "read", indirect: true },
  { storage: "null", operation: "read", indirect: true, packed: true },
  { storage: "null", operation: "read", indirect: true, tracked: true },
  {
    storage: "null",
    operation: "read",
    indirect: true,
    packed: true,
    tracked: true,
  },
  { storage: "null", operation: "read", indirect: true, log: "ended" },
  { storage: "null", operation: "read", indirect: true, log: "on" },
  {
    storage: "null",
    operation: "read",
    indirect: true,
    packed: true,
    log: "ended",
  },
  {
    storage: "null",
    operation: "read",
    indirect: true,
    packed: true,
    log: "on",
  },
  { storage: "memory", operation: "read", indirect: true },
  { storage: "memory", operation: "write", indirect: true },
];

/** Makes this many of the chains available, one after the other in a circle. */
type Offer = (burst: number) => void;

/** A descriptor, without what belongs to a place in a ring. */
interface Part {
  readonly address: number;
  readonly length: number;
  readonly flags: number;
}

/** Header, data and status of a request. */
function requestParts(
  { memory }: BlkBench,
  { operation }: LoopCase,
  index: number,
): Part[] {
  const reading = operation === "read";
  const type = reading ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
  const start = memory.allocate(32, 16);
  memory.write(start, header(type, (index * 7919 % (DISK / DATA)) * 8));
  const data = memory.allocate(DATA, DATA);
  const flags = reading ? VIRTQ_DESC_F_WRITE : 0;
  return [
    { address: start, length: 16, flags: 0 },
    { address: data, length: DATA, flags },
    { address: start + 16, length: 1, flags: VIRTQ_DESC_F_WRITE },
  ];
}

/** The driver of a split ring, whose descriptors are written once. */
function splitOffer(
  { memory }: BlkBench,
  driver: FakeDriver,
  chains: readonly Part[][],
  indirect: boolean,
): Offer {
  const heads = chains.map((parts, i) => {
    const first = indirect ? 0 : 3 * i;
    const table = indirect ? memory.allocate(48, 16) : driver.descriptorTable;
    parts.forEach(({ flags, ...part }, k) => {
      const next = k < 2 ? first + k + 1 : 0;
      driver.setDescriptorAt(table + 16 * (first + k), {
        ...part,
        next,
        flags: flags | (k < 2 ? VIRTQ_DESC_F_NEXT : 0),
      });
    });
    if (!indirect) return first;
    driver.setDescriptor(i, {
      address: table,
      length: 48,
      flags: VIRTQ_DESC_F_INDIRECT,
    });
    return i;
  });
  let index = 0;
  return (burst) => {
    for (let k = 0; k < burst; k++) {
      driver.setAvailable(index + k, heads[(index + k) % DEPTH]);
    }
    index += burst;
    driver.setAvailableIndex(index);
  };
}

/** The driver of a packed ring: it writes descriptors, with the chain as id. */
function packedOffer(
  { memory, drivers: [driver] }: BlkBench,
  chains: readonly Part[][],
  indirect: boolean,
): Offer {
  const { size, descriptorTable } = driver;
  const { buffer, byteOffset } = memory.bytes(descriptorTable, 16 * size);
  const ring = new Uint32Array(buffer, byteOffset, 4 * size);
  // Four words of each descriptor in the ring, without marks.
  const words = new Uint32Array(chains.flatMap((parts, id) => {
    const lay = (list: readonly Part[], next: number): number[] =>
      list.flatMap(({ address, length, flags }, k) => {
        const all = flags | (k < list.length - 1 ? next : 0);
        return [address, 0, length, all << 16 | id];
      });
    if (!indirect) return lay(parts, VIRTQ_DESC_F_NEXT);
    const table = memory.allocate(48, 16);
    memory.write(table, new Uint8Array(Uint32Array.from(lay(parts, 0)).buffer));
    return lay(
      [{ address: table, length: 48, flags: VIRTQ_DESC_F_INDIRECT }],
      0,
    );
  }));
  const entries = indirect ? 1 : 3;
  let position = 0, from = 0;
  return (burst) => {
    for (let k = burst * entries; k > 0; k--) {
      const at = 4 * (position < size ? position : position - size);
      const marks = marksAt(position, size) << 16;
      ring[at] = words[from];
      ring[at + 2] = words[from + 2];
      ring[at + 3] = words[from + 3] | marks;
      from = from + 4 < words.length ? from + 4 : 0;
      position = position + 1 < 2 * size ? position + 1 : 0;
    }
  };
}

/**
 * Measures requests of 4 KiB; each is done, or it fails.
 *
 * @param requests number of requests of one measurement
 * @returns nanoseconds for a request: a median
 */
export function measureBlkLoop(one: LoopCase, requests = 640_000): number {
  const profile = RING_PROFILES.find(({ packed, legacy, eventIdx, indirect }) =>
    packed === (one.packed ?? false) && !legacy && !eventIdx && indirect
  )!;
  return withRings(profile, () => measureOn(one, requests));
}

function measureOn(one: LoopCase, requests: number): number {
  const medium = { size: DISK, blockSize: 512, readOnly: false };
  const storage = one.storage === "null"
    ? new NullEngine(medium)
    : new MemoryEngine(medium);
  using bench = new BlkBench({ storage, tracked: one.tracked });
  const driver = bench.drivers[0], queue = bench.queues[0], { device } = bench;
  driver.disableInterrupt();
  const chains = Array.from(
    { length: DEPTH },
    (_, i) => requestParts(bench, one, i),
  );
  const offer = driver instanceof FakeDriver
    ? splitOffer(bench, driver, chains, one.indirect)
    : packedOffer(bench, chains, one.indirect);
  const run = (bursts: number): void => {
    for (let i = 0; i < bursts; i++) {
      offer(BURST);
      for (let k = 0; k < BURST; k += TURN) {
        device.serve(queue, TURN);
        device.poll();
        queue.publish();
      }
    }
  };
  const bursts = Math.ceil(requests / BURST);
  const log = new DirtyLog(new Uint8Array(dirtyLogSize(LOGGED)));
  if (one.log !== undefined) queue.logWrites(log, driver.usedRing);
  if (one.log === "ended") {
    run(bursts);
    checkLog(log, true);
    queue.logWrites(null, -1);
  }
  run(bursts);
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    run(bursts);
    times.push((performance.now() - start) * 1e6 / (bursts * BURST));
  }
  const { reads, writes } = device.metrics;
  checkLog(log, one.log === "on");
  const sent = (ROUNDS + (one.log === "ended" ? 2 : 1)) * bursts * BURST;
  if (reads + writes !== sent) {
    throw new Error(`${reads + writes} of ${sent} requests were done`);
  }
  return median(times);
}

/** Finds out whether something was logged since the last time, as it should be. */
function checkLog(log: DirtyLog, written: boolean): void {
  if (log.changed !== written || log.lost > 0) {
    throw new Error(
      `changed: ${log.changed}, ${log.lost} bytes lost in the log`,
    );
  }
  log.changed = false;
}

/** Measures a row in a process of its own: nanoseconds for a request. */
async function measureApart(index: number): Promise<number> {
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...["run", "--allow-all", "--quiet"],
      `--v8-flags=${v8Options(Deno.version.v8).join(",")}`,
      ...[fromFileUrl(import.meta.url), String(index)],
    ],
    timeout: 120_000,
  });
  return Number(stdout);
}

/** The last columns of a row. */
async function measureRow(index: number): Promise<string> {
  const one = LOOP_CASES[index];
  if (one.log === undefined) {
    return `${(await measureApart(index)).toFixed(0)} | |`;
  }
  const plain = LOOP_CASES.findIndex((other) =>
    other.storage === one.storage && other.operation === one.operation &&
    other.indirect === one.indirect && other.packed === one.packed &&
    !other.tracked && other.log === undefined
  );
  const times: number[] = [], others: number[] = [], ratios: number[] = [];
  for (let turn = 0; turn < LOG_TURNS; turn++) {
    const without = await measureApart(plain), time = await measureApart(index);
    times.push(time);
    others.push(without);
    ratios.push(time / without);
  }
  return [median(times).toFixed(0), median(others).toFixed(0)]
    .concat(median(ratios).toFixed(2)).join(" | ");
}

/**
 * Measures all of it, as a table: each row in a process of its own with the
 * options of a device's, since code that has seen several kinds of ring is slower
 * than code that knows one, as a device does.
 *
 * @throws {ProcessError} when a request was not done
 */
export async function blkLoopTable(): Promise<string> {
  const rows = [
    "| case | ns/request | in turns, never logged | ratio |",
    "| --- | ---: | ---: | ---: |",
  ];
  const logs = { on: ", being logged", ended: ", logged before" };
  for (const [i, one] of LOOP_CASES.entries()) {
    const chain = one.indirect ? "an indirect table" : "three descriptors";
    const ring = (one.packed ? ", packed" : "") +
      (one.tracked ? ", tracked" : "") +
      (one.log === undefined ? "" : logs[one.log]);
    const name = `${one.storage}, 4k ${one.operation}, ${chain}${ring}`;
    rows.push(`| ${name} | ${await measureRow(i)} |`);
  }
  return rows.join("\n");
}

if (import.meta.main) {
  console.log(measureBlkLoop(LOOP_CASES[Number(Deno.args[0])]).toFixed(2));
}
