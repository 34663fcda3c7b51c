/**
 * A parser of command line arguments.
 *
 * An argument is a long one (`--name`, `--name=value`, `--name value`), a
 * group of short ones (`-abc`, `-n5`, `-n 5`, `-n=5`), or a plain one. What a
 * name means is looked up in the sets that the options fill; a dotted name is
 * a path into nested objects. A value that follows is taken unless its name is
 * a boolean or the value looks like an argument itself.
 *
 * @module
 */
import type {
  Aliases,
  ArgNames,
  BooleanNames,
  DefaultsHint,
  Flat,
  Values,
} from "./_types.ts";

/** The value that {@linkcode parseArgs} returns. */
export type Args<
  // deno-lint-ignore no-explicit-any
  TArgs extends Record<string, unknown> = Record<string, any>,
  TDoubleDash extends boolean | undefined = undefined,
> = Flat<
  & TArgs
  & {
    /** The plain arguments, in order. */
    _: Array<string | number>;
  }
  & (boolean extends TDoubleDash ? { "--"?: string[] }
    : true extends TDoubleDash ? { "--": string[] }
    : Record<never, never>)
>;

/** Options of {@linkcode parseArgs}. */
export interface ParseOptions<
  TBooleans extends BooleanNames = BooleanNames,
  TStrings extends ArgNames = ArgNames,
  TCollectable extends ArgNames = ArgNames,
  TNegatable extends ArgNames = ArgNames,
  TDefault extends Record<string, unknown> | undefined =
    | Record<string, unknown>
    | undefined,
  TAliases extends Aliases | undefined = Aliases | undefined,
  TDoubleDash extends boolean | undefined = boolean | undefined,
> {
  /** Put what follows `--` into the property `--` instead of `_`. */
  "--"?: TDoubleDash;
  /** Other names for arguments. */
  alias?: TAliases;
  /**
   * Arguments that take no value, false when not given. With `true`, every
   * long argument without `=` takes none.
   */
  boolean?: TBooleans | ReadonlyArray<Extract<TBooleans, string>>;
  /** Values of arguments that are not given. */
  default?: TDefault & DefaultsHint<TBooleans, TStrings>;
  /** Stop at the first plain argument: the rest are plain ones too. */
  stopEarly?: boolean;
  /** Arguments whose values stay strings also where they look like numbers. */
  string?: TStrings | ReadonlyArray<Extract<TStrings, string>>;
  /** Arguments whose values are gathered in an array. */
  collect?: TCollectable | ReadonlyArray<Extract<TCollectable, string>>;
  /** Arguments that `--no-NAME` sets to false. */
  negatable?: TNegatable | ReadonlyArray<Extract<TNegatable, string>>;
  /**
   * Called for what the other options do not name, plain arguments among
   * them. What it returns `false` for is left out of the result.
   */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

type Value = string | number | boolean;
type Nested = { [key: string]: unknown };

const LONG = /^--(no-)?(.+?)(?:=(.*))?$/s;
const LONG_WITHOUT_VALUE = /^--[^=]+$/;
const LOOKS_LIKE_ARGUMENT = /^(-|--)[^-]/;
const ENDS_IN_NUMBER = /-?\d+(\.\d*)?(e-?\d+)?$/;

function isNumeric(text: string): boolean {
  return /\S/.test(text) && Number.isFinite(Number(text));
}

function isBooleanText(text: string): boolean {
  return text === "true" || text === "false";
}

function namesIn(option: unknown): string[] {
  const names = Array.isArray(option) ? option : [option];
  return names.filter((name) => typeof name === "string" && name !== "");
}

/** Names that lead out of an object of our own, into its class. */
function isUnsafe(object: Nested, key: string): boolean {
  return key === "__proto__" ||
    (key === "constructor" && typeof object[key] === "function");
}

function setPath(root: Nested, path: string, value: unknown, add: boolean) {
  const keys = path.split(".");
  const last = keys.pop() as string;
  let object = root;
  for (const key of keys) {
    if (isUnsafe(object, key)) return;
    if (!Object.hasOwn(object, key)) object[key] = {};
    object = object[key] as Nested;
  }
  if (isUnsafe(object, last)) return;
  const present = Object.hasOwn(object, last) ? object[last] : undefined;
  if (!add) object[last] = value;
  else if (Array.isArray(present)) present.push(value);
  else object[last] = present ? [present, value] : [value];
}

function hasPath(root: Nested, path: string): boolean {
  let object: unknown = root;
  for (const key of path.split(".")) {
    if (object === null || object === undefined) return false;
    if (!Object.hasOwn(object, key)) return false;
    object = (object as Nested)[key];
  }
  return true;
}

class Parser {
  readonly #aliases = new Map<string, Set<string>>();
  readonly #booleans: Set<string>;
  readonly #strings: Set<string>;
  readonly #collected: Set<string>;
  readonly #negatable: Set<string>;
  readonly #options: ParseOptions;
  readonly #result: Nested & { _: Array<string | number> } = { _: [] };

  constructor(options: ParseOptions) {
    this.#options = options;
    for (const [name, value] of Object.entries(options.alias ?? {})) {
      if (value === undefined) {
        throw new TypeError("Alias value must be defined");
      }
      const group = [name, ...(typeof value === "string" ? [value] : value)];
      for (const member of group) {
        this.#aliases.set(
          member,
          new Set(group.filter((other) => other !== member)),
        );
      }
    }
    this.#booleans = this.#withAliases(options.boolean);
    this.#strings = this.#withAliases(options.string);
    this.#collected = this.#withAliases(options.collect);
    this.#negatable = this.#withAliases(options.negatable);
  }

  parse(all: readonly string[]): Nested {
    const end = all.indexOf("--");
    const args = end < 0 ? all : all.slice(0, end);
    const rest = end < 0 ? [] : all.slice(end + 1);
    for (let i = 0; i < args.length; i++) {
      const arg = args[i];
      const next = args[i + 1] || undefined;
      if (arg.length > 2 && arg.startsWith("--")) {
        if (this.#long(arg, next)) i++;
      } else if (arg.length > 1 && arg.startsWith("-")) {
        if (this.#short(arg, next)) i++;
      } else {
        this.#plain(arg);
        if (this.#options.stopEarly) {
          this.#result._.push(...args.slice(i + 1));
          break;
        }
      }
    }
    this.#complete();
    if (this.#options["--"]) this.#result["--"] = rest;
    else this.#result._.push(...rest);
    return this.#result;
  }

  /** Takes `--…`; true when the next argument is its value. */
  #long(arg: string, next: string | undefined): boolean {
    const [, no, name, value] = LONG.exec(arg) as RegExpExecArray;
    if (value !== undefined) {
      const boolean = this.#booleans.has(name);
      this.#set(name, boolean ? value !== "false" : value, arg);
      return false;
    }
    if (no !== undefined && this.#negatable.has(name)) {
      this.#set(name, false, arg, false);
      return false;
    }
    const key = `${no ?? ""}${name}`;
    const takesValue = this.#options.boolean !== true && !this.#isBoolean(key);
    if (next !== undefined && takesValue && !next.startsWith("-")) {
      this.#set(key, next, arg);
      return true;
    }
    return this.#setWithout(key, next, arg);
  }

  /** Takes `-…`; true when the next argument is the value of the last letter. */
  #short(arg: string, next: string | undefined): boolean {
    for (let at = 1; at < arg.length - 1; at++) {
      const letter = arg[at];
      const rest = arg.slice(at + 1);
      if (rest === "-") {
        this.#set(letter, "-", arg);
        continue;
      }
      const value = this.#attachedValue(letter, rest);
      if (value !== undefined) {
        this.#set(letter, value, arg);
        return false;
      }
      this.#set(letter, this.#strings.has(letter) ? "" : true, arg);
    }
    const last = arg[arg.length - 1];
    if (last === "-") return false;
    if (
      next !== undefined && !this.#isBoolean(last) &&
      !LOOKS_LIKE_ARGUMENT.test(next)
    ) {
      this.#set(last, next, arg);
      return true;
    }
    return this.#setWithout(last, next, arg);
  }

  /** The value inside a group of letters that its letter `-xVALUE` takes. */
  #attachedValue(letter: string, rest: string): string | undefined {
    if (rest === "=") return "";
    if (/[A-Za-z]/.test(letter)) {
      const assigned = /=(.+)/.exec(rest);
      if (assigned !== null) return assigned[1];
      if (ENDS_IN_NUMBER.test(rest)) return rest;
    }
    return rest.length > 1 && /\W/.test(rest[0]) ? rest : undefined;
  }

  /** Sets an argument without a value, unless a boolean follows in words. */
  #setWithout(key: string, next: string | undefined, arg: string): boolean {
    if (next !== undefined && isBooleanText(next)) {
      this.#set(key, next === "true", arg);
      return true;
    }
    this.#set(key, this.#strings.has(key) ? "" : true, arg);
    return false;
  }

  #plain(arg: string): void {
    if (this.#options.unknown?.(arg) === false) return;
    const text = this.#strings.has("_") || !isNumeric(arg);
    this.#result._.push(text ? arg : Number(arg));
  }

  #set(key: string, given: Value, arg: string, add = true): void {
    if (
      !this.#isKnown(key, arg) &&
      this.#options.unknown?.(arg, key, given) === false
    ) return;
    const numeric = typeof given === "string" && !this.#strings.has(key) &&
      isNumeric(given);
    const value = numeric ? Number(given) : given;
    const gathered = add && this.#collected.has(key);
    setPath(this.#result, key, value, gathered);
    for (const alias of this.#aliasesOf(key)) {
      setPath(this.#result, alias, value, gathered);
    }
  }

  /** Fills in what was not given. */
  #complete(): void {
    for (const [key, value] of Object.entries(this.#options.default ?? {})) {
      if (hasPath(this.#result, key)) continue;
      setPath(this.#result, key, value, false);
      for (const alias of this.#aliasesOf(key)) {
        setPath(this.#result, alias, value, false);
      }
    }
    for (const key of this.#booleans) {
      if (hasPath(this.#result, key)) continue;
      setPath(this.#result, key, this.#collected.has(key) ? [] : false, false);
    }
    for (const key of this.#strings) {
      if (hasPath(this.#result, key) || !this.#collected.has(key)) continue;
      setPath(this.#result, key, [], false);
    }
  }

  #withAliases(option: unknown): Set<string> {
    const names = new Set<string>();
    for (const name of namesIn(option)) {
      names.add(name);
      for (const alias of this.#aliasesOf(name)) names.add(alias);
    }
    return names;
  }

  #aliasesOf(key: string): Iterable<string> {
    return this.#aliases.get(key) ?? [];
  }

  #isBoolean(key: string): boolean {
    if (this.#booleans.has(key)) return true;
    for (const alias of this.#aliasesOf(key)) {
      if (this.#booleans.has(alias)) return true;
    }
    return false;
  }

  #isKnown(key: string, arg: string): boolean {
    return this.#booleans.has(key) || this.#strings.has(key) ||
      this.#aliases.has(key) || this.#collected.has(key) ||
      (this.#options.boolean === true && LONG_WITHOUT_VALUE.test(arg));
  }
}

/**
 * Parses command line arguments into an object with a property for each name
 * and the plain arguments in `_`. Values that look like numbers become
 * numbers, unless the option `string` names their argument.
 *
 * @param args The arguments, for example `Deno.args`.
 * @param options What the arguments mean; see {@linkcode ParseOptions}.
 * @returns The arguments, typed by the options where those name any.
 * @throws {TypeError} When an alias is undefined.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseArgs } from "@std/cli/parse-args";
 *
 * const args = parseArgs(["serve", "-v", "--size=8", "disk.img"], {
 *   boolean: ["verbose"],
 *   alias: { verbose: "v" },
 * });
 * assertEquals(args, {
 *   _: ["serve", "disk.img"],
 *   v: true,
 *   verbose: true,
 *   size: 8,
 * });
 * ```
 */
export function parseArgs<
  TArgs extends Values<
    TBooleans,
    TStrings,
    TCollectable,
    TNegatable,
    TDefaults,
    TAliases
  >,
  TDoubleDash extends boolean | undefined = undefined,
  TBooleans extends BooleanNames = undefined,
  TStrings extends ArgNames = undefined,
  TCollectable extends ArgNames = undefined,
  TNegatable extends ArgNames = undefined,
  TDefaults extends Record<string, unknown> | undefined = undefined,
  TAliases extends Aliases<TAliasArgNames, TAliasNames> | undefined = undefined,
  TAliasArgNames extends string = string,
  TAliasNames extends string = string,
>(
  args: readonly string[],
  options?: ParseOptions<
    TBooleans,
    TStrings,
    TCollectable,
    TNegatable,
    TDefaults,
    TAliases,
    TDoubleDash
  >,
): Args<TArgs, TDoubleDash> {
  const parser = new Parser((options ?? {}) as ParseOptions);
  return parser.parse(args) as Args<TArgs, TDoubleDash>;
}
