/**
 * Code with a defect that is hard to find: four bytes must be right, one after
 * the other.
 *
 * @module
 */

/** Throws for the bytes 41, 67, 12, 200. */
export function walk(bytes: Uint8Array): number {
  if (bytes[0] !== 41) return 0;
  if (bytes[1] !== 67) return 1;
  if (bytes[2] !== 12) return 2;
  if (bytes[3] !== 200) return 3;
  throw new Error("The end of the maze");
}
