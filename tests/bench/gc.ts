/**
 * `deno task bench:blk --gc`: garbage collections of the Worker while a client
 * keeps one request in flight, which is when each request wakes somebody.
 *
 * Theory of operation. The device runs in the process of `serve`, with the
 * options of V8 that a device process has, and V8 writes a line for each
 * collection, with the address of its isolate and the age of that. The first
 * address is the main thread's, which has loaded the program before there was a
 * Worker; every other is the Worker's. What it leaves while it starts and its code
 * is compiled is counted apart: {@linkcode SETTLED}.
 *
 * @module
 */

import { v8Options } from "../../host/supervisor/command_line.ts";
import type { ChildProcess } from "../support/process.ts";
import { type Medium, tracedVhostd } from "./backends.ts";
import { type Load, type Manner, ownClient } from "./clients.ts";

/** From what age (ms) of the Worker on there is to be no garbage. */
export const SETTLED = 3_000;

/** One combination. */
export interface GcCase {
  readonly name: string;
  /** What the bytes are kept on. */
  readonly medium: Medium;
  /** Keys of `--blk`. */
  readonly keys?: string;
  /** What is other than usual: reads of 4 KiB, and a client that sleeps. */
  readonly load?: Partial<Load>;
  /** How the client speaks to the device. */
  readonly manner?: Manner;
}

const POLLING = { mode: "poll" } as const;
const WRITES = { operation: "write" } as const;

/** The rows of `bench:blk --gc`. */
export const GC_CASES: readonly GcCase[] = [
  { name: "cache, poll=auto", medium: "cache" },
  { name: "cache, poll=off", medium: "cache", keys: "poll=off" },
  { name: "cache, polling client", medium: "cache", load: POLLING },
  {
    name: "cache, packed ring, tracked",
    medium: "cache",
    manner: { packed: true, tracked: true },
  },
  {
    name: "cache, without EVENT_IDX and indirect descriptors",
    medium: "cache",
    manner: { plain: true },
  },
  {
    name: "cache, engine=sync, writes",
    medium: "cache",
    keys: "engine=sync",
    load: WRITES,
  },
  { name: "direct, poll=auto", medium: "direct" },
  { name: "direct, poll=off", medium: "direct", keys: "poll=off" },
  {
    name: "null, polling client",
    medium: "null",
    load: { ...POLLING, verify: false },
  },
  {
    name: "memory, polling client, writes",
    medium: "memory",
    load: { ...POLLING, ...WRITES },
  },
];

/** Collections of one isolate's heap that V8 told of. */
export interface Collections {
  /** Those before {@linkcode SETTLED}. */
  readonly early: number;
  /** Those from then on. */
  readonly late: number;
}

/** A line of `--trace-gc`: the isolate, its age in ms, the kind. */
const LINE = /^\[\d+:(0x[0-9a-f]+)\] +(\d+) ms: [\w -]*(?:Scavenge|Mark)/gm;

/**
 * Collections of the Worker.
 *
 * @param trace what V8 wrote
 * @param until age (ms) of the Worker up to which they count
 * @throws {Error} when there is no collection at all: loading the program makes some
 */
export function collectionsOfWorker(trace: string, until: number): Collections {
  const all = [...trace.matchAll(LINE)];
  if (all.length === 0) {
    throw new Error("V8 told of no garbage collection, not even at the start");
  }
  const [[, main]] = all;
  const ages = all.filter(([, isolate]) => isolate !== main)
    .map(([, , age]) => Number(age))
    .filter((age) => age < until);
  const late = ages.filter((age) => age >= SETTLED).length;
  return { early: ages.length - late, late };
}

/** What was found in one combination. */
export interface GcResult extends Collections {
  /** Requests in a second. */
  readonly iops: number;
}

/**
 * Loads a device with one request in flight.
 *
 * @param where the image, stamped, its size, and a folder for a socket
 * @throws {ProcessError} when the client or the device fails
 */
export async function measureGc(
  { medium, keys, load, manner = {} }: GcCase,
  seconds: number,
  where: { image: string; size: number; directory: string },
): Promise<GcResult> {
  const { image, size, directory } = where;
  const disk = { medium, image, size, socket: `${directory}/gc.sock` };
  const whole: Load = {
    ...{ operation: "read", pattern: "scattered", blockSize: 4096, depth: 1 },
    ...{ mode: "sleep", verify: true },
    ...load,
  };
  const flags = ["--trace-gc", ...v8Options(Deno.version.v8)];
  await using child: ChildProcess = await tracedVhostd(flags, keys).start(disk);
  const { iops } = await ownClient.run(disk, whole, seconds, manner);
  // What V8 wrote last comes when the process ends, and by itself only.
  const { code } = await child.stop();
  if (code !== 0) throw new Error(`vhostd ended with code ${code}`);
  return { iops, ...collectionsOfWorker(child.stdout.text, seconds * 1000) };
}

const WIDTH = Math.max(...GC_CASES.map(({ name }) => name.length));

function line(cells: readonly string[]): string {
  const [name, ...rest] = cells;
  return `| ${
    [name.padEnd(WIDTH), ...rest.map((cell) => cell.padStart(12))].join(" | ")
  } |`;
}

/** The head of a table of results: Markdown. */
export function gcHead(seconds: number): string {
  const rule = [WIDTH, 12, 12, 12].map((width) => "-".repeat(width + 2));
  return `Collections of the Worker in its first ${seconds} s, depth 1:\n\n${
    line(["case", "requests/s", "before 3 s", "from 3 s on"])
  }\n|${rule.join("|")}|`;
}

/** A row of that table; a load of 3 s or less cannot tell what comes later. */
export function gcRow(
  { name }: GcCase,
  { iops, early, late }: GcResult,
  seconds: number,
): string {
  const later = seconds * 1000 > SETTLED ? String(late) : "-";
  return line([name, iops.toFixed(0), String(early), later]);
}
