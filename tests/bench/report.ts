/**
 * Results of a benchmark: medians, ratios, tables, files.
 *
 * @module
 */

import type { LoadResult } from "./load.ts";

/** What every client can tell; figures of some are not to be had of others. */
export type Measurement =
  & Pick<
    LoadResult,
    "requests" | "total" | "seconds" | "iops" | "megabytes" | "errors"
  >
  & Partial<LoadResult>;

/** One run of one back-end. */
export type Run = Measurement & {
  /** CPU time of the back-end for one request in microseconds. */
  readonly cpu: number;
  /** Resident memory of the back-end in bytes. */
  readonly rss: number;
};

/** A case with the runs of each back-end, in the order of the rounds. */
export interface CaseResult {
  readonly name: string;
  readonly runs: Readonly<Record<string, readonly Run[]>>;
}

/** What loads: what `--client` takes, or SPDK's. */
export type ClientName = "own" | "blkio" | "bdevperf";

/** A whole benchmark. */
export interface Report {
  /** The machine. */
  readonly machine: Readonly<Record<string, string | number>>;
  /** What loaded the back-ends; `own` in reports without it. */
  readonly client?: ClientName;
  /** ISO date. */
  readonly date: string;
  /** Seconds of one run, and rounds. */
  readonly seconds: number;
  readonly rounds: number;
  readonly cases: readonly CaseResult[];
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]
    : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Medians of the runs of one back-end, of the figures that all have. */
export function medians(runs: readonly Run[]): Run {
  const of = (key: keyof Run) => median(runs.map((run) => run[key] ?? NaN));
  return Object.fromEntries(
    (Object.keys(runs[0]) as (keyof Run)[]).map((key) => [key, of(key)]),
  ) as unknown as Run;
}

/** Ratio of our rate to a peer's, round by round, and its median. */
export function ratio(ours: readonly Run[], peer: readonly Run[]): number {
  return median(ours.map((run, i) => run.iops / peer[i].iops));
}

/** A table of all cases, for people: Markdown. */
export function table(report: Report): string {
  const rows = [[
    ...["case", "back-end", "IOPS", "MB/s", "p50 µs", "p99 µs", "p99.9 µs"],
    ...["CPU µs", "RSS MB", "ratio"],
  ]];
  for (const { name, runs } of report.cases) {
    const [[, ours]] = Object.entries(runs);
    for (const [backend, own] of Object.entries(runs)) {
      const m = medians(own);
      rows.push([
        name,
        backend,
        m.iops.toFixed(0),
        m.megabytes.toFixed(0),
        ...[m.p50, m.p99, m.p999].map((p) => p?.toFixed(1) ?? ""),
        m.cpu.toFixed(2),
        (m.rss / 1e6).toFixed(0),
        own === ours ? "" : ratio(ours, own).toFixed(2),
      ]);
    }
  }
  const widths = rows[0].map((_, i) =>
    Math.max(...rows.map((row) => row[i].length))
  );
  const line = (row: readonly string[]) =>
    `| ${
      row.map((cell, i) =>
        i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])
      ).join(" | ")
    } |`;
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join("\n");
}

/** What there is to know of this machine. */
export function machineFacts(): Record<string, string | number> {
  const cpu = /model name\s*:\s*(.*)/.exec(
    Deno.readTextFileSync("/proc/cpuinfo"),
  );
  return {
    cpu: cpu?.[1] ?? "unknown",
    cpus: navigator.hardwareConcurrency,
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
    memory: Deno.systemMemoryInfo().total,
  };
}
