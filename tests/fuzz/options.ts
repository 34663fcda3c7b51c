/**
 * Options of `tests/fuzz/main.ts`.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { targets } from "./targets.ts";

/** What to fuzz, and how. */
export interface FuzzOptions {
  /** Names of the targets. */
  readonly names: readonly string[];
  /** Seconds for each target. */
  readonly seconds: number;
  /** Where random numbers start. */
  readonly seed: number;
  /** An input to run, and nothing else. */
  readonly replay?: string;
  /** Write the corpus anew, with what was kept. */
  readonly keep: boolean;
  /** Begin without the corpus. */
  readonly fresh: boolean;
  /** Only print the help. */
  readonly help: boolean;
}

/** Options that do not fit; the message says which and what would. */
export class FuzzUsageError extends Error {
  /** Stable reason. */
  readonly kind = "usage";

  /** Makes an error about an option. */
  constructor(message: string) {
    super(message);
    this.name = "FuzzUsageError";
  }
}

/** What `--help` prints. */
export const help = `Looks for inputs that the code does not stand.

Usage: deno task fuzz [--target NAME]… [--seconds N] [--seed S] [--fresh] [--keep]
       deno task fuzz --target NAME --replay FILE

  --target NAME  ${[...targets.keys()].join(", ")}; all of them without it
  --seconds N    time for each target (20)
  --seed S       the same seed makes the same choices (from the clock)
  --fresh        begin without the corpus
  --keep         write the corpus anew: the smallest inputs that reach as much
  --replay FILE  run one input and say what it does
  --help         print this

The exit code is 0 when nothing was found, 1 otherwise, 2 for wrong options.`;

function integer(
  name: string,
  text: string | undefined,
  otherwise: number,
): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** 32) {
    throw new FuzzUsageError(
      `Cannot use --${name} ${text}: it is not an integer from 0 to 2^32-1`,
    );
  }
  return value;
}

/**
 * Reads the options.
 *
 * @throws {FuzzUsageError} when an option or a target is unknown
 */
export function readFuzzOptions(args: readonly string[]): FuzzOptions {
  const parsed = parseArgs(args, {
    boolean: ["keep", "fresh", "help"],
    string: ["target", "seconds", "seed", "replay"],
    collect: ["target"],
    unknown(arg) {
      throw new FuzzUsageError(`Unknown option "${arg}": see --help`);
    },
  });
  const named = parsed.target.flatMap((list) => list.split(","));
  for (const name of named) {
    if (targets.has(name)) continue;
    const known = [...targets.keys()].join(", ");
    throw new FuzzUsageError(
      `Cannot fuzz "${name}": the targets are ${known}`,
    );
  }
  if (parsed.replay !== undefined && named.length !== 1) {
    throw new FuzzUsageError("--replay needs one --target");
  }
  return {
    names: named.length > 0 ? named : [...targets.keys()],
    seconds: integer("seconds", parsed.seconds, 20),
    seed: integer("seed", parsed.seed, Date.now() % 2 ** 32),
    replay: parsed.replay,
    keep: parsed.keep,
    fresh: parsed.fresh,
    help: parsed.help,
  };
}
