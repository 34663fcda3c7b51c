/**
 * The load generator: a guest's driver without a guest. It connects to a
 * vhost-user-blk or vhost-user-scsi socket, keeps a queue full of verified
 * requests and reports what it measured as one line of JSON.
 *
 * Every 4 KiB of the disk start with their own number ({@linkcode stampImage}),
 * reads are checked against it and writes keep it. What was written is read back
 * after the measurement ({@linkcode readBack}).
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { Epoll, EPOLLIN } from "../../sys/epoll.ts";
import { drainEventFd } from "../../sys/eventfd.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { InflightMemory } from "../../vhost/testing/inflight_memory.ts";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
} from "../../virtqueue/constants.ts";
import { Histogram } from "./histogram.ts";
import { LoadDriver, type LoadRing, memoryFor, settle } from "./load_driver.ts";
import { PackedLoadDriver } from "./packed_load_driver.ts";
import { type ReadBack, readBack } from "./read_back.ts";
import { BLK_FORMAT, SCSI_FORMAT } from "./request_format.ts";
import { firstStamp, STAMP_UNIT, WriteLog } from "./stamps.ts";
import { usage } from "./usage.ts";

const SECTOR = 512;
/** One request in so many has its latency measured. */
const SAMPLE = 16;
/** Requests that are made available at a time, while there are answers to reap. */
const BATCH = 8;
/** Requests in flight, at least, when writes are read back. */
const READ_BACK_DEPTH = 32;

/** What to do to a disk. */
export interface LoadOptions {
  /** The socket. */
  readonly socket: string;
  /** What kind of disk it is (default virtio-blk). */
  readonly device?: "blk" | "scsi";
  /** Bytes of the disk; without it, what the configuration space of blk tells. */
  readonly size?: number;
  /** Read or write. */
  readonly operation: "read" | "write";
  /** Where. */
  readonly pattern: "random" | "sequential";
  /** Bytes of a request, a multiple of 512. */
  readonly blockSize: number;
  /** Requests in flight. */
  readonly depth: number;
  /** How long to measure, in seconds; a tenth more comes before. */
  readonly seconds: number;
  /** Wait for interrupts, or look at the ring all the time. */
  readonly mode: "sleep" | "poll";
  /** Accept VIRTIO_F_EVENT_IDX. */
  readonly eventIdx: boolean;
  /** Accept VIRTIO_F_INDIRECT_DESC. */
  readonly indirect: boolean;
  /** Use a packed ring (default false), with indirect descriptors alone. */
  readonly packed?: boolean;
  /** Have requests in flight tracked. */
  readonly inflight?: boolean;
  /** Check the stamps, and read back what was written. */
  readonly verify: boolean;
  /** Measure the latency of every request instead of one in sixteen. */
  readonly everyLatency: boolean;
  /** Process id of the back-end, to tell its CPU time. */
  readonly pid?: number;
}

/** What was measured. */
export interface LoadResult {
  readonly requests: number;
  /** Those before the measurement included. */
  readonly total: number;
  readonly seconds: number;
  readonly iops: number;
  /** Megabytes (10^6) in a second. */
  readonly megabytes: number;
  /** Latencies in microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  /** Kicks and calls for each request. */
  readonly kicks: number;
  readonly calls: number;
  /** Requests with a wrong status or stamp, those before and after included. */
  readonly errors: number;
  /** Blocks that were read back when they had been written. */
  readonly readBack: number;
  /** CPU time (s) of the back-end for `total` requests. */
  readonly backendCpu?: number;
}

/**
 * Runs a load, blocking this thread while it measures.
 *
 * @throws {Error} when the device loses requests, or a notification
 */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { pid, operation, verify, seconds, blockSize } = options;
  const before = pid === undefined ? 0 : usage(pid).cpu;
  const { log, ...result } = await withRing(options, operation, (ring) => {
    const log = operation === "write" && verify
      ? new WriteLog(ring.blocks)
      : null;
    const load = new Load(ring, options, log);
    if (options.device === "scsi") load.settle();
    const warmup = load.run(seconds * 0.1 + 0.1);
    const measured = load.run(seconds);
    load.drain();
    const total = warmup.requests + measured.requests;
    return { ...measured, total, errors: load.errors, log };
  });
  const backendCpu = pid === undefined ? undefined : usage(pid).cpu - before;
  const again: ReadBack = log === null
    ? { blocks: 0, errors: 0 }
    : await withRing(
      { ...options, depth: Math.max(options.depth, READ_BACK_DEPTH) },
      "read",
      ({ driver, kick, blocks }) => {
        if (options.device === "scsi") settle(driver, kick);
        return readBack(driver, kick, log, { blocks, blockSize });
      },
    );
  return {
    ...result,
    errors: result.errors + again.errors,
    readBack: again.blocks,
    backendCpu,
  };
}

/** A ring that a device serves. */
interface ServedRing {
  readonly driver: LoadRing;
  /** Tells the device that there are requests. */
  readonly kick: () => void;
  /** What the device notifies by. */
  readonly callFd: number;
  /** Blocks that the disk has. */
  readonly blocks: number;
}

/** Connects, has a ring served while `use` runs, and goes. */
async function withRing<T>(
  options: LoadOptions,
  operation: LoadOptions["operation"],
  use: (ring: ServedRing) => T,
): Promise<T> {
  const { blockSize, depth } = options;
  const format = options.device === "scsi" ? SCSI_FORMAT : BLK_FORMAT;
  using frontEnd = FrontEnd.connect(options.socket);
  let features = ~0n;
  if (!options.eventIdx) features &= ~(1n << BigInt(VIRTIO_F_EVENT_IDX));
  if (!options.indirect) features &= ~(1n << BigInt(VIRTIO_F_INDIRECT_DESC));
  await frontEnd.handshake({ features, packed: options.packed });
  const size = options.size ?? await capacityOf(frontEnd);
  const eventIdx =
    (frontEnd.features >> BigInt(VIRTIO_F_EVENT_IDX) & 1n) !== 0n;
  const indirect =
    (frontEnd.features >> BigInt(VIRTIO_F_INDIRECT_DESC) & 1n) !==
      0n;
  const memory = Math.ceil(memoryFor(depth, blockSize, format) / 4096) * 4096;
  using region = SharedRegion.create(0x10_0000, memory);
  const Driver = options.packed ? PackedLoadDriver : LoadDriver;
  const driver = new Driver(region, {
    depth,
    blockSize,
    eventIdx,
    indirect,
    write: operation === "write",
    format,
  });
  const { ring, rings } = format;
  using area = options.inflight
    ? await InflightMemory.get(frontEnd, rings, driver.size)
    : null;
  await area?.set(frontEnd);
  await frontEnd.start([region], new Map([[ring, driver]]));
  const { kick, call } = frontEnd.events(ring);
  const result = use({
    driver,
    kick: () => kick.signal(),
    callFd: call.fd,
    blocks: Math.floor(size / blockSize),
  });
  await frontEnd.stop();
  return result;
}

async function capacityOf(frontEnd: FrontEnd): Promise<number> {
  const config = await frontEnd.getConfig(0, 8);
  const view = new DataView(config.buffer, config.byteOffset);
  return Number(view.getBigUint64(0, true)) * SECTOR;
}

class Load {
  readonly #driver: LoadRing;
  readonly #options: LoadOptions;
  readonly #blocks: number;
  readonly #kick: () => void;
  readonly #callFd: number;
  readonly #view: DataView;
  readonly #blockOf: Float64Array;
  readonly #since: Float64Array;
  readonly #histogram = new Histogram();
  /** What was written; none: it is not verified. */
  readonly #log: WriteLog | null;
  #random = 0x2545f491;
  #sequential = 0;
  #inFlight = 0;
  #errors = 0;

  constructor(
    { driver, kick, callFd, blocks }: ServedRing,
    options: LoadOptions,
    log: WriteLog | null,
  ) {
    this.#driver = driver;
    this.#options = options;
    this.#blocks = blocks;
    this.#kick = kick;
    this.#callFd = callFd;
    this.#log = log;
    this.#view = new DataView(driver.bytes.buffer, driver.bytes.byteOffset);
    this.#blockOf = new Float64Array(driver.depth);
    this.#since = new Float64Array(driver.depth);
  }

  /** Requests with a wrong status or stamp. */
  get errors(): number {
    return this.#errors;
  }

  /** Has one request answered well, see {@linkcode settle}. */
  settle(): void {
    this.#blockOf[0] = 0;
    if (this.#options.operation === "write") this.#stamp(0);
    settle(this.#driver, this.#kick);
    this.#log?.end(0);
  }

  /** Keeps the queue full for a while. */
  run(seconds: number): Omit<LoadResult, "total" | "errors" | "readBack"> {
    const driver = this.#driver, depth = driver.depth;
    const { mode, everyLatency, blockSize } = this.#options;
    using epoll = new Epoll();
    epoll.add(this.#callFd, EPOLLIN, 0);
    this.#histogram.clear();
    let requests = 0, kicks = 0, calls = 0;
    const begin = performance.now();
    let now = begin;
    const end = begin + seconds * 1000;
    if (mode === "poll") driver.disableInterrupt();
    while (this.#inFlight < depth) this.#submit(this.#inFlight++, now);
    kicks += this.#publish();
    while (now < end) {
      let slot = driver.reap();
      if (slot < 0) {
        if (mode === "poll") {
          if ((++calls & 1023) === 0) now = performance.now();
          continue;
        }
        if (driver.enableInterrupt()) continue;
        if (epoll.wait(1000) > 0) drainEventFd(this.#callFd);
        else if (driver.enableInterrupt()) {
          throw new Error("Requests were answered without a notification");
        }
        calls++;
        now = performance.now();
        continue;
      }
      for (; slot >= 0; slot = driver.reap()) {
        const since = this.#since[slot];
        if (since > 0) {
          now = performance.now();
          this.#histogram.record((now - since) * 1e6);
        }
        requests++;
        this.#check(slot);
        const sampled = everyLatency || requests % SAMPLE === 0;
        this.#submit(slot, sampled ? performance.now() : 0);
        if (requests % BATCH === 0) kicks += this.#publish();
      }
      kicks += this.#publish();
    }
    const elapsed = (performance.now() - begin) / 1000;
    const microseconds = (share: number) =>
      this.#histogram.percentile(share) / 1000;
    return {
      requests,
      seconds: elapsed,
      iops: requests / elapsed,
      megabytes: requests * blockSize / elapsed / 1e6,
      p50: microseconds(0.5),
      p99: microseconds(0.99),
      p999: microseconds(0.999),
      kicks: kicks / requests,
      calls: mode === "poll" ? 0 : calls / requests,
    };
  }

  /** Waits for what is in flight. */
  drain(): void {
    const limit = performance.now() + 10_000;
    while (this.#inFlight > 0) {
      const slot = this.#driver.reap();
      if (slot >= 0) {
        this.#inFlight--;
        this.#check(slot);
      } else if (performance.now() > limit) {
        throw new Error(`${this.#inFlight} requests were not answered in 10 s`);
      }
    }
  }

  /** Makes what was submitted available; the number of kicks. */
  #publish(): number {
    if (!this.#driver.publish()) return 0;
    this.#kick();
    return 1;
  }

  #submit(slot: number, now: number): void {
    const { operation, pattern } = this.#options;
    let block: number;
    if (pattern === "random") {
      let x = this.#random;
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      this.#random = x;
      block = (x >>> 0) % this.#blocks;
    } else {
      block = this.#sequential;
      this.#sequential = (block + 1) % this.#blocks;
    }
    this.#blockOf[slot] = block;
    this.#since[slot] = now;
    if (operation === "write") this.#stamp(slot);
    this.#driver.submit(slot, block);
  }

  #stamp(slot: number): void {
    const { blockSize } = this.#options;
    const view = this.#view, log = this.#log;
    const block = this.#blockOf[slot], start = block * blockSize;
    const at = this.#driver.dataOffset(slot);
    const number = log === null ? 0 : log.begin(block);
    const run = log === null ? 0 : log.run;
    for (let i = firstStamp(start); i < blockSize; i += STAMP_UNIT) {
      view.setUint32(at + i, (start + i) / STAMP_UNIT, true);
      view.setUint32(at + i + 4, run, true);
      view.setUint32(at + i + 8, number, true);
    }
  }

  #check(slot: number): void {
    const { verify, operation, blockSize } = this.#options;
    if (this.#driver.status(slot) !== 0) this.#errors++;
    if (this.#log !== null) this.#log.end(this.#blockOf[slot]);
    if (!verify || operation !== "read") return;
    const start = this.#blockOf[slot] * blockSize;
    const at = this.#driver.dataOffset(slot);
    for (let i = firstStamp(start); i < blockSize; i += STAMP_UNIT) {
      const stamp = this.#view.getUint32(at + i, true);
      if (stamp !== (start + i) / STAMP_UNIT) {
        this.#errors++;
        return;
      }
    }
  }
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, {
    string: ["socket", "device", "operation", "pattern", "mode"],
    boolean: [
      "event-idx",
      "indirect",
      "packed",
      "inflight",
      "verify",
      "every-latency",
    ],
    negatable: ["event-idx", "indirect", "verify"],
    default: {
      operation: "read",
      pattern: "random",
      mode: "sleep",
      "event-idx": true,
      indirect: true,
      verify: true,
    },
  });
  const result = await runLoad({
    socket: args.socket!,
    device: args.device === "scsi" ? "scsi" : "blk",
    size: args.size === undefined ? undefined : Number(args.size),
    operation: args.operation === "write" ? "write" : "read",
    pattern: args.pattern === "sequential" ? "sequential" : "random",
    blockSize: Number(args["block-size"] ?? 4096),
    depth: Number(args.depth ?? 32),
    seconds: Number(args.seconds ?? 2),
    mode: args.mode === "poll" ? "poll" : "sleep",
    eventIdx: args["event-idx"],
    indirect: args.indirect,
    packed: args.packed,
    inflight: args.inflight,
    verify: args.verify,
    pid: args.pid === undefined ? undefined : Number(args.pid),
    everyLatency: args["every-latency"] === true || args.depth === 1,
  });
  console.log(JSON.stringify(result));
  Deno.exit(result.errors === 0 ? 0 : 1);
}
