/**
 * Runs the tests: the phases of `tests/phases.ts`, in order, to one line.
 *
 * Theory of operation: each phase is a `deno` process in a group of its own,
 * with a time limit. A phase that fails does not stop the others. What a phase
 * prints is kept, and what explains a failure is shown; long phases show it at
 * once. At the
 * end come the tests that were skipped, each with its reason, what failed, and
 * the line with the counts.
 *
 * @module
 */
import { Spinner } from "@std/cli/unstable-spinner";
import { fromFileUrl, join } from "@std/path";
import type { Phase } from "./phases.ts";
import { execute, type Result, type RunContext } from "./runner/execute.ts";
import {
  help,
  readOptions,
  type RunOptions,
  UsageError,
} from "./runner/options.ts";
import { describe, summarize } from "./runner/summary.ts";

const root = fromFileUrl(new URL("../", import.meta.url));

async function runPhase(
  phase: Phase,
  context: Omit<RunContext, "show" | "onFile">,
): Promise<Result> {
  const live = "tests" in phase.run && phase.run.live === true;
  const name = phase.name.padEnd(10);
  const spinner = Deno.stdout.isTerminal() && !live
    ? new Spinner({ message: `${name} ${phase.title}` })
    : undefined;
  if (live) console.log(`${name} ${phase.title}`);
  spinner?.start();
  try {
    const result = await execute(phase, {
      ...context,
      show: (line) => console.log(`  ${line}`),
      onFile(file) {
        if (spinner !== undefined) spinner.message = `${name} ${file}`;
      },
    });
    spinner?.stop();
    console.log(`${name} ${phase.title}: ${describe(result)}`);
    if (result.output !== "") console.log(result.output);
    return result;
  } finally {
    spinner?.stop();
  }
}

async function runAll(
  options: RunOptions,
  scratch: string,
  signal: AbortSignal,
): Promise<Map<string, Result>> {
  const measured = options.selected.some(({ name }) => name === "coverage");
  if (measured) await removeIfExists(join(root, "coverage"));
  const results = new Map<string, Result>();
  for (const phase of options.selected) {
    if (signal.aborted) break;
    results.set(
      phase.name,
      await runPhase(phase, {
        root,
        scratch,
        signal,
        coverage: measured,
        color: Deno.stdout.isTerminal() && !Deno.noColor,
        long: options.long,
        filter: options.filter,
      }),
    );
  }
  return results;
}

async function removeIfExists(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function list(phases: readonly Phase[]): void {
  for (const { name, group, timeout, title } of phases) {
    const limit = `${timeout} s`.padStart(6);
    console.log(`${name.padEnd(10)} ${group.padEnd(7)} ${limit}  ${title}`);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  if (options.help) console.log(help);
  if (options.list) list(options.selected);
  if (options.help || options.list) return 0;
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  const scratch = await Deno.makeTempDir({ prefix: "vhostd-tests-" });
  try {
    const results = await runAll(options, scratch, stop.signal);
    const { text, code } = summarize(results);
    console.log(text);
    return stop.signal.aborted ? 1 : code;
  } finally {
    await Deno.remove(scratch, { recursive: true });
    for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
  }
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(error.message);
    Deno.exit(2);
  }
}
