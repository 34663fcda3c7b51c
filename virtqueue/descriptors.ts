/**
 * Reads descriptor chains of a split ring out of guest memory.
 *
 * Theory of operation. The reader walks from a head descriptor to the end of
 * the chain. Each descriptor is read once, as four 32-bit words, into locals;
 * the locals are checked and the chain object is filled from them. Direct
 * descriptors come from the ring's table; a descriptor with
 * VIRTQ_DESC_F_INDIRECT moves the walk to a table anywhere in guest memory,
 * once. Such a table usually lies in one region and is read in place; one that
 * crosses regions is copied to private memory first.
 *
 * The walk is bounded: a table of n descriptors has chains of at most n, one
 * that goes on is a loop. An indirect table has at most 32768.
 *
 * Source: virtio 1.4, sections 2.7.4 to 2.7.5.
 *
 * @module
 */

import type { OpenChain } from "./chain.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_MAX_SIZE,
} from "./constants.ts";
import { type GuestMemory, WINDOW_STEP } from "./memory.ts";

const TWO_32 = 4294967296;
const MAX_LENGTH = 0xffffffff;
// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const SIZE = VIRTQ_DESC_SIZE;
const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;
const WINDOW_MASK = WINDOW_STEP - 1;

/** The chain keeps the rules. */
export const CHAIN_OK = 0;
/** A descriptor names a `next` beyond the end of its table. */
export const CHAIN_NEXT = 1;
/** The chain is longer than its table: it loops. */
export const CHAIN_LOOP = 2;
/** A buffer lies, in whole or in part, outside of guest memory. */
export const CHAIN_ADDRESS = 3;
/** A device-readable buffer follows a device-writable one. */
export const CHAIN_ORDER = 4;
/** The buffers of the chain add up to 2^32 bytes or more. */
export const CHAIN_LENGTH = 5;
/** An indirect descriptor although the feature was not negotiated. */
export const CHAIN_INDIRECT_FEATURE = 6;
/** An indirect descriptor in an indirect table. */
export const CHAIN_INDIRECT_NESTED = 7;
/** A descriptor with both INDIRECT and NEXT. */
export const CHAIN_INDIRECT_NEXT = 8;
/** An indirect table of no, of broken, or of more than 32768 descriptors. */
export const CHAIN_INDIRECT_SIZE = 9;
/** An indirect table that lies outside of guest memory. */
export const CHAIN_INDIRECT_ADDRESS = 10;

/** What is wrong with a chain, by `CHAIN_*` number, for people. */
export const CHAIN_FAULTS: readonly string[] = [
  "no fault",
  "next is beyond the end of the descriptor table",
  "the chain loops",
  "a buffer lies outside of guest memory",
  "a device-readable buffer follows a device-writable one",
  "the buffers add up to 2^32 bytes or more",
  "VIRTIO_F_INDIRECT_DESC was not negotiated",
  "an indirect table holds an indirect descriptor",
  "a descriptor has both INDIRECT and NEXT",
  "the length of an indirect table is not 16 to 524288 by steps of 16",
  "an indirect table lies outside of guest memory",
];

/** Walks the descriptor chains of one ring. */
export class DescriptorReader {
  readonly #memory: GuestMemory;
  readonly #size: number;
  readonly #indirect: boolean;
  readonly #maxSegments: number;
  #table: DataView<ArrayBuffer>;
  readonly #copies = new TableCopy();

  /**
   * Makes a reader.
   *
   * @param table the descriptor table, 16 bytes an entry
   * @param size number of entries
   * @param indirect whether VIRTIO_F_INDIRECT_DESC was negotiated
   * @param maxSegments longest chain that the device works on
   */
  constructor(
    memory: GuestMemory,
    table: DataView<ArrayBuffer>,
    size: number,
    indirect: boolean,
    maxSegments: number,
  ) {
    this.#memory = memory;
    this.#table = table;
    this.#size = size;
    this.#indirect = indirect;
    this.#maxSegments = maxSegments;
  }

  /** Replaces the view of the descriptor table. */
  rebind(table: DataView<ArrayBuffer>): void {
    this.#table = table;
  }

  /**
   * Fills a chain object from the chain that starts at a descriptor.
   *
   * @param head index in the descriptor table, already checked
   * @returns `CHAIN_OK`, or what is wrong; the object is then half filled.
   */
  read(chain: OpenChain, head: number): number {
    const memory = this.#memory;
    const { regions, offsets, lengths, capacity } = chain;
    let table = this.#table;
    let base = 0;
    let entries = this.#size;
    let index = head;
    let steps = 0;
    let buffers = 0;
    let inTable = false;
    let writable = false;
    let readableLength = 0;
    let writableLength = 0;
    let count = 0;
    let readableCount = 0;
    chain.truncated = false;
    for (;;) {
      if (steps === entries) return CHAIN_LOOP;
      steps++;
      const at = (base + index * SIZE) | 0;
      const address = table.getUint32(at, true) +
        table.getUint32(at + 4, true) * TWO_32;
      const length = table.getUint32(at + 8, true);
      const word = table.getUint32(at + 12, true);
      if ((word & INDIRECT) !== 0) {
        if (!this.#indirect) return CHAIN_INDIRECT_FEATURE;
        if (inTable) return CHAIN_INDIRECT_NESTED;
        if ((word & NEXT) !== 0) return CHAIN_INDIRECT_NEXT;
        if (!isTableLength(length)) return CHAIN_INDIRECT_SIZE;
        const region = memory.find(address, length);
        if (region >= 0) {
          const offset = address - memory.regionAddress(region);
          table = memory.window(region, offset);
          base = offset & WINDOW_MASK;
        } else {
          const copy = this.#copies.take(memory, address, length);
          if (copy === null) return CHAIN_INDIRECT_ADDRESS;
          table = copy;
          base = 0;
        }
        inTable = true;
        entries = (length / SIZE) | 0;
        index = 0;
        steps = 0;
        continue;
      }
      if ((word & WRITE) !== 0) {
        if (!writable) {
          writable = true;
          readableCount = count;
        }
        writableLength += length;
      } else {
        if (writable) return CHAIN_ORDER;
        readableLength += length;
      }
      if (length !== 0) {
        if (readableLength + writableLength > MAX_LENGTH) return CHAIN_LENGTH;
        buffers++;
        const region = memory.find(address, length);
        if (region >= 0 && count < capacity) {
          regions[count] = region;
          offsets[count] = address - memory.regionAddress(region);
          lengths[count] = length;
          count++;
        } else {
          chain.count = count;
          chain.readableCount = readableCount;
          if (!noteSlowly(memory, chain, address, length)) return CHAIN_ADDRESS;
          count = chain.count;
          readableCount = chain.readableCount;
        }
      }
      if ((word & NEXT) === 0) break;
      index = word >>> 16;
      if (index >= entries) return CHAIN_NEXT;
    }
    if (buffers > this.#maxSegments) chain.truncated = true;
    chain.count = count;
    chain.readableCount = writable ? readableCount : count;
    chain.totals[0] = readableLength;
    chain.totals[1] = writableLength;
    return CHAIN_OK;
  }
}

/** Whether an indirect table can have a length in bytes. */
export function isTableLength(length: number): boolean {
  return length !== 0 && length % VIRTQ_DESC_SIZE === 0 &&
    length <= VIRTQ_MAX_SIZE * VIRTQ_DESC_SIZE;
}

/**
 * Notes a buffer that crosses from region to region, or one for which there is
 * no segment left: then the last segment gives way.
 *
 * @returns false when a byte of it lies outside of memory
 */
export function noteSlowly(
  memory: GuestMemory,
  chain: OpenChain,
  address: number,
  length: number,
): boolean {
  let at = address;
  let left = length;
  while (left > 0) {
    const region = memory.find(at, 1);
    if (region < 0) return false;
    const offset = at - memory.regionAddress(region);
    const piece = Math.min(left, memory.regionSize(region) - offset);
    if (chain.count === chain.capacity) {
      chain.count--;
      chain.truncated = true;
      if (chain.readableCount > chain.count) {
        chain.readableCount = chain.count;
      }
    }
    chain.regions[chain.count] = region;
    chain.offsets[chain.count] = offset;
    chain.lengths[chain.count] = piece;
    chain.count++;
    at += piece;
    left -= piece;
  }
  return true;
}

/** Private copies of indirect tables that cross regions, one at a time. */
export class TableCopy {
  #copy: DataView<ArrayBuffer> | null = null;

  /** Copies a table; `null` where a byte of it lies outside of memory. */
  take(
    memory: GuestMemory,
    address: number,
    length: number,
  ): DataView<ArrayBuffer> | null {
    let copy = this.#copy;
    if (copy === null || copy.byteLength < length) {
      copy = new DataView(new ArrayBuffer(length));
      this.#copy = copy;
    }
    const bytes = new Uint8Array(copy.buffer, 0, length);
    return memory.read(address, bytes) ? copy : null;
  }
}
