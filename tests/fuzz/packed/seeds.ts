/**
 * Inputs to begin with.
 *
 * @module
 */

/** A header with flags, then records: each as its first bytes. */
function input(
  flags: number,
  ...records: readonly (readonly number[])[]
): Uint8Array {
  const bytes = new Uint8Array(8 + 12 * records.length);
  bytes[1] = flags;
  records.forEach((record, i) => bytes.set(record, 8 + 12 * i));
  return bytes;
}

/** Chains that are taken, used, given back and answered, on rings of all kinds. */
export const PACKED_SEEDS: readonly Uint8Array[] = [
  input(0, [1, 2, 0, 8, 0, 0, 128], [6], [12, 0, 2], [8, 0, 1], [10]),
  input(1, [1, 3, 1, 9, 0, 0, 128], [6], [12, 0, 4], [8, 0, 1], [10]),
  input(8, [1, 2, 0, 8], [1, 2, 4, 8], [6, 1], [8, 1], [8], [10]),
  input(4, [1, 2, 0, 8], [1, 2, 4, 8], [6, 1], [8], [14], [15]),
  input(5, [1, 2, 0, 8], [1, 1, 4], [6, 1], [9, 1], [14], [6, 1], [15]),
];
