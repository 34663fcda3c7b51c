/**
 * Options of `tests/run.ts`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type Phase, phases } from "../phases.ts";

/** What to run. */
export interface RunOptions {
  /** The phases, in order. */
  readonly selected: readonly Phase[];
  /** Only tests whose name contains this, or matches this /expression/. */
  readonly filter?: string;
  /** Run what takes long, too. */
  readonly long: boolean;
  /** Only print the phases. */
  readonly list: boolean;
  /** Only print the help. */
  readonly help: boolean;
}

/** Options that do not fit; the message says which and what would. */
export class UsageError extends Error {
  /** What class of failure this is; stable. */
  readonly kind = "usage";

  /** @param message Which option, and what would be right. */
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/** What `--help` prints. */
export const help = `Runs the tests, in phases from fast to real.

Usage: deno task test [--only PHASE]… [--filter TEXT] [--long] [--list]

  --only PHASE   run this phase or group (ok, system); repeatable, or A,B
  --filter TEXT  run only tests whose name contains TEXT or matches /TEXT/
  --long         run what takes long, too
  --list         print the phases
  --help         print this

The last line is "N passed, N failed, N skipped". The exit code is 0 when
nothing failed and something ran, 1 otherwise, 2 for wrong options.`;

function select(
  all: readonly Phase[],
  names: readonly string[],
  long: boolean,
): Phase[] {
  for (const name of names) {
    if (all.some((phase) => phase.name === name || phase.group === name)) {
      continue;
    }
    const known = new Set(all.flatMap(({ group, name }) => [group, name]));
    throw new UsageError(
      `Cannot run phase "${name}": the phases and groups are ${
        [...known].join(", ")
      }`,
    );
  }
  return all.filter((phase) => {
    const named = names.includes(phase.name) || names.includes(phase.group);
    if (names.length > 0 && !named) return false;
    return long || phase.long !== true || names.includes(phase.name);
  });
}

/**
 * Reads the options.
 *
 * @param args The arguments of the command.
 * @param all The phases to select from.
 * @throws {UsageError} When an option or a phase is unknown, or there is an
 * argument that is no option.
 */
export function readOptions(
  args: readonly string[],
  all: readonly Phase[] = phases,
): RunOptions {
  const parsed = parseArgs(args, {
    boolean: ["long", "list", "help"],
    string: ["only", "filter"],
    collect: ["only"],
    unknown(arg) {
      throw new UsageError(`Unknown option "${arg}": see --help`);
    },
  });
  const names = parsed.only.flatMap((list) => list.split(","));
  const { filter, long, list, help } = parsed;
  if (filter === "") throw new UsageError("--filter needs a text");
  const found = select(all, names, long);
  // A filter names tests: the other checks would not be what was asked for.
  const selected = filter === undefined
    ? found
    : found.filter(({ run }) => "tests" in run);
  return { selected, filter, long, list, help };
}
