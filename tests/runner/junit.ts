/**
 * The report of `deno test --junit-path`, as counts.
 *
 * A test with steps counts by its steps: `deno test` lists them after their
 * test, as `TEST > STEP`. A test that fails although its steps hold counts
 * once more, as failed.
 *
 * @module
 */

/** Numbers of tests. */
export interface Counts {
  /** Tests that held. */
  readonly passed: number;
  /** Tests that failed. */
  readonly failed: number;
  /** Tests that were not run. */
  readonly skipped: number;
}

/** A test that was not run. */
export interface Skip {
  /** Its name, without the reason. */
  readonly name: string;
  /** Why, undefined when the test does not say. */
  readonly reason: string | undefined;
}

/** What a report says. */
export interface Report extends Counts {
  /** The tests that were not run. */
  readonly skips: readonly Skip[];
  /** Names of the tests that failed, each with its file. */
  readonly failures: readonly string[];
}

interface Case {
  readonly name: string;
  readonly file: string;
  readonly outcome: "passed" | "failed" | "skipped";
}

const SEPARATOR = " > ";

function unescape(text: string): string {
  const names: Record<string, string> = {
    lt: "<",
    gt: ">",
    quot: '"',
    apos: "'",
    amp: "&",
  };
  return text.replaceAll(
    /&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi,
    (whole, decimal, hex, name) => {
      if (decimal) return String.fromCodePoint(parseInt(decimal, 10));
      if (hex) return String.fromCodePoint(parseInt(hex, 16));
      return names[name] ?? whole;
    },
  );
}

function attribute(tag: string, name: string): string {
  const match = new RegExp(`\\s${name}="([^"]*)"`).exec(tag);
  return unescape(match?.[1] ?? "");
}

function cases(xml: string): Case[] {
  const found: Case[] = [];
  for (const match of xml.matchAll(/<testcase\b([^>]*)>/g)) {
    const [whole, attributes] = match;
    const from = match.index + whole.length;
    const end = attributes.endsWith("/")
      ? from
      : xml.indexOf("</testcase>", from);
    const body = xml.slice(from, end);
    const failed = /<(?:failure|error)\b/.test(body);
    const skipped = /<skipped\b/.test(body);
    // Tests that a filter leaves out are listed as skipped, without a time.
    if (skipped && !/\stime="/.test(attributes)) continue;
    found.push({
      name: attribute(attributes, "name"),
      file: attribute(attributes, "classname").replace(/^\.\//, ""),
      outcome: failed ? "failed" : skipped ? "skipped" : "passed",
    });
  }
  return found;
}

function skipOf(name: string): Skip {
  const match = /^(.*) \[skipped: (.+)\]$/s.exec(name);
  return match === null
    ? { name, reason: undefined }
    : { name: match[1], reason: match[2] };
}

/** Names of the tests that have steps, and of those whose steps failed. */
function parents(
  all: readonly Case[],
): { any: Set<string>; failed: Set<string> } {
  const any = new Set<string>();
  const failed = new Set<string>();
  for (const { file, name, outcome } of all) {
    let at = name.lastIndexOf(SEPARATOR);
    while (at > 0) {
      const parent = `${file}\n${name.slice(0, at)}`;
      any.add(parent);
      if (outcome === "failed") failed.add(parent);
      at = name.lastIndexOf(SEPARATOR, at - 1);
    }
  }
  return { any, failed };
}

/**
 * Counts the tests of a report.
 *
 * @param xml The text that `deno test --junit-path` wrote.
 */
export function readReport(xml: string): Report {
  const all = cases(xml);
  const withSteps = parents(all);
  const skips: Skip[] = [];
  const failures: string[] = [];
  let passed = 0;
  for (const { file, name, outcome } of all) {
    const key = `${file}\n${name}`;
    const hasSteps = withSteps.any.has(key);
    if (outcome === "skipped") skips.push(skipOf(name));
    else if (outcome === "failed") {
      if (!withSteps.failed.has(key)) failures.push(`${name} (${file})`);
    } else if (!hasSteps) passed++;
  }
  return {
    passed,
    failed: failures.length,
    skipped: skips.length,
    skips,
    failures,
  };
}
