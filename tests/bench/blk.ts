/**
 * `deno task bench:blk`: vhostd against qemu-storage-daemon on the same files,
 * in turns, the back-end on one CPU and the client on the other.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { findBlkio } from "../guest/rig/blkio.ts";
import { type ChildProcess, runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  type Backend,
  DAEMON_AIO,
  type Disk,
  type Medium,
  storageDaemon,
  vhostd,
} from "./backends.ts";
import {
  blkioClient,
  type Client,
  type Load,
  type Manner,
  ownClient,
} from "./clients.ts";
import { blkLoopTable } from "./blk_loop.ts";
import { GC_CASES, gcHead, gcRow, measureGc } from "./gc.ts";
import {
  type CaseResult,
  type ClientName,
  machineFacts,
  type Report,
  type Run,
  table,
} from "./report.ts";
import { stampImage } from "./stamps.ts";
import { usage } from "./usage.ts";

/** Bytes of the disks that are measured. */
export const IMAGE_SIZE: number = 256 << 20;

/** One row of the benchmark. */
export interface Case {
  readonly name: string;
  /** What the bytes are kept on. */
  readonly medium: Medium;
  /** What the client does. */
  readonly load: Load;
}

/** One row, named after what it does. */
export function row(
  medium: Medium,
  scattered: string,
  load: Partial<Load> & Pick<Load, "operation" | "depth">,
  note = "",
): Case {
  const whole: Load = {
    ...{ pattern: "scattered", blockSize: 4096, mode: "sleep", verify: true },
    ...load,
  };
  const { pattern, blockSize, operation, depth } = whole;
  const where = pattern === "scattered" ? scattered : pattern;
  return {
    name: `${medium} ${blockSize >> 10}k ${where} ${operation} ` +
      `QD${depth}${note}`,
    medium,
    load: whole,
  };
}

const OPERATIONS = ["read", "write"] as const;

/** The rows that a client can measure. */
function casesOf(client: Client): Case[] {
  const { scattered } = client;
  /** Everything but the medium: no byte is moved, so none is verified. */
  const ringOnly = (mode: Load["mode"], depth: number) =>
    row(
      "null",
      scattered,
      { operation: "read", mode, depth, verify: false },
      `, ${mode}ing client`,
    );
  return [
    ...(["cache", "tmpfs", "direct"] as const).flatMap((medium) => [
      ...[1, 32, 128].flatMap((depth) =>
        OPERATIONS.map((operation) =>
          row(medium, scattered, { operation, depth })
        )
      ),
      ...OPERATIONS.map((operation) =>
        row(medium, scattered, {
          ...{ operation, pattern: "sequential", blockSize: 131_072 },
          depth: 16,
        })
      ),
    ]),
    ...[32, 128].map((depth) =>
      row("memory", scattered, { operation: "write", depth })
    ),
    ...[1, 32, 128].map((depth) => ringOnly("sleep", depth)),
    ...[1, 128].map((depth) => ringOnly("poll", depth)),
  ].filter(({ load }) => client.can(load.mode));
}

const HELP = `Usage: deno task bench:blk [OPTION]…

Measures vhostd and qemu-storage-daemon on the same files, in turns.

  --client=NAME   what loads them: own (default), or blkio: qemu-img bench over
                  libblkio, which strides and verifies nothing
  --rounds=N      rounds of each case (default 5)
  --seconds=N     seconds of one run (default 2)
  --case=TEXT     only cases whose name contains TEXT; may be repeated
  --keys=KEYS     more keys for --blk of vhostd; repeated, each makes another
                  vhostd, which all are measured in turns
  --no-peers      measure vhostd alone
  --no-polling    leave out vhostd with poll=off
  --no-tracking   leave out vhostd with requests in flight tracked
  --no-packed     leave out vhostd with packed rings
  --loop          measure the device alone, in one thread
  --gc[=SECONDS]  count garbage collections of the Worker at queue depth 1, for
                  so many seconds (default 60) in each of ten combinations;
                  --case chooses among them
  --json=FILE     write all results to a file
  --help          print this text and exit`;

/** How all cases are measured. */
export interface Options {
  readonly client: Client;
  readonly rounds: number;
  readonly seconds: number;
}

async function measure(
  child: ChildProcess,
  disk: Disk,
  load: Load,
  manner: Manner,
  options: Options,
): Promise<Run> {
  const { pid } = child;
  const before = usage(pid);
  const { backendCpu, ...result } = await options.client.run(
    disk,
    load,
    options.seconds,
    { ...manner, pid },
  );
  const after = usage(pid);
  return {
    ...result,
    cpu: (backendCpu ?? after.cpu - before.cpu) * 1e6 / result.total,
    rss: after.rss,
  };
}

/** Measures the back-ends in turns, round by round. */
export async function runCase(
  one: Case,
  backends: readonly Backend[],
  options: Options & {
    readonly image: string;
    readonly directory: string;
    /** Bytes of the disk (default {@linkcode IMAGE_SIZE}). */
    readonly size?: number;
  },
): Promise<CaseResult> {
  const { image, directory, size = IMAGE_SIZE } = options;
  const runs: Record<string, Run[]> = {};
  const started: { disk: Disk; child: ChildProcess }[] = [];
  try {
    for (let round = 0; round < options.rounds; round++) {
      for (const [i, backend] of backends.entries()) {
        if (round === 0) {
          const disk = {
            medium: one.medium,
            image,
            size,
            socket: `${directory}/${i}.sock`,
            device: backend.device,
          };
          started.push({ disk, child: await backend.start(disk) });
        }
        const { disk, child } = started[i];
        const manner = backend.manner ?? {};
        if (backend.spins) child.signal("SIGCONT");
        const run = await measure(child, disk, one.load, manner, options);
        if (backend.spins) child.signal("SIGSTOP");
        (runs[backend.name] ??= []).push(run);
      }
    }
  } finally {
    for (const { child } of started) {
      child.signal("SIGCONT");
      await child.stop();
    }
  }
  return { name: one.name, runs };
}

/** The cases whose name has one of the texts in it; says so if none has. */
export function choose<T extends { readonly name: string }>(
  all: readonly T[],
  wanted: readonly string[],
): T[] {
  const cases = all.filter(({ name }) =>
    wanted.length === 0 || wanted.some((text) => name.includes(text))
  );
  if (cases.length === 0) {
    const names = all.map(({ name }) => `  ${name}`).join("\n");
    console.error(`No case is named like that; there are:\n${names}`);
  }
  return cases;
}

/** `--gc`; its value is how long each case takes, or empty. */
async function countCollections(
  value: string,
  wanted: readonly string[],
): Promise<number> {
  const seconds = value === "" ? 60 : Number(value);
  if (!(seconds > 0 && seconds <= 3600)) {
    console.error(`--gc takes seconds above 0, 3600 at most, not "${value}"`);
    return 2;
  }
  const cases = choose(GC_CASES, wanted);
  if (cases.length === 0) return 2;
  using directory = TemporaryDirectory.make("bench");
  const image = directory.file("disk.img");
  stampImage(image, IMAGE_SIZE);
  await runCommand("sync", { args: [image] });
  const where = { image, size: IMAGE_SIZE, directory: directory.path };
  console.log(gcHead(seconds));
  for (const one of cases) {
    console.log(gcRow(one, await measureGc(one, seconds, where), seconds));
  }
  return 0;
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["client", "rounds", "seconds", "case", "gc", "json", "keys"],
    boolean: ["help", "loop", "peers", "polling", "tracking", "packed"],
    negatable: ["peers", "polling", "tracking", "packed"],
    collect: ["case", "keys"],
    default: {
      client: "own",
      rounds: "5",
      seconds: "2",
      peers: true,
      polling: true,
      tracking: true,
      packed: true,
    },
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  if (args.loop) {
    console.log(await blkLoopTable());
    return 0;
  }
  if (args.gc !== undefined) {
    return await countCollections(args.gc, args.case as string[]);
  }
  const rounds = Number(args.rounds), seconds = Number(args.seconds);
  if (!(rounds >= 1) || !(seconds > 0)) {
    console.error("--rounds takes a number from 1, --seconds one above 0");
    return 2;
  }
  const name = args.client;
  if (name !== "own" && name !== "blkio") {
    console.error(`--client takes own or blkio, not "${name}"`);
    return 2;
  }
  const client = name === "own" ? ownClient : blkioClient(await findBlkio());
  const cases = choose(casesOf(client), args.case as string[]);
  if (cases.length === 0) return 2;
  const [keys = "", ...others] = args.keys as string[];
  const backends = [
    vhostd(others.length === 0 ? "vhostd" : `vhostd ${keys}`, keys),
    ...others.map((more) => vhostd(`vhostd ${more}`, more)),
    ...(args.polling ? [vhostd("vhostd poll=off", "poll=off")] : []),
    ...(args.tracking && client.versatile
      ? [{
        ...vhostd("vhostd tracked", keys),
        manner: { tracked: true },
      }]
      : []),
    ...(args.packed && client.versatile
      ? [{ ...vhostd("vhostd packed", keys), manner: { packed: true } }]
      : []),
    ...(args.peers
      ? [
        storageDaemon("qemu-storage-daemon", false),
        storageDaemon("qsd iothread", true),
      ]
      : []),
  ];
  if (args.peers && DAEMON_AIO !== "io_uring") {
    console.log(`No io_uring here: qemu-storage-daemon has aio=${DAEMON_AIO}`);
  }
  using directory = TemporaryDirectory.make("bench");
  const tmpfs = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "vhostd-" });
  const results: CaseResult[] = [];
  try {
    for (const one of cases) {
      const image = one.medium === "tmpfs" || one.medium === "memory"
        ? `${tmpfs}/disk.img`
        : directory.file("disk.img");
      if (one.medium !== "null") {
        stampImage(image, IMAGE_SIZE);
        await runCommand("sync", { args: [image] });
      }
      const result = await runCase(one, backends, {
        client,
        rounds,
        seconds,
        image,
        directory: directory.path,
      });
      results.push(result);
      const partial = report([result], name, rounds, seconds);
      console.log(table(partial));
    }
  } finally {
    Deno.removeSync(tmpfs, { recursive: true });
  }
  const whole = report(results, name, rounds, seconds);
  console.log(`\n${table(whole)}`);
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(whole, null, 1) + "\n");
  }
  return 0;
}

function report(
  cases: readonly CaseResult[],
  client: ClientName,
  rounds: number,
  seconds: number,
): Report {
  return {
    machine: machineFacts(),
    client,
    date: new Date().toISOString(),
    seconds,
    rounds,
    cases,
  };
}

if (import.meta.main) Deno.exit(await main());
