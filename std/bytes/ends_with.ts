import { equals } from "./equals.ts";

/**
 * Whether a byte array ends with another.
 *
 * @param source The array to look at.
 * @param suffix The bytes to look for.
 */
export function endsWith(source: Uint8Array, suffix: Uint8Array): boolean {
  const start = source.length - suffix.length;
  return start >= 0 && equals(source.subarray(start), suffix);
}
