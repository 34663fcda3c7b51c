/**
 * `deno task bench:net`: the switch against testpmd with two net_vhost ports, in
 * turns. Two virtio-user ports of another testpmd hand on to one what they get
 * from the other; the back-end is on one CPU, they on the other.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { Testpmd } from "../guest/rig/dpdk.ts";
import { childrenOf, serveNet } from "../protocol/net_command.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { measureLoop } from "./net_loop.ts";
import { machineFacts, median } from "./report.ts";
import { usage } from "./usage.ts";

/** CPU of the back-end; the load is on the other one. */
const BACKEND_CPU = 1;
/** Bursts of 32 frames that go round on each port. */
const BURSTS = 4;

const HELP = `Usage: deno task bench:net [OPTION]…

Measures the switch and testpmd with two net_vhost ports, in turns.

  --rounds=N      rounds of each size (default 5)
  --seconds=N     seconds of one run (default 3)
  --size=N        bytes of a frame; may be repeated (default 64, 512, 1518)
  --loop          measure the switch alone, in one thread with its drivers
  --json=FILE     write all results to a file
  --help          print this text and exit`;

/** One run. */
export interface NetRun {
  /** Frames received by both ports, per second. */
  readonly frames: number;
  /** CPU time of the back-end for one frame, in microseconds. */
  readonly cpu: number;
}

/** All runs of a size. */
export interface NetCase {
  /** Bytes of a frame, without its checksum. */
  readonly size: number;
  readonly switch: readonly NetRun[];
  readonly testpmd: readonly NetRun[];
}

/** A whole benchmark. */
export interface NetReport {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly seconds: number;
  readonly cases: readonly NetCase[];
}

/** A back-end that runs. */
interface Running extends AsyncDisposable {
  readonly pid: number;
}

async function startSwitch(sockets: readonly string[]): Promise<Running> {
  const server = await serveNet(
    sockets.map((socket) => `socket=${socket},backend=switch`),
    ["taskset", "-c", String(BACKEND_CPU)],
  );
  return {
    pid: childrenOf(server.pid)[0],
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function startTestpmd(
  root: string,
  sockets: readonly string[],
): Promise<Running> {
  const testpmd = await Testpmd.serve(root, sockets, BACKEND_CPU);
  await testpmd.run("set fwd io");
  await testpmd.run("start");
  return testpmd;
}

/** Frames that both ports received. */
async function received(load: Testpmd): Promise<number> {
  return (await load.stats(0)).received + (await load.stats(1)).received;
}

async function measure(
  root: string,
  start: (sockets: readonly string[]) => Promise<Running>,
  size: number,
  seconds: number,
): Promise<NetRun> {
  using directory = TemporaryDirectory.make("bench");
  const sockets = [directory.file("a.sock"), directory.file("b.sock")];
  await using backend = await start(sockets);
  await using load = await Testpmd.start(root, sockets);
  await load.run("set fwd io");
  await load.run(`set txpkts ${size}`);
  await load.run(`start tx_first ${BURSTS}`);
  const before = { frames: await received(load), at: performance.now() };
  const { cpu } = usage(backend.pid);
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const frames = await received(load) - before.frames;
  const elapsed = (performance.now() - before.at) / 1000;
  const used = usage(backend.pid).cpu - cpu;
  return { frames: frames / elapsed, cpu: used * 1e6 / frames };
}

/** The table that people read: medians, and the median of the ratios. */
export function netTable({ cases }: NetReport): string {
  const rows = [
    "| bytes | back-end | kframes/s | Gbit/s | CPU µs/frame | ratio |",
    "| ----: | -------- | --------: | -----: | -----------: | ----: |",
  ];
  for (const { size, ...runs } of cases) {
    const ratio = median(
      runs.switch.map(({ frames }, i) => frames / runs.testpmd[i].frames),
    );
    for (const name of ["switch", "testpmd"] as const) {
      const frames = median(runs[name].map((run) => run.frames));
      const cpu = median(runs[name].map((run) => run.cpu));
      const gigabits = frames * size * 8 / 1e9;
      const last = name === "switch" ? ratio.toFixed(2) : "";
      rows.push(
        `| ${size} | ${name} | ${(frames / 1000).toFixed(0)} | ${
          gigabits.toFixed(2)
        } | ${cpu.toFixed(2)} | ${last} |`,
      );
    }
  }
  return rows.join("\n");
}

/** What frames of some sizes cost in one thread. */
function loopTable(sizes: readonly number[]): string {
  const rows = sizes.map((size) =>
    `| ${size} | ${measureLoop(size).toFixed(0)} |`
  );
  return ["| bytes | ns/frame |", "| ----: | -------: |", ...rows].join("\n");
}

async function main(): Promise<void> {
  const args = parseArgs(Deno.args, {
    string: ["rounds", "seconds", "size", "json"],
    boolean: ["help", "loop"],
    collect: ["size"],
    default: { rounds: "5", seconds: "3" },
  });
  if (args.help) return console.log(HELP);
  const sizes = args.size.length > 0 ? args.size.map(Number) : [64, 512, 1518];
  if (args.loop) return console.log(loopTable(sizes));
  const progress = (line: string) => console.error(line);
  const root = await Testpmd.prepare({ progress });
  const seconds = Number(args.seconds);
  const cases: NetCase[] = [];
  for (const size of sizes) {
    const runs = { switch: [] as NetRun[], testpmd: [] as NetRun[] };
    for (let round = 0; round < Number(args.rounds); round++) {
      runs.switch.push(await measure(root, startSwitch, size, seconds));
      const start = (sockets: readonly string[]) => startTestpmd(root, sockets);
      runs.testpmd.push(await measure(root, start, size, seconds));
    }
    cases.push({ size, ...runs });
  }
  const report: NetReport = { machine: machineFacts(), seconds, cases };
  console.log(netTable(report));
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(report, null, 2));
  }
}

if (import.meta.main) await main();
