/**
 * The Internet checksum (RFC 1071).
 *
 * Theory of operation: 32-bit words are read and their halves added, and the sum
 * is folded whenever it grows: all numbers are small integers, which cross calls
 * without being boxed.
 *
 * @module
 */

/**
 * One's complement sum of 16-bit big-endian words, not inverted; an odd byte
 * at the end is padded with zero.
 *
 * @param view of the bytes
 * @param start first byte
 * @param end byte after the last one
 * @param initial sum so far, below 2^29
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { onesSum } from "./checksum.ts";
 *
 * const view = new DataView(new Uint8Array([0, 1, 0xf2, 3, 0xf4]).buffer);
 * assertEquals(onesSum(view, 0, 4, 0), 0xf204);
 * assertEquals(onesSum(view, 0, 5, 0), 0xe605);
 * ```
 */
export function onesSum(
  view: DataView,
  start: number,
  end: number,
  initial: number,
): number {
  let sum = initial;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    const word = view.getInt32(at);
    sum += (word >>> 16) + (word & 0xffff);
    if (sum > 0x1fff_ffff) sum = (sum >>> 16) + (sum & 0xffff);
  }
  if (at + 2 <= end) {
    sum += view.getUint16(at);
    at += 2;
  }
  if (at < end) sum += view.getUint8(at) * 256;
  return fold(sum);
}

/** Folds a sum below 2^31 to 16 bits. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) {
    folded = (folded >>> 16) + (folded & 0xffff);
  }
  return folded;
}

/**
 * Fills in a partial checksum, as a header with `NEEDS_CSUM` asks for: the field
 * holds the sum of the pseudo header already.
 *
 * @param length bytes of the frame
 * @param start `csum_start`
 * @param offset `csum_offset`; the field lies in the frame
 */
export function fillChecksum(
  view: DataView,
  length: number,
  start: number,
  offset: number,
): void {
  const sum = ~onesSum(view, start, length, 0) & 0xffff;
  // 0 means "no checksum" in UDP; both are zero in this arithmetic.
  view.setUint16(start + offset, sum === 0 ? 0xffff : sum);
}

/** Computes the checksum of the IPv4 header that begins at `start`. */
export function fillIpv4Checksum(
  view: DataView,
  start: number,
  headerLength: number,
): void {
  view.setUint16(start + 10, 0);
  const sum = onesSum(view, start, start + headerLength, 0);
  view.setUint16(start + 10, ~sum & 0xffff);
}

/**
 * Sum of the pseudo header of TCP and UDP.
 *
 * @param addresses offset of the source address, which the destination follows
 * @param size bytes of both addresses: 8 or 32
 * @param protocol 6 or 17
 * @param length bytes of header and payload
 */
export function pseudoSum(
  view: DataView,
  addresses: number,
  size: number,
  protocol: number,
  length: number,
): number {
  return onesSum(view, addresses, addresses + size, protocol + length);
}
