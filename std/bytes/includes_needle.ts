import { indexOfNeedle } from "./index_of_needle.ts";

/**
 * Whether a byte array contains some bytes.
 *
 * @param source The array to search.
 * @param needle The bytes to find, at least one.
 * @param start Index to search from; counted from the end when negative.
 */
export function includesNeedle(
  source: Uint8Array,
  needle: Uint8Array,
  start = 0,
): boolean {
  return indexOfNeedle(source, needle, start) !== -1;
}
