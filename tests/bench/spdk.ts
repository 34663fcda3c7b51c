/**
 * `deno task bench:spdk`: vhostd against SPDK's `vhost`, in turns on one CPU,
 * with SPDK's `bdevperf` on the other.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import type { Backend } from "./backends.ts";
import { type Case, choose, row, runCase } from "./blk.ts";
import { type CaseResult, machineFacts, type Report, table } from "./report.ts";
import {
  bdevperfClient,
  findSpdk,
  freeHugeMemory,
  HOW_TO_BUILD,
  HUGE_MEMORY,
  mayPrioritize,
  requireHugePages,
  type Spdk,
  spdkTarget,
  vhostdPeer,
} from "./spdk_peer.ts";

/** Bytes of the disks. */
const SIZE = 64 << 20;
/** How shared memory comes by huge pages, which is where our disk is. */
const SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

const HELP = `Usage: deno task bench:spdk --spdk=DIR [OPTION]…

Measures vhostd (poll=auto) and SPDK's vhost in turns, with SPDK's bdevperf as
the client of both: disks of nothing, and disks in memory. The ratio is vhostd's
rate by SPDK's.

SPDK is no part of vhostd: fetch its sources (github.com/spdk/spdk, 23.01 was
measured) and build them in DIR with ./configure && make. Folders of shared
libraries that it needs go into LD_LIBRARY_PATH. It takes two CPUs, ${HUGE_MEMORY} MiB of
huge pages (vm.nr_hugepages) and, for real-time priority (chrt -r), root;
without that it measures what other programs leave. Our disk in memory has huge
pages, as SPDK's has, where
${SHMEM_ENABLED} is advise.

  --spdk=DIR      a built SPDK: DIR/build/bin/vhost, DIR/build/examples/bdevperf
  --rounds=N      rounds of each case (default 5)
  --seconds=N     seconds of one run, whole ones (default 1)
  --case=TEXT     only cases whose name contains TEXT; may be repeated
  --keys=KEYS     more keys for --blk of vhostd
  --json=FILE     write all results to a file
  --help          print this text and exit`;

const CASES: readonly Case[] = [
  ...[1, 128].map((depth) => [depth, "null", "read"] as const),
  ...[1, 32, 128].map((depth) => [depth, "memory", "write"] as const),
].map(([depth, medium, operation]) =>
  row(medium, "random", { operation, depth, mode: "poll", verify: false })
);

/** Back-ends that leave none of their processes behind when this is ended. */
function endedWithUs(backends: readonly Backend[]): Backend[] {
  const stops = new Set<() => Promise<unknown>>();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => {
      Promise.allSettled([...stops].map((stop) => stop()))
        .finally(() => Deno.exit(1));
    });
  }
  return backends.map((backend) => ({
    ...backend,
    start: async (disk) => {
      const child = await backend.start(disk);
      // One that is stopped does not see any other signal.
      const stop = () => {
        child.signal("SIGCONT");
        return child.stop();
      };
      stops.add(stop);
      child.status.finally(() => stops.delete(stop));
      return child;
    },
  }));
}

/** What there is to know of a machine with SPDK. */
function facts(spdk: Spdk, priority: boolean): Report["machine"] {
  const modes = Deno.readTextFileSync(SHMEM_ENABLED);
  return {
    ...machineFacts(),
    spdk: spdk.version,
    priority: priority ? "real-time" : "usual",
    shmem: /\[(\w+)\]/.exec(modes)?.[1] ?? "unknown",
  };
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["spdk", "rounds", "seconds", "case", "keys", "json"],
    boolean: ["help"],
    collect: ["case"],
    default: { rounds: "5", seconds: "1", keys: "poll=auto" },
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const rounds = Number(args.rounds), seconds = Number(args.seconds);
  if (!(rounds >= 1) || !Number.isInteger(seconds) || seconds < 1) {
    console.error("--rounds and --seconds take a whole number from 1");
    return 2;
  }
  if (!args.spdk) {
    console.error(`--spdk=DIR is missing. ${HOW_TO_BUILD}`);
    return 2;
  }
  const cases = choose(CASES, args.case as string[]);
  if (cases.length === 0) return 2;
  let spdk: Spdk;
  try {
    spdk = await findSpdk(args.spdk);
    const mounts = Deno.readTextFileSync("/proc/mounts");
    requireHugePages(freeHugeMemory(), mounts);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }
  const priority = await mayPrioritize();
  const machine = facts(spdk, priority);
  if (!priority) {
    console.log("No real-time priority, which needs root: others interfere");
  }
  if (machine.shmem === "never" || machine.shmem === "deny") {
    console.log("Our disk in memory has pages of 4 KiB: see --help");
  }
  const client = bdevperfClient(spdk, priority);
  const backends = endedWithUs([
    vhostdPeer(args.keys, priority),
    spdkTarget(spdk, priority),
  ]);
  const report = (cases: readonly CaseResult[]): Report => ({
    ...{ machine, client: "bdevperf", seconds, rounds, cases },
    date: new Date().toISOString(),
  });
  const results: CaseResult[] = [];
  using directory = TemporaryDirectory.make("bench");
  for (const one of cases) {
    const result = await runCase(one, backends, {
      ...{ client, rounds, seconds, image: "", size: SIZE },
      directory: directory.path,
    });
    results.push(result);
    console.log(table(report([result])));
  }
  const whole = report(results);
  console.log(`\n${table(whole)}`);
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(whole, null, 1) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main());
