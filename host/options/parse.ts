/**
 * From an option list to checked values, by a schema.
 *
 * The command line gives strings, the config file JSON values; both go through
 * {@linkcode parseOptions}, so both know the same names, limits and messages.
 *
 * @module
 */

import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import { HostError } from "../error.ts";
import { didYouMean } from "../../backends/suggest.ts";

/** A value before it is checked; `null` when the key stood alone. */
export type RawValue = string | number | boolean | null;

const FLAG_WORDS: ReadonlyMap<string, boolean> = new Map([
  ["on", true],
  ["off", false],
  ["yes", true],
  ["no", false],
  ["true", true],
  ["false", false],
]);
/** The suffixes of sizes, each 1024 times the one before. */
const SIZE_SUFFIXES = "KMGTP";

/**
 * Checks pairs against a schema and adds defaults.
 *
 * @param subject what is configured, the start of every message: `--blk`
 * @returns values by camelCase name; those neither given nor with a default are
 * absent
 * @throws {HostError} of kind `usage`, naming the option, its value, and what
 * would be right
 *
 * @example Usage
 * ```ts
 * import { parseOptions } from "./parse.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const schema = [
 *   { name: "path", type: "path", required: true, help: "image" },
 *   { name: "seg-max", type: "integer", minimum: 1, default: 126, help: "segments" },
 * ] as const;
 *
 * assertEquals(parseOptions("--blk", schema, [["path", "disk.img"]]), {
 *   path: "disk.img",
 *   segMax: 126,
 * });
 * ```
 */
export function parseOptions(
  subject: string,
  schema: readonly OptionSpec[],
  pairs: Iterable<readonly [string, RawValue]>,
): OptionValues {
  const values: Record<string, string | number | boolean> = {};
  for (const [name, raw] of pairs) {
    const spec = schema.find((each) => each.name === name);
    if (spec === undefined) throw unknownOption(subject, schema, name, raw);
    const key = camelCase(name);
    if (Object.hasOwn(values, key)) {
      throw new HostError("usage", `${subject}: "${name}" is given twice`);
    }
    values[key] = parseValue(subject, spec, raw);
  }
  for (const spec of schema) {
    const key = camelCase(spec.name);
    if (Object.hasOwn(values, key)) continue;
    if (spec.required === true) {
      throw new HostError(
        "usage",
        `${subject}: "${spec.name}" is missing: add ${usageOf(spec)}`,
      );
    }
    if (spec.default !== undefined) values[key] = spec.default;
  }
  return values;
}

/**
 * Checks one value.
 *
 * @throws {HostError} of kind `usage`
 */
export function parseValue(
  subject: string,
  spec: OptionSpec,
  raw: RawValue,
): string | number | boolean {
  const wrong = (problem: string): HostError => {
    const shown = typeof raw === "string" ? raw : JSON.stringify(raw);
    return new HostError(
      "usage",
      `${subject}: ${JSON.stringify(`${spec.name}=${shown}`)} ${problem}`,
    );
  };
  if (raw === null) {
    if (spec.type === "flag") return true;
    throw new HostError(
      "usage",
      `${subject}: "${spec.name}" needs a value: ${usageOf(spec)}`,
    );
  }
  switch (spec.type) {
    case "flag": {
      const value = parseFlag(raw);
      if (value !== null) return value;
      throw wrong("is neither on nor off");
    }
    case "integer": {
      const value = parseInteger(raw);
      if (value !== null && inRange(spec, value)) return value;
      throw wrong(`is no integer${rangeOf(spec, String)}`);
    }
    case "size": {
      const value = parseSize(raw);
      if (value !== null && inRange(spec, value)) return value;
      const range = rangeOf(spec, formatLimit);
      throw wrong(`is no size${range}${isSize(raw) ? "" : SIZE_FORM}`);
    }
    case "choice": {
      const value = typeof raw === "number" ? String(raw) : raw;
      const choices = spec.choices ?? [];
      if (typeof value === "string" && choices.includes(value)) return value;
      const hint = didYouMean(String(value), choices);
      throw wrong(`is none of ${choices.join(", ")}${hint}`);
    }
    case "string":
    case "path":
      return parseText(spec, raw, wrong);
  }
}

function parseFlag(raw: string | number | boolean): boolean | null {
  return typeof raw === "boolean" ? raw : FLAG_WORDS.get(String(raw)) ?? null;
}

function parseInteger(raw: string | number | boolean): number | null {
  if (typeof raw === "string" && !/^-?\d+$/.test(raw)) return null;
  const value = typeof raw === "boolean" ? NaN : Number(raw);
  return Number.isSafeInteger(value) ? value : null;
}

const SIZE_FORM =
  ": bytes, or a number with one of the suffixes K, M, G, T and P";

/** Whether a text is written as a size, or would be but for its sign. */
function isSize(raw: string | number | boolean): boolean {
  return typeof raw !== "string" || parseSize(raw.replace(/^-/, "")) !== null;
}

/** `512`, `64K`, `1.5G`: bytes, suffixes are powers of 1024 in either case. */
function parseSize(raw: string | number | boolean): number | null {
  if (typeof raw === "number") return Number.isSafeInteger(raw) ? raw : null;
  const match = /^(\d+(?:\.\d+)?)([KMGTP]?)$/i.exec(String(raw));
  if (match === null) return null;
  const suffix = match[2].toUpperCase();
  const power = suffix === "" ? 0 : SIZE_SUFFIXES.indexOf(suffix) + 1;
  const value = Number(match[1]) * 1024 ** power;
  return Number.isSafeInteger(value) ? value : null;
}

function parseText(
  spec: OptionSpec,
  raw: string | number | boolean,
  wrong: (problem: string) => HostError,
): string {
  if (typeof raw !== "string") throw wrong("is no string");
  if (raw.includes("\0")) throw wrong("contains a NUL character");
  if (spec.type === "path" && raw === "") throw wrong("names no file");
  const length = new TextEncoder().encode(raw).length;
  const most = spec.maximumLength ?? Infinity;
  if (length <= most) return raw;
  throw wrong(`is too long: ${length} bytes, at most ${most} are possible`);
}

function inRange(spec: OptionSpec, value: number): boolean {
  return value >= (spec.minimum ?? 0) && value <= (spec.maximum ?? Infinity);
}

function rangeOf(spec: OptionSpec, format: (value: number) => string): string {
  const least = format(spec.minimum ?? 0);
  return spec.maximum === undefined
    ? ` of ${least} or more`
    : ` from ${least} to ${format(spec.maximum)}`;
}

/** A size as people write it: `4096` is `4K`, `1000` stays `1000`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let power = 0;
  while (
    value !== 0 && value % 1024 === 0 && power < SIZE_SUFFIXES.length
  ) {
    value /= 1024;
    power++;
  }
  return `${value}${power === 0 ? "" : SIZE_SUFFIXES[power - 1]}`;
}

/** A limit as people read it: 2^44 - 4096 is `16T less 4K`. */
export function formatLimit(bytes: number): string {
  const exact = formatSize(bytes);
  if (exact.length <= 6) return exact;
  for (let power = SIZE_SUFFIXES.length; power > 0; power--) {
    const unit = 1024 ** power;
    const above = Math.ceil(bytes / unit) * unit;
    const round = formatSize(above);
    // Nobody wants to subtract much.
    if (round.length > 4 || above - bytes > above / 1024) continue;
    return `${round} less ${formatSize(above - bytes)}`;
  }
  return exact;
}

/** A size for people: `1 GiB`, `1000 bytes`. */
export function describeSize(bytes: number): string {
  const text = formatSize(bytes);
  const suffix = text.at(-1)!;
  return SIZE_SUFFIXES.includes(suffix)
    ? `${text.slice(0, -1)} ${suffix}iB`
    : `${text} bytes`;
}

/** `name=VALUE` as it stands in help texts. */
export function usageOf(spec: OptionSpec): string {
  switch (spec.type) {
    case "flag":
      return `${spec.name}=on|off`;
    case "choice":
      return `${spec.name}=${(spec.choices ?? []).join("|")}`;
    case "integer":
      return `${spec.name}=N`;
    default:
      return `${spec.name}=${
        spec.type === "string" ? "TEXT" : spec.type.toUpperCase()
      }`;
  }
}

function unknownOption(
  subject: string,
  schema: readonly OptionSpec[],
  name: string,
  raw: RawValue,
): HostError {
  const names = schema.map((spec) => spec.name);
  const hint = didYouMean(name, names);
  if (hint === "" && raw === null && schema.some((s) => s.name === "path")) {
    return new HostError(
      "usage",
      `${subject}: "${name}" is no option; for a file of that name write path=${name}`,
    );
  }
  return new HostError(
    "usage",
    `${subject}: "${name}" is no option${
      hint || `; options are ${names.join(", ")}`
    }`,
  );
}

/** `seg-max` becomes `segMax`. */
export function camelCase(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter) => letter.toUpperCase());
}
