/**
 * `deno task bench:blk`: vhostd against qemu-storage-daemon on the same files,
 * in turns, the back-end on one CPU and the client on the other.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import type { ChildProcess } from "../support/process.ts";
import { runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  type Backend,
  CLIENT_CPU,
  type Medium,
  pinned,
  storageDaemon,
  usage,
  vhostd,
} from "./backends.ts";
import { type LoadResult, stampImage } from "./load.ts";
import {
  type CaseResult,
  machineFacts,
  type Report,
  type Run,
  table,
} from "./report.ts";

const LOAD = new URL("./load.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;
const IMAGE_SIZE = 256 << 20;

/** One row of the benchmark. */
interface Case {
  readonly name: string;
  /** What the bytes are kept on. */
  readonly medium: Medium;
  /** Arguments of the load generator. */
  readonly load: readonly string[];
}

const RANDOM_READ = ["--operation=read", "--pattern=random"];
const RANDOM_WRITE = ["--operation=write", "--pattern=random"];

function random(medium: Medium, depth: number): Case[] {
  return [["read", RANDOM_READ], ["write", RANDOM_WRITE]].map((
    [word, load],
  ) => ({
    name: `${medium} 4k random ${word} QD${depth}`,
    medium,
    load: [...load, `--depth=${depth}`],
  }));
}

function sequential(medium: Medium): Case[] {
  return ["read", "write"].map((word) => ({
    name: `${medium} 128k sequential ${word} QD16`,
    medium,
    load: [
      `--operation=${word}`,
      ...["--pattern=sequential", "--block-size=131072", "--depth=16"],
    ],
  }));
}

/** Everything but the medium: no byte is moved, so none is verified. */
function ringOnly(mode: "sleep" | "poll", depth: number): Case {
  return {
    name: `null 4k random read QD${depth}, ${mode}ing client`,
    medium: "null",
    load: [
      ...RANDOM_READ,
      ...["--no-verify", `--mode=${mode}`, `--depth=${depth}`],
    ],
  };
}

const CASES: readonly Case[] = [
  ...(["cache", "tmpfs", "direct"] as const).flatMap((medium) => [
    ...[1, 32, 128].flatMap((depth) => random(medium, depth)),
    ...sequential(medium),
  ]),
  ...[32, 128].map((depth): Case => ({
    name: `memory 4k random write QD${depth}`,
    medium: "memory",
    load: [...RANDOM_WRITE, `--depth=${depth}`],
  })),
  ...[1, 32, 128].map((depth) => ringOnly("sleep", depth)),
  ...[1, 128].map((depth) => ringOnly("poll", depth)),
];

const HELP = `Usage: deno task bench:blk [OPTION]…

Measures vhostd and qemu-storage-daemon on the same files, in turns.

  --rounds=N      rounds of each case (default 5)
  --seconds=N     seconds of one run (default 2)
  --case=TEXT     only cases whose name contains TEXT; may be repeated
  --keys=KEYS     more keys for --blk of vhostd
  --no-peers      measure vhostd alone
  --no-polling    leave out vhostd with poll=off
  --no-tracking   leave out vhostd with requests in flight tracked
  --json=FILE     write all results to a file
  --help          print this text and exit`;

async function measure(
  child: ChildProcess,
  socket: string,
  load: readonly string[],
  seconds: number,
): Promise<Run> {
  const before = usage(child.pid);
  const [program, prefix] = pinned(CLIENT_CPU, Deno.execPath());
  const { stdout } = await runCommand(program, {
    args: [
      ...prefix,
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, LOAD],
      ...[`--socket=${socket}`, `--seconds=${seconds}`, ...load],
    ],
  });
  const after = usage(child.pid);
  const result = JSON.parse(stdout) as LoadResult;
  return {
    ...result,
    cpu: (after.cpu - before.cpu) * 1e6 / result.total,
    rss: after.rss,
  };
}

async function runCase(
  one: Case,
  backends: readonly Backend[],
  options: {
    rounds: number;
    seconds: number;
    image: string;
    directory: string;
  },
): Promise<CaseResult> {
  const runs: Record<string, Run[]> = {};
  const started: { backend: Backend; child: ChildProcess; socket: string }[] =
    [];
  try {
    for (let round = 0; round < options.rounds; round++) {
      for (const [i, backend] of backends.entries()) {
        const socket = `${options.directory}/${i}.sock`;
        if (round === 0) {
          const disk = {
            medium: one.medium,
            image: options.image,
            size: IMAGE_SIZE,
            socket,
          };
          started.push({
            backend,
            child: await backend.start(disk),
            socket,
          });
        }
        const run = await measure(
          started[i].child,
          socket,
          [...one.load, ...backend.load ?? []],
          options.seconds,
        );
        (runs[backend.name] ??= []).push(run);
      }
    }
  } finally {
    for (const { child } of started) await child.stop();
  }
  return { name: one.name, runs };
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["rounds", "seconds", "case", "json", "keys"],
    boolean: ["help", "peers", "polling", "tracking"],
    negatable: ["peers", "polling", "tracking"],
    collect: ["case"],
    default: {
      rounds: "5",
      seconds: "2",
      peers: true,
      polling: true,
      tracking: true,
      keys: "",
    },
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const rounds = Number(args.rounds), seconds = Number(args.seconds);
  if (!(rounds >= 1) || !(seconds > 0)) {
    console.error("--rounds takes a number from 1, --seconds one above 0");
    return 2;
  }
  const wanted = args.case as string[];
  const cases = CASES.filter(({ name }) =>
    wanted.length === 0 || wanted.some((text) => name.includes(text))
  );
  if (cases.length === 0) {
    console.error(
      `No case is named like that; there are:\n${
        CASES.map(({ name }) => `  ${name}`).join("\n")
      }`,
    );
    return 2;
  }
  const backends = [
    vhostd("vhostd", args.keys),
    ...(args.polling ? [vhostd("vhostd poll=off", "poll=off")] : []),
    ...(args.tracking
      ? [{
        ...vhostd("vhostd tracked", args.keys),
        load: ["--inflight"],
      }]
      : []),
    ...(args.peers
      ? [
        storageDaemon("qemu-storage-daemon", false),
        storageDaemon("qsd iothread", true),
      ]
      : []),
  ];
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
        rounds,
        seconds,
        image,
        directory: directory.path,
      });
      results.push(result);
      const partial = report([result], rounds, seconds);
      console.log(table(partial));
    }
  } finally {
    Deno.removeSync(tmpfs, { recursive: true });
  }
  const whole = report(results, rounds, seconds);
  console.log(`\n${table(whole)}`);
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(whole, null, 1) + "\n");
  }
  return 0;
}

function report(
  cases: readonly CaseResult[],
  rounds: number,
  seconds: number,
): Report {
  return {
    machine: machineFacts(),
    date: new Date().toISOString(),
    seconds,
    rounds,
    cases,
  };
}

if (import.meta.main) Deno.exit(await main());
