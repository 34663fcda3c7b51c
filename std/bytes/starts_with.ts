import { equals } from "./equals.ts";

/**
 * Whether a byte array begins with another.
 *
 * @param source The array to look at.
 * @param prefix The bytes to look for.
 */
export function startsWith(source: Uint8Array, prefix: Uint8Array): boolean {
  return equals(source.subarray(0, prefix.length), prefix);
}
