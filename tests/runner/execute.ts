/**
 * Runs one phase: `deno` with its arguments, in a process group, to a result.
 *
 * @module
 */
import { join } from "@std/path";
import { stripVTControlCharacters } from "node:util";
import type { CommandRun, Phase, TestRun } from "../phases.ts";
import { LONG_VARIABLE } from "../support/skip.ts";
import { type Counts, readReport, type Skip } from "./junit.ts";
import { type GroupOutcome, runGroup } from "./process_group.ts";

/** What holds for all phases of a run. */
export interface RunContext {
  /** Root of the repository. */
  readonly root: string;
  /** Folder for reports, which exists. */
  readonly scratch: string;
  /** Whether to gather coverage, in the folder `coverage`. */
  readonly coverage: boolean;
  /** Whether the output is coloured. */
  readonly color: boolean;
  /** Whether tests that take long are run. */
  readonly long: boolean;
  /** Only tests whose name contains this, or matches this /expression/. */
  readonly filter?: string;
  /** Ends the phase at once. */
  readonly signal: AbortSignal;
  /** Where the lines of a phase go that shows them at once. */
  readonly show: (line: string) => void;
  /** Called with each file of tests that begins. */
  readonly onFile: (file: string) => void;
}

/** What a phase gave. */
export interface Result extends Counts {
  /** Tests that were not run. */
  readonly skips: readonly Skip[];
  /** What failed, each as one line. */
  readonly failures: readonly string[];
  /** What to show of its output: what explains a failure, or a report. */
  readonly output: string;
  /** Milliseconds it took. */
  readonly duration: number;
}

/** How `deno test` announces a file of tests. */
const RUNNING = /^running \d+ tests? from (?:\.\/)?(.+)$/;
/** Lines to show of tests that failed without saying why. */
const LAST_LINES = 60;

/** The lines that explain a failure, or that are the point of a command. */
function worthShowing(
  run: Phase["run"],
  { code, ended, leftovers }: GroupOutcome,
  lines: readonly string[],
): readonly string[] {
  const failed = code !== 0 || ended !== undefined || leftovers.length > 0;
  if ("command" in run) return failed || run.report ? lines : [];
  if (!failed) return [];
  const errors = lines.findIndex((line) =>
    stripVTControlCharacters(line).trim() === "ERRORS"
  );
  return lines.slice(errors < 0 ? -LAST_LINES : errors);
}

/** Whether a path is a file, or a folder with a test in it. */
async function hasTests(path: string): Promise<boolean> {
  let entries: AsyncIterable<Deno.DirEntry>;
  try {
    if ((await Deno.stat(path)).isFile) return true;
    entries = Deno.readDir(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  for await (const { name, isDirectory } of entries) {
    if (isTest(name)) return true;
    if (isDirectory && await hasTests(join(path, name))) return true;
  }
  return false;
}

function isTest(name: string): boolean {
  return /_test\.ts$/.test(name);
}

/**
 * The paths of a phase that hold tests. In the place of a folder with something
 * to leave out there is the rest of it: `deno test --ignore` forgets about files
 * if it is given several folders.
 */
export async function existingTests(
  root: string,
  run: TestRun,
): Promise<string[]> {
  const { tests, except = [] } = run;
  const found: string[] = [];
  const add = async (path: string): Promise<void> => {
    if (except.includes(path) || !await hasTests(join(root, path))) return;
    if (!except.some((left) => left.startsWith(`${path}/`))) {
      found.push(path);
      return;
    }
    const entries = await Array.fromAsync(Deno.readDir(join(root, path)));
    const parts = entries
      .filter(({ name, isDirectory }) => isDirectory || isTest(name))
      .map(({ name }) => `${path}/${name}`);
    for (const part of parts.sort()) await add(part);
  };
  for (const path of tests) await add(path);
  return found;
}

function testArguments(
  run: TestRun,
  paths: readonly string[],
  report: string,
  context: RunContext,
): string[] {
  // The phase "types" has checked all types.
  const args = ["test", "--no-check", "--no-prompt", `--junit-path=${report}`];
  args.push(...run.permissions);
  if (run.coverage && context.coverage) {
    args.push("--coverage=coverage/raw", "--coverage-raw-data-only");
  }
  if (context.filter !== undefined) args.push("--filter", context.filter);
  return [...args, ...paths];
}

/** What went wrong with a process, apart from its tests. */
function complaints(phase: Phase, outcome: GroupOutcome): string[] {
  const found: string[] = [];
  if (outcome.ended === "timeout") {
    found.push(`${phase.name}: took more than ${phase.timeout} s`);
  } else if (outcome.ended === "stopped") {
    found.push(`${phase.name}: stopped`);
  }
  for (const leftover of outcome.leftovers) {
    found.push(`${phase.name}: left ${leftover} running`);
  }
  return found;
}

async function readIfExists(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * Runs a phase. A phase of tests without any file gives zeros.
 *
 * @param phase The phase.
 * @param context What holds for the run.
 */
export async function execute(
  phase: Phase,
  context: RunContext,
): Promise<Result> {
  const { run } = phase;
  const started = performance.now();
  const lines: string[] = [];
  const live = "tests" in run && run.live === true;
  const report = join(context.scratch, `${phase.name}.xml`);
  const paths = "tests" in run ? await existingTests(context.root, run) : [];
  if ("tests" in run && paths.length === 0) {
    return { ...none, output: "", duration: 0 };
  }
  const env: Record<string, string> = {};
  if (context.long) env[LONG_VARIABLE] = "1";
  if (!context.color) env.NO_COLOR = "1";
  const outcome = await runGroup(Deno.execPath(), {
    args: "tests" in run
      ? testArguments(run, paths, report, context)
      : run.command,
    cwd: context.root,
    env,
    timeout: phase.timeout * 1_000,
    signal: context.signal,
    onLine(line) {
      const file = RUNNING.exec(stripVTControlCharacters(line))?.[1];
      if (file !== undefined) context.onFile(file);
      if (live) context.show(line);
      else lines.push(line);
    },
  });
  const result = "tests" in run
    ? await testResult(phase, outcome, report)
    : commandResult(phase, run, outcome);
  return {
    ...result,
    output: worthShowing(run, outcome, lines).join("\n"),
    duration: performance.now() - started,
  };
}

type Findings = Omit<Result, "output" | "duration">;

const none: Findings = {
  passed: 0,
  failed: 0,
  skipped: 0,
  skips: [],
  failures: [],
};

async function testResult(
  phase: Phase,
  outcome: GroupOutcome,
  report: string,
): Promise<Findings> {
  const xml = await readIfExists(report);
  const found = xml === undefined ? none : readReport(xml);
  const failures = [...found.failures, ...complaints(phase, outcome)];
  for (const { name, reason } of found.skips) {
    if (reason === undefined) {
      failures.push(`${name}: skipped without a reason`);
    }
  }
  // An error outside of all tests: a missing module, a crash.
  if (failures.length === 0 && (outcome.code !== 0 || xml === undefined)) {
    failures.push(`${phase.name}: deno test ended with code ${outcome.code}`);
  }
  return { ...found, failures, failed: failures.length };
}

function commandResult(
  phase: Phase,
  run: CommandRun,
  outcome: GroupOutcome,
): Findings {
  const failures = complaints(phase, outcome);
  if (failures.length === 0 && outcome.code !== 0) {
    failures.push(
      `${phase.name}: deno ${run.command[0]} ended with code ${outcome.code}`,
    );
  }
  const failed = failures.length;
  return { ...none, passed: failed === 0 ? 1 : 0, failed, failures };
}
