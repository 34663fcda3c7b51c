/**
 * `deno task bench:compare OLD.json NEW.json`: two reports side by side.
 *
 * @module
 */

import { medians, type Report } from "./report.ts";

const HELP = `Usage: deno task bench:compare OLD.json NEW.json

Shows the medians of both reports and the ratio of the new rate to the old one,
for each case and back-end that both have.`;

/** Lines of the comparison, Markdown. */
export function compare(old: Report, recent: Report): string[] {
  const lines = [
    "| case | back-end | IOPS before | after | ratio | CPU µs before | after |",
    "| ---- | -------- | ----------: | ----: | ----: | ------------: | ----: |",
  ];
  for (const { name, runs } of recent.cases) {
    const before = old.cases.find((other) => other.name === name);
    for (const [backend, own] of Object.entries(runs)) {
      const theirs = before?.runs[backend];
      if (theirs === undefined) continue;
      const a = medians(theirs), b = medians(own);
      const cells = [
        name,
        backend,
        a.iops.toFixed(0),
        b.iops.toFixed(0),
        (b.iops / a.iops).toFixed(2),
        a.cpu.toFixed(2),
        b.cpu.toFixed(2),
      ];
      lines.push(`| ${cells.join(" | ")} |`);
    }
  }
  return lines;
}

/** Differences between machines and clients of two reports, for people. */
export function machineDifferences(old: Report, recent: Report): string[] {
  const [before, after] = [old, recent].map(({ machine, client = "own" }) => ({
    ...machine,
    client,
  })) as Record<string, string | number>[];
  return Object.keys(after)
    .filter((key) => before[key] !== after[key])
    .map((key) => `${key}: ${before[key]} before, ${after[key]} after`);
}

if (import.meta.main) {
  if (Deno.args.length !== 2) {
    console.error(HELP);
    Deno.exit(2);
  }
  const [old, recent] = Deno.args.map((path) =>
    JSON.parse(Deno.readTextFileSync(path)) as Report
  );
  for (const line of machineDifferences(old, recent)) console.log(line);
  console.log(compare(old, recent).join("\n"));
}
