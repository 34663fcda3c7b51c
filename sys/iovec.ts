/**
 * A table of iovec arrays at a fixed address, one array for each slot: the
 * scatter lists of requests in flight.
 *
 * @module
 */

import { Arena } from "./arena.ts";

/** 32-bit words in a `struct iovec`. */
const IOVEC_WORDS = 4;
/** Bytes in a `struct iovec`. */
const IOVEC_BYTES = 16;

/** The most elements that the kernel takes in one call (IOV_MAX). */
export const IOV_MAX = 1024;

/**
 * Preallocated iovec arrays.
 *
 * `struct iovec { void *iov_base; size_t iov_len; }` is four words: address
 * low, address high, length low, length high.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using table = new IovecTable(2, 4);
 * const at = table.wordOffset(1);
 * table.words[at] = 0x1000; // address, low word
 * table.words[at + 2] = 512; // length, low word
 * assertEquals(table.address(1) - table.address(0), 4 * 16);
 * ```
 */
export class IovecTable implements Disposable {
  /** The number of arrays. */
  readonly slots: number;
  /** The number of elements in each array. */
  readonly segmentsPerSlot: number;
  /** All arrays, one after the other. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** The same by 64 bits: address and length of each element. */
  readonly longs: BigInt64Array<ArrayBuffer>;
  readonly #arena: Arena;
  readonly #base: number;

  /**
   * Maps memory for all arrays, filled with zeros.
   *
   * @throws {RangeError} unless there is at least one slot and from 1 to
   * {@linkcode IOV_MAX} segments in each
   */
  constructor(slots: number, segmentsPerSlot: number) {
    if (!(Number.isInteger(slots) && slots >= 1)) {
      throw new RangeError(
        `Cannot make an iovec table of ${slots} slots: at least 1 is needed`,
      );
    }
    if (
      !(Number.isInteger(segmentsPerSlot) && segmentsPerSlot >= 1 &&
        segmentsPerSlot <= IOV_MAX)
    ) {
      throw new RangeError(
        `Cannot make an iovec table of ${segmentsPerSlot} segments in a ` +
          `slot: 1 to ${IOV_MAX} are possible`,
      );
    }
    this.slots = slots;
    this.segmentsPerSlot = segmentsPerSlot;
    this.#arena = new Arena(slots * segmentsPerSlot * IOVEC_BYTES);
    this.#base = this.#arena.address;
    this.words = this.#arena.u32;
    this.longs = new BigInt64Array(this.#arena.buffer);
  }

  /** Index in `words` of the first element of a slot. */
  wordOffset(slot: number): number {
    return slot * this.segmentsPerSlot * IOVEC_WORDS;
  }

  /** Index in `longs` of the first element of a slot. */
  longOffset(slot: number): number {
    return slot * this.segmentsPerSlot * 2;
  }

  /** Address of the first element of a slot. */
  address(slot: number): number {
    return this.#base + slot * this.segmentsPerSlot * IOVEC_BYTES;
  }

  /** Frees the memory; no call may be using it. */
  [Symbol.dispose](): void {
    this.#arena[Symbol.dispose]();
  }
}
