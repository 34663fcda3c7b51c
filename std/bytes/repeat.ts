/**
 * Repeats a byte array.
 *
 * @param source The array.
 * @param count How often, a whole number of at least 0.
 * @returns A new array of `count` times the length.
 * @throws {RangeError} When `count` is negative or no whole number.
 */
export function repeat(
  source: Uint8Array,
  count: number,
): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(count) || count < 0) {
    throw new RangeError("Count must be a non-negative integer");
  }
  const repeated = new Uint8Array(source.length * count);
  for (let i = 0; i < count; i++) repeated.set(source, i * source.length);
  return repeated;
}
