/**
 * What a run of the tests prints at its end.
 *
 * @module
 */
import type { Result } from "./execute.ts";

/** The end of a run. */
export interface Summary {
  /** What to print; the counts are its last line. */
  readonly text: string;
  /** 0 when nothing failed and something ran, else 1. */
  readonly code: number;
}

/** The result of a phase as a few words. */
export function describe(result: Result): string {
  const { passed, failed, skipped, duration } = result;
  if (passed + failed + skipped === 0) return "nothing to run";
  const parts = [`${passed} passed`];
  if (failed > 0) parts.push(`${failed} FAILED`);
  if (skipped > 0) parts.push(`${skipped} skipped`);
  return `${parts.join(", ")} (${(duration / 1_000).toFixed(1)} s)`;
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0
    ? []
    : [title, ...lines.map((line) => `  ${line}`), ""];
}

/**
 * Lists what was skipped, with the reasons, and what failed, then the counts.
 *
 * @param results The results, by the names of their phases.
 */
export function summarize(results: ReadonlyMap<string, Result>): Summary {
  const all = [...results.values()];
  const sum = (count: (result: Result) => number): number =>
    all.reduce((total, result) => total + count(result), 0);
  const passed = sum((result) => result.passed);
  const failed = sum((result) => result.failed);
  const skipped = sum((result) => result.skipped);
  const skips = [...results].flatMap(([phase, result]) =>
    result.skips.map(({ name, reason }) =>
      `${phase}: ${name}: ${reason ?? "no reason given"}`
    )
  );
  const ran = passed + failed > 0;
  const lines = [
    "",
    ...section("Skipped:", skips),
    ...section("Failed:", all.flatMap(({ failures }) => failures)),
    ...(ran ? [] : ["No test ran.", ""]),
    `${passed} passed, ${failed} failed, ${skipped} skipped`,
  ];
  return { text: lines.join("\n"), code: ran && failed === 0 ? 0 : 1 };
}
