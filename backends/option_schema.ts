/**
 * How a device describes its options. One schema makes the parser, the help
 * text and the reference page.
 *
 * @module
 */

/** One option of a device. */
export interface OptionSpec {
  /** The key, as people write it: lower case, words joined by `-`. */
  readonly name: string;
  /** What a value is. `size` takes suffixes (`512M`), `flag` takes on/off and may stand alone. */
  readonly type: "string" | "path" | "integer" | "size" | "flag" | "choice";
  /** The values of a `choice`. */
  readonly choices?: readonly string[];
  /** Smallest `integer` or `size`. */
  readonly minimum?: number;
  /** Largest `integer` or `size`. */
  readonly maximum?: number;
  /** Longest `string` in bytes of UTF-8. */
  readonly maximumLength?: number;
  /** Value when the option is not given; absent: there is none. */
  readonly default?: string | number | boolean;
  /** True when the option must be given. */
  readonly required?: boolean;
  /** One line for the help text, without a full stop. */
  readonly help: string;
}

/** A parsed set of options: keys in camelCase (`seg-max` becomes `segMax`). */
export type OptionValues = Readonly<
  Record<string, string | number | boolean>
>;
