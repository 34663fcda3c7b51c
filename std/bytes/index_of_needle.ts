import { equals } from "./equals.ts";

/**
 * Finds the first place of some bytes in a byte array.
 *
 * @param source The array to search.
 * @param needle The bytes to find, at least one.
 * @param start Index to search from; counted from the end when negative.
 * @returns The index, or -1 when there is none.
 */
export function indexOfNeedle(
  source: Uint8Array,
  needle: Uint8Array,
  start = 0,
): number {
  if (needle.length === 0) return -1;
  const from = start < 0 ? Math.max(0, source.length + start) : start;
  const last = source.length - needle.length;
  let at = source.indexOf(needle[0], from);
  while (at >= 0 && at <= last) {
    if (equals(source.subarray(at, at + needle.length), needle)) return at;
    at = source.indexOf(needle[0], at + 1);
  }
  return -1;
}
