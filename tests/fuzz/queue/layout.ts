/**
 * What inputs of both layouts choose from: memory, places of rings, numbers.
 *
 * @module
 */

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x1_0000, 0x1000],
  [0x1_1000, 0x400],
  [0x2_0000, 0x800],
  [2 ** 53 - 0x1000, 0x400],
] as const;
/** An address in no region. */
export const HOLE = 0x1_8000;
/** Indirect tables, where the input does not say else. */
export const TABLE = 0x1_0c00n;

/** Longest chains of devices. */
export const SEGMENTS = [16, 1, 2, 4, 64] as const;

/** A call reads each descriptor of 32 chains at most. */
export const MOST_READS = 32 * 4 * (64 + 0x1000 / 16 + 64);
/** Chains of an operation that empties the ring. */
export const MOST_TAKES = 80;

/** Where the parts of a ring are. */
export function layout(kind: number, at: number): [bigint, bigint, bigint] {
  const base = BigInt(REGIONS[0][0]);
  const shift = BigInt(at);
  switch (kind % 8) {
    case 5: // One on the other.
      return [base, base + 2n * (shift % 64n), base + 4n * (shift >> 6n)];
    case 6: // Near the end of a region, or over it.
      return [base + 0xc00n + shift % 0x800n, base, base + 0x800n];
    case 7: // High up.
      return [base, BigInt(REGIONS[3][0]) + shift % 0x400n, base + 0x800n];
    default:
      return [base, base + 0x600n, base + 0x800n];
  }
}
