/**
 * Commands and their flags: from a description to parsed arguments.
 *
 * Flags are options like those of devices, with the same types, limits and
 * messages; a command line is read by `parseArgs` of `@std/cli`.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import { HostError } from "../error.ts";
import { parseOptions, type RawValue, usageOf } from "../options/parse.ts";
import { didYouMean } from "../../backends/suggest.ts";

/** A flag of a command. */
export interface FlagSpec extends OptionSpec {
  /** May be given more than once; it is then a list of strings, unchecked. */
  readonly repeatable?: boolean;
  /** What a value is called in the help text, `KEYS`; default: by its type. */
  readonly value?: string;
}

/** A command. */
export interface CommandSpec {
  /** Its name. */
  readonly name: string;
  /** One line, without a full stop. */
  readonly summary: string;
  /** What may follow the name: `[IMG] [OPTION]…`, one for each form. */
  readonly usage: readonly string[];
  /** Flags; `--help` is one of every command. */
  readonly flags: readonly FlagSpec[];
  /** Arguments that are no flags, at most. */
  readonly maximumArguments: number;
  /**
   * What a flag that there is not was probably meant to be, as the rest of a
   * sentence; `null`: nothing that is known. It is given its name and what was no
   * flag.
   */
  readonly meant?: (name: string, words: readonly string[]) => string | null;
  /** What else there is to say, in lines of at most 80 characters. */
  readonly notes?: readonly string[];
}

/** What a command was called with. */
export interface Invocation {
  /** `--help` was given: nothing else was checked. */
  readonly help: boolean;
  /** Flags that were given, by camelCase name; defaults are not filled in. */
  readonly values: OptionValues;
  /** Repeatable flags that were given, by name. */
  readonly lists: ReadonlyMap<string, readonly string[]>;
  /** What is no flag. */
  readonly arguments: readonly string[];
}

/**
 * Reads the arguments of a command.
 *
 * @throws {HostError} of kind `usage`
 *
 * @example Usage
 * ```ts
 * import { parseCommand } from "./command.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const spec = {
 *   name: "ctl",
 *   summary: "Controls a server",
 *   usage: ["status [--json]"],
 *   flags: [{ name: "json", type: "flag", help: "print JSON" }],
 *   maximumArguments: 1,
 * } as const;
 * const { arguments: words, values } = parseCommand(spec, ["status", "--json"]);
 * assertEquals(words, ["status"]);
 * assertEquals(values, { json: true });
 * ```
 */
export function parseCommand(
  spec: CommandSpec,
  args: readonly string[],
): Invocation {
  const switches = spec.flags.filter(({ type }) => type === "flag");
  const valued = spec.flags.filter(({ type }) => type !== "flag");
  const unknown: string[] = [];
  const parsed = parseArgs(args.map(guard), {
    boolean: ["help", ...switches.map(({ name }) => name)],
    string: ["_", ...valued.map(({ name }) => name)],
    collect: valued.map(({ name }) => name),
    alias: { help: "h" },
    unknown: (arg: string, key?: string) => {
      if (key === undefined) return true;
      unknown.push(arg.split("=")[0]);
      return false;
    },
  }) as Record<string, unknown>;
  const words = (parsed._ as unknown[]).map((word) => unguard(String(word)));
  if (parsed.help === true) {
    return { help: true, values: {}, lists: new Map(), arguments: words };
  }
  refuseUnknown(spec, unknown, words);
  refuseSurplus(spec, words);
  const lists = new Map<string, readonly string[]>();
  const pairs: [string, RawValue][] = [];
  for (const { name } of switches) {
    if (parsed[name] === true) pairs.push([name, true]);
  }
  for (const flag of valued) {
    const { name, repeatable } = flag;
    const given = (parsed[name] ?? []) as string[];
    if (given.includes("")) {
      throw new HostError(
        "usage",
        `${spec.name}: --${name} needs a value: ${flagLabel(flag)}`,
      );
    }
    if (repeatable === true) lists.set(name, given);
    else for (const value of given) pairs.push([name, value]);
  }
  const schema = spec.flags.map(({ default: _, ...flag }) => flag);
  const values = parseOptions(spec.name, schema, pairs);
  return { help: false, values, lists, arguments: words };
}

/** What begins like a negative number is no option: `-25%`. */
const GUARD = "\0";

function guard(arg: string): string {
  return /^-\d/.test(arg) ? GUARD + arg : arg;
}

function unguard(word: string): string {
  return word.startsWith(GUARD) ? word.slice(GUARD.length) : word;
}

function refuseUnknown(
  spec: CommandSpec,
  unknown: readonly string[],
  words: readonly string[],
): void {
  if (unknown.length === 0) return;
  const meant = spec.meant?.(unknown[0].replace(/^-+/, ""), words) ?? null;
  if (meant !== null) {
    throw new HostError("usage", `${spec.name}: ${unknown[0]} ${meant}`);
  }
  const names = [...spec.flags.map(({ name }) => name), "help"];
  const [arg] = unknown;
  const hint = didYouMean(arg, names.map((name) => `--${name}`));
  throw new HostError(
    "usage",
    `${spec.name}: there is no option ${arg}${
      hint || `; options are ${names.map((name) => `--${name}`).join(", ")}`
    }`,
  );
}

function refuseSurplus(spec: CommandSpec, words: readonly string[]): void {
  if (words.length <= spec.maximumArguments) return;
  const surplus = words[spec.maximumArguments];
  throw new HostError(
    "usage",
    `${spec.name}: "${surplus}" is one argument too many${forms(spec)}`,
  );
}

function forms({ name, usage }: CommandSpec): string {
  const known = usage.filter((form) => form !== "");
  return known.length === 0
    ? ""
    : `: ${known.map((form) => `${name} ${form}`).join(", or ")}`;
}

/** A flag as it is written: `--log-level=debug|info|warn|error`. */
export function flagLabel(flag: FlagSpec): string {
  if (flag.type === "flag") return `--${flag.name}`;
  if (flag.value !== undefined) return `--${flag.name}=${flag.value}`;
  return `--${usageOf(flag)}`;
}
