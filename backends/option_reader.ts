/**
 * Reads the options that a device was given by the schema that describes them:
 * each value is checked against its {@linkcode OptionSpec}, and what is not
 * right ends in an error that names the option, the value, and what it may be.
 *
 * The values come from a command line, from a config file or from a program
 * that calls `serve()`, so nothing is taken for granted.
 *
 * @module
 */

import type { OptionSpec } from "./option_schema.ts";
import { didYouMean } from "./suggest.ts";

/** An element of a list of options. */
export interface OptionPlace {
  /** Key of the list. */
  readonly list: string;
  /** Number of the element, from 0. */
  readonly index: number;
}

/** An option of a device that cannot be. */
export class OptionError extends Error {
  /** Stable reason. */
  readonly kind = "usage";
  /** Name of the option, as people write it. */
  readonly option: string;
  /** The message without the place. */
  readonly problem: string;
  /** The element that the option is one of; `null`: the device's own. */
  readonly place: OptionPlace | null;

  /** Makes an error about an option. */
  constructor(
    option: string,
    problem: string,
    place: OptionPlace | null = null,
  ) {
    super(
      place === null ? problem : `${place.list}[${place.index}]: ${problem}`,
    );
    this.name = "OptionError";
    this.option = option;
    this.problem = problem;
    this.place = place;
  }
}

/** What a device was given: keys in camelCase, values of any kind. */
export type GivenOptions = Readonly<Record<string, unknown>>;

/**
 * Refuses a value.
 *
 * @throws {OptionError} always: `Cannot use OPTION=VALUE: RIGHT`
 */
export function refuse(option: string, value: unknown, right: string): never {
  throw new OptionError(
    option,
    `Cannot use ${option}=${String(value)}: ${right}`,
  );
}

function refuseKey(key: string, known: readonly string[]): never {
  throw new OptionError(
    key,
    `"${key}" is no option${
      didYouMean(key, known) || `; options are ${known.join(", ")}`
    }`,
  );
}

/** The key of a value: the name of its option in camelCase. */
export function keyOf(name: string): string {
  return name.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Printable ASCII: what identifies a device to its driver. */
const PRINTABLE = /^[\x20-\x7e]*$/;

/**
 * Reads values by their schema. Names are those of the schema (`seg-max`); the
 * keys of the values are the same in camelCase (`segMax`).
 *
 * @example Usage
 * ```ts
 * import { OptionReader } from "./option_reader.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const reader = new OptionReader(
 *   [{ name: "seg-max", type: "integer", minimum: 1, maximum: 8, help: "" }],
 *   { segMax: 4 },
 * );
 * assertEquals(reader.integer("seg-max"), 4);
 * ```
 */
export class OptionReader {
  readonly #specs: ReadonlyMap<string, OptionSpec>;
  readonly #given: GivenOptions;

  /**
   * Makes a reader of some values.
   *
   * @param more keys that are no options, and that the caller reads
   * @throws {OptionError} when a value has a key that nobody reads: whoever
   * wrote it meant something by it
   */
  constructor(
    specs: readonly OptionSpec[],
    given: GivenOptions,
    more: readonly string[] = [],
  ) {
    this.#specs = new Map(specs.map((spec) => [spec.name, spec]));
    this.#given = given;
    const known = [...specs.map(({ name }) => keyOf(name)), ...more];
    for (const [key, value] of Object.entries(given)) {
      if (value !== undefined && !known.includes(key)) refuseKey(key, known);
    }
  }

  /** The value that an option was given; `undefined`: none. */
  given(name: string): unknown {
    return this.#given[keyOf(name)];
  }

  /** Whether an option has another value than its default. */
  changed(name: string): boolean {
    const value = this.given(name);
    return value !== undefined && value !== this.#spec(name).default;
  }

  /**
   * Whether something is on.
   *
   * @throws {OptionError} unless it is a boolean
   */
  flag(name: string, otherwise?: boolean): boolean {
    return this.optionalFlag(name) ?? otherwise ??
      this.#spec(name).default === true;
  }

  /**
   * Whether something is on; `undefined` when nothing was said.
   *
   * @throws {OptionError} unless it is a boolean
   */
  optionalFlag(name: string): boolean | undefined {
    const value = this.given(name);
    return value === undefined || typeof value === "boolean"
      ? value
      : refuse(name, value, "it is on or off");
  }

  /**
   * An integer within the bounds of its schema.
   *
   * @param otherwise what to answer when none is given and the schema has no default
   * @throws {OptionError} unless it is one
   */
  integer(name: string, otherwise?: number): number {
    const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER, default: usual } =
      this.#spec(name);
    const value = this.#value(name, usual);
    if (value === undefined && otherwise !== undefined) return otherwise;
    return typeof value === "number" && Number.isSafeInteger(value) &&
        value >= minimum && value <= maximum
      ? value
      : refuse(name, value, `it is an integer from ${minimum} to ${maximum}`);
  }

  /**
   * One of the values that the schema names.
   *
   * @throws {OptionError} when it is none of them, or none is given and there is no default
   */
  choice(name: string): string {
    const { choices = [] } = this.#spec(name);
    return this.optionalChoice(name) ?? this.missing(name, choices.join("|"));
  }

  /**
   * One of the values that the schema names; `undefined` when none is given and
   * there is no default.
   *
   * @throws {OptionError} when it is none of them
   */
  optionalChoice(name: string): string | undefined {
    const { choices = [], default: usual } = this.#spec(name);
    const value = this.#value(name, usual);
    if (value === undefined) return undefined;
    return choices.includes(String(value))
      ? String(value)
      : refuse(name, value, `it is one of ${choices.join(", ")}`);
  }

  /**
   * A text without NUL bytes; empty when none is given and there is no default.
   *
   * @throws {OptionError} when it is none, or too long
   */
  text(name: string, otherwise = ""): string {
    const { default: usual = otherwise, maximumLength = 4096 } = this.#spec(
      name,
    );
    const value = this.#value(name, usual);
    return typeof value === "string" && !value.includes("\0") &&
        value.length <= maximumLength
      ? value
      : refuse(name, value, `it is at most ${maximumLength} characters`);
  }

  /**
   * A text of printable ASCII; empty when none is given and there is no default.
   *
   * @throws {OptionError} when it is none, or too long
   */
  printable(name: string, otherwise = ""): string {
    const { default: usual = otherwise, maximumLength } = this.#spec(name);
    const value = this.#value(name, usual);
    return typeof value === "string" && PRINTABLE.test(value) &&
        value.length <= maximumLength!
      ? value
      : refuse(
        name,
        value,
        `it is at most ${maximumLength} printable ASCII characters`,
      );
  }

  /**
   * Says that an option must be given.
   *
   * @param what what to write for a value
   * @throws {OptionError} always: `"NAME" is missing: add NAME=WHAT`
   */
  missing(name: string, what: string): never {
    throw new OptionError(name, `"${name}" is missing: add ${name}=${what}`);
  }

  /** The value that an option was given, or what stands for it. */
  #value(name: string, usual: unknown): unknown {
    const value = this.given(name);
    return value === undefined ? usual : value;
  }

  #spec(name: string): OptionSpec {
    const spec = this.#specs.get(name);
    if (spec === undefined) throw new RangeError(`No option "${name}"`);
    return spec;
  }
}
