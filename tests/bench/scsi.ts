/**
 * `deno task bench:scsi`: the SCSI host against our own virtio-blk on the same
 * files, in turns, the back-end on one CPU and the client on the other.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { vhostd, vhostdScsi } from "./backends.ts";
import { type Case, IMAGE_SIZE, row, runCase } from "./blk.ts";
import { ownClient } from "./clients.ts";
import { type CaseResult, machineFacts, type Report, table } from "./report.ts";
import { stampImage } from "./stamps.ts";

const HELP = `Usage: deno task bench:scsi [OPTION]…

Measures a SCSI host and a virtio block device, both of vhostd, on the same
files, in turns. The ratio is the rate of the SCSI host by that of the other.

  --rounds=N      rounds of each case (default 7)
  --seconds=N     seconds of one run (default 2)
  --case=TEXT     only cases whose name contains TEXT; may be repeated
  --json=FILE     write all results to a file
  --help          print this text and exit`;

function casesOf(): Case[] {
  const operations = ["read", "write"] as const;
  return (["cache", "direct"] as const).flatMap((medium) => [
    ...[1, 32, 128].flatMap((depth) =>
      operations.map((operation) => row(medium, "random", { operation, depth }))
    ),
    row(medium, "random", {
      ...{ operation: "read", pattern: "sequential", blockSize: 131_072 },
      depth: 16,
    }),
  ]);
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["rounds", "seconds", "case", "json"],
    boolean: ["help"],
    collect: ["case"],
    default: { rounds: "7", seconds: "2" },
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
  const all = casesOf();
  const cases = all.filter(({ name }) =>
    wanted.length === 0 || wanted.some((text) => name.includes(text))
  );
  if (cases.length === 0) {
    const names = all.map(({ name }) => `  ${name}`).join("\n");
    console.error(`No case is named like that; there are:\n${names}`);
    return 2;
  }
  using directory = TemporaryDirectory.make("bench");
  const image = directory.file("disk.img");
  stampImage(image, IMAGE_SIZE);
  await runCommand("sync", { args: [image] });
  const results: CaseResult[] = [];
  for (const one of cases) {
    results.push(
      await runCase(one, [vhostdScsi("scsi"), vhostd("blk")], {
        client: ownClient,
        rounds,
        seconds,
        image,
        directory: directory.path,
      }),
    );
  }
  const report: Report = {
    machine: machineFacts(),
    client: "own",
    date: new Date().toISOString(),
    seconds,
    rounds,
    cases: results,
  };
  console.log(table(report));
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(report, null, 1) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main());
