/**
 * Inputs to begin with: a request of each type, on each disk.
 *
 * @module
 */

import { VARIANTS } from "./disks.ts";

/** A record: kind, type, sector (kind, two bytes), count, odd, cuts. */
function input(disk: number, type: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(4 + 24);
  bytes[0] = disk;
  bytes.set([0, type, 0, 8, 0, 1, 0], 4);
  bytes[4 + 15] = flags;
  bytes[4 + 16] = 1;
  bytes[4 + 17] = 8;
  return bytes;
}

/** One of each. */
export const BLK_SEEDS: readonly Uint8Array[] = VARIANTS.flatMap((_, disk) =>
  Array.from({ length: 12 }, (_, i) => input(disk, i % 6, i < 6 ? 0 : 1))
);
