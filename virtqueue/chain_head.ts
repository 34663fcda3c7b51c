/**
 * The start of a part of a chain, and what is behind it, in one go.
 *
 * Theory of operation: many requests are one buffer that begins with a header.
 * The header is worked on here, the bytes behind it go elsewhere by their
 * address. For such a part of one segment both are found with one comparison,
 * where {@linkcode DescriptorChain.readWords} and
 * {@linkcode DescriptorChain.iovec} would look for the segment again each time.
 * Whatever is not so simple is left to those two.
 *
 * @module
 */

import type { DescriptorChain } from "./chain.ts";
import { WINDOW_STEP } from "./memory.ts";

const TWO_32 = 4294967296;

/**
 * Reads little-endian 32-bit words from the start of the readable part, and
 * describes the bytes behind them.
 *
 * @param into where to, from index 0 on
 * @param list an array of `struct iovec`, as {@linkcode DescriptorChain.iovec}
 * fills it; one is written, of all bytes behind the words
 * @param at index of its first word
 * @returns false, with nothing read or written, when the part is not one segment
 * or has no byte behind the words.
 */
export function readHead(
  chain: DescriptorChain,
  into: Uint32Array,
  count: number,
  list: Uint32Array,
  at: number,
): boolean {
  const rest = chain.lengths[0] - 4 * count;
  if (chain.readableCount !== 1 || chain.truncated || !(rest > 0)) return false;
  const { memory } = chain;
  const region = chain.regions[0], offset = chain.offsets[0];
  const window = memory.window(region, offset);
  const from = offset & (WINDOW_STEP - 1);
  for (let i = 0; i < count; i++) {
    into[i] = window.getUint32(from + 4 * i, true);
  }
  describe(list, at, memory.hostBase(region) + offset + 4 * count, rest);
  return true;
}

/**
 * Writes little-endian 32-bit words to the start of the writable part, and
 * describes the bytes behind them.
 *
 * @param from what to write, from index 0 on
 * @param list an array of `struct iovec`: see {@linkcode readHead}
 * @param at index of its first word
 * @returns false, with nothing written, when the part is not one segment or has
 * no byte behind the words.
 */
export function writeHead(
  chain: DescriptorChain,
  from: Uint32Array,
  count: number,
  list: Uint32Array,
  at: number,
): boolean {
  const segment = chain.readableCount;
  const rest = chain.lengths[segment] - 4 * count;
  if (chain.count - segment !== 1 || chain.truncated || !(rest > 0)) {
    return false;
  }
  const { memory } = chain;
  const region = chain.regions[segment], offset = chain.offsets[segment];
  const window = memory.window(region, offset);
  const to = offset & (WINDOW_STEP - 1);
  for (let i = 0; i < count; i++) {
    window.setUint32(to + 4 * i, from[i], true);
  }
  describe(list, at, memory.hostBase(region) + offset + 4 * count, rest);
  return true;
}

function describe(
  list: Uint32Array,
  at: number,
  address: number,
  length: number,
): void {
  list[at] = address;
  list[at + 1] = address / TWO_32;
  list[at + 2] = length;
  list[at + 3] = 0;
}
