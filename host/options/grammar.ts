/**
 * The grammar of option lists: `key=value,key=value`, as QEMU writes it.
 *
 * A comma in a value is doubled. A key may stand alone, which means `on`. The
 * first `=` ends the key; further ones belong to the value. A comma at the end
 * is allowed.
 *
 * @module
 */

import { HostError } from "../error.ts";

/** One `key=value` of a list; `value` is `null` when the key stands alone. */
export type OptionPair = readonly [key: string, value: string | null];

/**
 * Splits an option list. Says nothing about which keys there are.
 *
 * @throws {HostError} of kind `usage`: an empty key, or a key that is no word
 *
 * @example Usage
 * ```ts
 * import { splitOptions } from "./grammar.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(splitOptions("path=a,,b.img,readonly"), [
 *   ["path", "a,b.img"],
 *   ["readonly", null],
 * ]);
 * ```
 */
export function splitOptions(text: string): OptionPair[] {
  const pairs: OptionPair[] = [];
  let rest = text;
  while (rest !== "") {
    const { item, after } = takeItem(rest);
    pairs.push(splitPair(item, text));
    rest = after;
  }
  return pairs;
}

/** Takes what is before the first comma that is not doubled. */
function takeItem(text: string): { item: string; after: string } {
  let item = "";
  for (let at = 0;;) {
    const comma = text.indexOf(",", at);
    if (comma < 0) return { item: item + text.slice(at), after: "" };
    item += text.slice(at, comma);
    if (text[comma + 1] !== ",") {
      return { item, after: text.slice(comma + 1) };
    }
    item += ",";
    at = comma + 2;
  }
}

function splitPair(item: string, list: string): OptionPair {
  const equals = item.indexOf("=");
  const key = equals < 0 ? item : item.slice(0, equals);
  if (key === "") {
    throw new HostError(
      "usage",
      `An option without a name in "${list}": write key=value,key=value`,
    );
  }
  return [key, equals < 0 ? null : item.slice(equals + 1)];
}

/**
 * Joins pairs to an option list that {@linkcode splitOptions} and QEMU read
 * back.
 *
 * @example Usage
 * ```ts
 * import { joinOptions } from "./grammar.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(joinOptions([["path", "a,b.img"], ["readonly", null]]), "path=a,,b.img,readonly");
 * ```
 */
export function joinOptions(pairs: Iterable<OptionPair>): string {
  return Array.from(
    pairs,
    ([key, value]) =>
      value === null ? key : `${key}=${value.replaceAll(",", ",,")}`,
  ).join(",");
}
