/**
 * Copies between the memory of a request and a mapping, and zeroes in one.
 *
 * Theory of operation: a copy in JavaScript needs a view of each side, an object
 * that is garbage afterwards. `memcpy` needs two addresses; they reach it as the
 * elements of a BigInt64Array, unboxed.
 *
 * Whoever calls this answers for the addresses: they were checked where the
 * iovecs were made.
 *
 * @module
 */

import type { IoTable } from "./io_table.ts";
import { libc } from "./libc.ts";
import type { Mapping } from "./mapping.ts";

/** Destination, source and length of a copy. */
const wide = new BigInt64Array(3);
const words = new Uint32Array(wide.buffer);
const TWO_32 = 4294967296;

/**
 * Copies between the iovecs of a slot and a mapping, from the offset on that the
 * table has for the slot.
 *
 * C: `void *memcpy(void *dest, const void *src, size_t n);`
 *
 * @param table has `offsets`, `counts` and `iovecs` of the slot
 * @param toMapping from the iovecs to the mapping, or the other way
 * @throws {RangeError} when the iovecs go beyond the end of the mapping; nothing
 * was copied then
 */
export function copySlot(
  table: IoTable,
  slot: number,
  mapping: Mapping,
  toMapping: boolean,
): void {
  const iovecs = table.iovecs.words;
  const first = table.iovecs.wordOffset(slot);
  const end = first + 4 * table.counts[slot];
  let total = table.offsets[slot];
  for (let at = first; at < end; at += 4) total += iovecs[at + 2];
  if (!(total <= mapping.size)) {
    throw new RangeError(
      `Cannot copy up to ${total}: the mapping has ${mapping.size} bytes`,
    );
  }
  const there = toMapping ? 0 : 2, here = toMapping ? 2 : 0;
  let address = mapping.address + table.offsets[slot];
  for (let at = first; at < end; at += 4) {
    words[there] = address;
    words[there + 1] = address / TWO_32;
    words[here] = iovecs[at];
    words[here + 1] = iovecs[at + 1];
    words[4] = iovecs[at + 2];
    libc().memcpy(wide[0], wide[1], wide[2]);
    address += iovecs[at + 2];
  }
}

/**
 * Zeroes as many bytes of a mapping as the table has for a slot, from its offset
 * on.
 *
 * C: `void *memset(void *s, int c, size_t n);`
 *
 * @param table has `offsets` and `lengths` of the slot
 * @throws {RangeError} when they go beyond the end of the mapping; nothing was
 * written then
 */
export function zeroMapped(
  table: IoTable,
  slot: number,
  mapping: Mapping,
): void {
  const offset = table.offsets[slot], length = table.lengths[slot];
  if (!(offset + length <= mapping.size)) {
    throw new RangeError(
      `Cannot zero up to ${offset + length}: the mapping has ${mapping.size} ` +
        "bytes",
    );
  }
  const address = mapping.address + offset;
  words[0] = address;
  words[1] = address / TWO_32;
  words[4] = length;
  words[5] = length / TWO_32;
  libc().memset(wide[0], 0, wide[2]);
  words[5] = 0;
}
