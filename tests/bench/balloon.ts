/**
 * `deno task bench:balloon`: balloons in a Linux guest, ours and QEMU's own, and
 * ours with a driver that costs next to nothing.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  bareKernel,
  moveBalloon,
  type Movement,
  type PageOrder,
} from "./balloon_driver.ts";
import { type GuestRun, measureOurs, measureQemu } from "./balloon_guest.ts";
import { BalloonProcess } from "./balloon_process.ts";
import { machineFacts, median } from "./report.ts";

const HELP = `Usage: deno task bench:balloon [OPTION]…

Measures balloons: ours with a driver of our own, and in a Linux guest beside
QEMU's own. Rates are GiB of the balloon a second; CPU is in seconds for a GiB,
of the back-end alone (for QEMU's balloon: of QEMU without the virtual
processors, which is added for ours, too).

  --rounds=N      rounds of each case (default 5)
  --memory=MIB    memory for our own driver (default 512)
  --no-guests     leave out the guests
  --json=FILE     write all results to a file
  --help          print this text and exit`;

/** All runs of one case. */
export interface BalloonCase {
  readonly name: string;
  readonly inflate: readonly Movement[];
  readonly deflate: readonly Movement[];
  /** CPU seconds of the virtual processor for a GiB. */
  readonly guestCpu?: readonly number[];
}

/** A whole benchmark. */
export interface BalloonReport {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly date: string;
  /** GiB a second that the kernel alone gives back, a MiB at a time. */
  readonly kernel: readonly number[];
  readonly cases: readonly BalloonCase[];
}

const DRIVERS: readonly (readonly [PageOrder, number])[] = [
  ["ascending", 1],
  ["ascending", 16],
  ["descending", 1],
  ["scattered", 1],
];

/** Measures our balloon with our own driver. */
async function driverCases(
  rounds: number,
  memory: number,
): Promise<BalloonCase[]> {
  using directory = TemporaryDirectory.make("balloon");
  const socket = directory.file("balloon.sock");
  await using balloon = await BalloonProcess.start(socket, {}, true);
  const cases: BalloonCase[] = [];
  for (const [order, depth] of DRIVERS) {
    const runs = [];
    for (let round = 0; round < rounds; round++) {
      runs.push(await moveBalloon(balloon, socket, { memory, order, depth }));
    }
    cases.push({
      name: `own driver, ${order}, ${depth} in flight`,
      inflate: runs.map(({ inflate }) => inflate),
      deflate: runs.map(({ deflate }) => deflate),
    });
  }
  return cases;
}

/** Measures both balloons in guests, in turns. */
async function guestCases(rounds: number): Promise<BalloonCase[]> {
  const ours: GuestRun[] = [], theirs: GuestRun[] = [];
  // The guests are what takes long to start: two or three of each, in turns.
  const parts = [0, 1, 2].map((i) => Math.floor((rounds + i) / 3));
  for (const part of parts.filter((n) => n > 0)) {
    ours.push(...await measureOurs(part));
    theirs.push(...await measureQemu(part));
  }
  const caseOf = (name: string, runs: readonly GuestRun[]): BalloonCase => ({
    name,
    inflate: runs.map(({ inflate }) => inflate),
    deflate: runs.map(({ deflate }) => deflate),
    guestCpu: runs.map(({ guestCpu }) => guestCpu),
  });
  return [
    caseOf("Linux guest, vhostd", ours),
    caseOf("Linux guest, QEMU's virtio-balloon-pci", theirs),
  ];
}

/** A table of all cases, for people: Markdown. */
export function balloonTable(report: BalloonReport): string {
  const rows = [[
    ...["case", "inflate GiB/s", "CPU s/GiB", "deflate GiB/s", "CPU s/GiB"],
    "guest CPU s/GiB",
  ]];
  const of = (runs: readonly Movement[], key: keyof Movement): string =>
    median(runs.map((run) => run[key])).toFixed(3);
  for (const { name, inflate, deflate, guestCpu } of report.cases) {
    rows.push([
      name,
      of(inflate, "rate"),
      of(inflate, "cpu"),
      of(deflate, "rate"),
      of(deflate, "cpu"),
      guestCpu === undefined ? "" : median(guestCpu).toFixed(3),
    ]);
  }
  rows.push([
    "the kernel alone, 1 MiB at a time",
    median(report.kernel).toFixed(3),
    ...["", "", "", ""],
  ]);
  const widths = rows[0].map((_, i) =>
    Math.max(...rows.map((row) => row[i].length))
  );
  const line = (row: readonly string[]): string =>
    `| ${
      row.map((cell, i) =>
        i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])
      ).join(" | ")
    } |`;
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join("\n");
}

async function main(args: string[]): Promise<number> {
  const flags = parseArgs(args, {
    string: ["rounds", "memory", "json"],
    boolean: ["guests", "help"],
    negatable: ["guests"],
    default: { rounds: "5", memory: "512", guests: true },
  });
  if (flags.help) {
    console.log(HELP);
    return 0;
  }
  const rounds = Number(flags.rounds), memory = Number(flags.memory) * 2 ** 20;
  if (!Number.isInteger(rounds) || rounds < 1 || !(memory >= 2 ** 20)) {
    console.error(HELP);
    return 2;
  }
  const report: BalloonReport = {
    machine: machineFacts(),
    date: new Date().toISOString(),
    kernel: Array.from({ length: rounds }, () => bareKernel(memory)),
    cases: [
      ...await driverCases(rounds, memory),
      ...(flags.guests ? await guestCases(rounds) : []),
    ],
  };
  console.log(balloonTable(report));
  if (flags.json !== undefined) {
    Deno.writeTextFileSync(flags.json, JSON.stringify(report, null, 2));
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
