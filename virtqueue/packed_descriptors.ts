/**
 * Reads descriptor chains out of a packed ring.
 *
 * Theory of operation. The descriptors of a chain follow each other in the ring;
 * all but the last have VIRTQ_DESC_F_NEXT, and the last has the buffer id. Each is
 * read once, as four 32-bit words, and the chain object is filled from them. A
 * single descriptor with VIRTQ_DESC_F_INDIRECT stands for a table, all of whose
 * entries belong to the chain, and in which WRITE is the only flag.
 *
 * A chain that breaks a rule is walked to its end all the same, because the
 * answer needs the buffer id and the number of descriptors. Where the end cannot
 * be found, the ring itself is corrupt: a member is not marked as available, or
 * there are more of them than the driver has.
 *
 * Source: virtio 1.4, sections 2.8.5 to 2.8.7.
 *
 * @module
 */

import type { OpenChain } from "./chain.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from "./constants.ts";
import {
  CHAIN_ADDRESS,
  CHAIN_FAULTS,
  CHAIN_INDIRECT_ADDRESS,
  CHAIN_INDIRECT_FEATURE,
  CHAIN_INDIRECT_NEXT,
  CHAIN_INDIRECT_SIZE,
  CHAIN_LENGTH,
  CHAIN_OK,
  CHAIN_ORDER,
  isTableLength,
  noteSlowly,
  TableCopy,
} from "./descriptors.ts";
import { type GuestMemory, WINDOW_STEP } from "./memory.ts";
import type { PackedInflight } from "./packed_inflight.ts";
import { AVAIL_USED } from "./packed_ring.ts";

const TWO_32 = 4294967296;
const MAX_LENGTH = 0xffffffff;
// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const OK = CHAIN_OK;
const SIZE = VIRTQ_DESC_SIZE;
// Flags are in the upper half of the last word.
const NEXT = VIRTQ_DESC_F_NEXT << 16;
const WRITE = VIRTQ_DESC_F_WRITE << 16;
const INDIRECT = VIRTQ_DESC_F_INDIRECT << 16;
const MARKS = AVAIL_USED;
const WINDOW_MASK = WINDOW_STEP - 1;

/** The buffer id is beyond the ring: nobody can be answered. */
export const ID_RANGE = -1;
/** The buffer id is in flight already. */
export const ID_IN_FLIGHT = -2;
/** The ring is corrupt: a member of a chain is not marked as available. */
export const RING_WRAP = -3;
/** The ring is corrupt: a chain has more descriptors than the driver has. */
export const RING_ENDLESS = -4;

/**
 * What is wrong, for people.
 *
 * @param fault a number other than `CHAIN_OK`
 * @param which the buffer id, for `RING_*` the entry that the chain begins at
 * @param size of the ring
 */
export function packedFault(
  fault: number,
  which: number,
  size: number,
): string {
  switch (fault) {
    case ID_RANGE:
      return `buffer id ${which} is beyond the ring of ${size}`;
    case ID_IN_FLIGHT:
      return `chain with buffer id ${which}: made available again while in flight`;
    case RING_WRAP:
      return `the chain at descriptor ${which} goes on at one that is not available`;
    case RING_ENDLESS:
      return `the chain at descriptor ${which} has more descriptors than the driver`;
    default:
      return `chain with buffer id ${which}: ${CHAIN_FAULTS[fault]}`;
  }
}

/** Walks the descriptor chains of one packed ring. */
export class PackedReader {
  /** Buffer id of the chain that was read last. */
  id = 0;
  /** Number of its descriptors in the ring. */
  count = 0;
  readonly #memory: GuestMemory;
  readonly #size: number;
  readonly #indirect: boolean;
  readonly #maxSegments: number;
  readonly #inflight: PackedInflight | null;
  readonly #copies = new TableCopy();
  #ring: DataView<ArrayBuffer>;

  /**
   * Makes a reader.
   *
   * @param ring the descriptor ring, 16 bytes an entry
   * @param size number of entries
   * @param indirect whether VIRTIO_F_INDIRECT_DESC was negotiated
   * @param maxSegments longest chain that the device works on
   * @param inflight where the descriptors of a chain are noted as they are read
   */
  constructor(
    memory: GuestMemory,
    ring: DataView<ArrayBuffer>,
    size: number,
    indirect: boolean,
    maxSegments: number,
    inflight: PackedInflight | null,
  ) {
    this.#memory = memory;
    this.#ring = ring;
    this.#size = size;
    this.#indirect = indirect;
    this.#maxSegments = maxSegments;
    this.#inflight = inflight;
  }

  /** Replaces the view of the ring. */
  rebind(ring: DataView<ArrayBuffer>): void {
    this.#ring = ring;
  }

  /**
   * Fills a chain object from the chain that starts at an entry of the ring.
   *
   * @param index of the entry
   * @param marks what AVAIL and USED are there, when the driver has made it
   * available
   * @param limit most descriptors that the chain can have
   * @returns `CHAIN_OK`, what is wrong with the chain (`id` and `count` are right
   * then), or `RING_*`
   */
  read(chain: OpenChain, index: number, marks: number, limit: number): number {
    return this.#walk(chain, this.#ring, this.#size, index, marks, limit);
  }

  /**
   * As {@linkcode PackedReader.read}, from a private table of descriptors
   * without marks.
   */
  readKept(
    chain: OpenChain,
    table: DataView<ArrayBuffer>,
    index: number,
  ): number {
    const entries = table.byteLength / VIRTQ_DESC_SIZE;
    return this.#walk(chain, table, entries, index, 0, entries - index);
  }

  #walk(
    chain: OpenChain,
    ring: DataView<ArrayBuffer>,
    size: number,
    first: number,
    marks: number,
    limit: number,
  ): number {
    const memory = this.#memory;
    // What a predecessor had taken is noted already.
    const inflight = ring === this.#ring ? this.#inflight : null;
    const { regions, offsets, lengths, capacity } = chain;
    let table = ring;
    let index = first;
    let at = index * SIZE;
    let left = 0;
    let members = 0;
    let buffers = 0;
    let total = 0;
    let readable = -1;
    let count = 0;
    let readableCount = 0;
    let word = 0;
    let fault = OK;
    if (inflight !== null) inflight.begin();
    chain.truncated = false;
    for (;;) {
      const low = table.getUint32(at, true);
      const high = table.getUint32(at + 4, true);
      const length = table.getUint32(at + 8, true);
      const address = low + high * TWO_32;
      const last = table.getInt32(at + 12, true);
      if (left === 0) {
        word = last;
        if ((word >>> 16 & MARKS) !== marks) return RING_WRAP;
        if (inflight !== null) inflight.note(low, high, length, word);
        members++;
        if ((word & INDIRECT) !== 0) {
          if (!this.#indirect) fault = CHAIN_INDIRECT_FEATURE;
          else if (members > 1 || (word & NEXT) !== 0) {
            fault = CHAIN_INDIRECT_NEXT;
          } else if (!isTableLength(length)) fault = CHAIN_INDIRECT_SIZE;
          else {
            left = (length / SIZE) | 0;
            const region = memory.find(address, length);
            if (region >= 0) {
              const offset = address - memory.regionAddress(region);
              table = memory.window(region, offset);
              at = offset & WINDOW_MASK;
              continue;
            }
            const copy = this.#copies.take(memory, address, length);
            if (copy !== null) {
              table = copy;
              at = 0;
              continue;
            }
            fault = CHAIN_INDIRECT_ADDRESS;
          }
          break;
        }
      }
      if ((last & WRITE) !== 0) {
        if (readable < 0) {
          readable = total;
          readableCount = count;
        }
      } else if (readable >= 0) {
        fault = CHAIN_ORDER;
        break;
      }
      total += length;
      if (total > MAX_LENGTH) {
        fault = CHAIN_LENGTH;
        break;
      }
      if (length !== 0) {
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
          if (!noteSlowly(memory, chain, address, length)) {
            fault = CHAIN_ADDRESS;
            break;
          }
          count = chain.count;
          readableCount = chain.readableCount;
        }
      }
      at = (at + SIZE) | 0;
      if (left !== 0) {
        if (--left === 0) break;
        continue;
      }
      if ((word & NEXT) === 0) break;
      if (members === limit) return RING_ENDLESS;
      if (++index === size) {
        index = at = 0;
        marks ^= MARKS;
      }
    }
    this.id = word & 0xffff;
    this.count = members;
    if (fault !== OK) {
      if ((word & NEXT) === 0) return fault;
      const end = this.#skip(ring, size, index, marks, limit, inflight);
      return end === OK ? fault : end;
    }
    if (buffers > this.#maxSegments) chain.truncated = true;
    chain.count = count;
    chain.readableCount = readable < 0 ? count : readableCount;
    chain.totals[0] = readable < 0 ? total : readable;
    chain.totals[1] = readable < 0 ? 0 : total - readable;
    return OK;
  }

  /**
   * Looks for the end of a chain that breaks a rule at one of its descriptors.
   *
   * @param index of that descriptor, which is not the last
   * @param marks what AVAIL and USED are there
   * @returns `CHAIN_OK`: `id` and `count` are right; or `RING_*`
   */
  #skip(
    ring: DataView<ArrayBuffer>,
    size: number,
    index: number,
    marks: number,
    limit: number,
    inflight: PackedInflight | null,
  ): number {
    for (let word = NEXT; (word & NEXT) !== 0;) {
      if (this.count === limit) return RING_ENDLESS;
      if (++index === size) {
        index = 0;
        marks ^= MARKS;
      }
      const at = index * SIZE;
      word = ring.getInt32(at + 12, true);
      if ((word >>> 16 & MARKS) !== marks) return RING_WRAP;
      if (inflight !== null) {
        const low = ring.getUint32(at, true);
        const high = ring.getUint32(at + 4, true);
        const length = ring.getUint32(at + 8, true);
        inflight.note(low, high, length, word);
      }
      this.count++;
      this.id = word & 0xffff;
    }
    return OK;
  }
}
