/**
 * Inputs to begin with.
 *
 * @module
 */

/** A header of zeroes, then records: each as its first bytes. */
function input(...records: readonly (readonly number[])[]): Uint8Array {
  const bytes = new Uint8Array(8 + 12 * records.length);
  records.forEach((record, i) => bytes.set(record, 8 + 12 * i));
  return bytes;
}

/** The same with inflight tracking. */
function tracked(...records: readonly (readonly number[])[]): Uint8Array {
  const bytes = input(...records);
  bytes[1] = 4;
  return bytes;
}

/** Chains that are taken, used and answered, direct and indirect. */
export const RING_SEEDS: readonly Uint8Array[] = [
  input([1, 2, 0, 8, 0, 0, 128], [6], [12, 0, 2], [8, 0, 1], [10]),
  input([1, 3, 1, 9, 0, 0, 128], [6], [12, 0, 4], [8, 0, 1], [10]),
  input([1, 2, 0, 8], [1, 2, 4, 8], [15]),
  tracked([1, 2, 0, 8], [1, 2, 4, 8], [6, 1], [8], [14], [15]),
];
