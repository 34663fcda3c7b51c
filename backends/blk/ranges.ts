/**
 * The ranges of a discard or a write of zeroes, worked on one after the other.
 *
 * @module
 */

import type { IoTable } from "../../sys/io_table.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import {
  type Storage,
  STORAGE_DISCARD,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "../storage/storage.ts";
import {
  RANGE_FLAG_UNMAP,
  RANGE_SIZE,
  REQUEST_HEADER_SIZE,
  SECTOR_SIZE,
} from "./protocol.ts";
import { type BlkRequest, REQUEST_OK } from "./request.ts";

/** All ranges of a request are done; what `next` says else is a verdict. */
export const RANGES_DONE = -1;

/** Where the requests of all slots stand in their ranges. */
export class Ranges {
  readonly #storage: Storage;
  readonly #table: IoTable;
  readonly #unmaps: boolean;
  /** The range to work on next, by slot. */
  readonly #next: Uint16Array<ArrayBuffer>;

  /** @param discards whether zeroing may free what it zeroes */
  constructor(storage: Storage, table: IoTable, discards: boolean) {
    this.#storage = storage;
    this.#table = table;
    this.#unmaps = discards && storage.canUnmap;
    this.#next = new Uint16Array(table.slots);
  }

  /** A request begins. */
  begin(slot: number): void {
    this.#next[slot] = 0;
  }

  /**
   * Submits the next range that is not empty.
   *
   * @param request reads the ranges, again, and judges them
   * @param capacity in sectors
   * @returns `REQUEST_OK` when one was submitted, {@linkcode RANGES_DONE}, or
   * what is wrong with one
   */
  next(
    chain: DescriptorChain,
    request: BlkRequest,
    discard: boolean,
    capacity: number,
  ): number {
    const storage = this.#storage, table = this.#table, slot = chain.slot;
    const count = (chain.readableLength - REQUEST_HEADER_SIZE) / RANGE_SIZE;
    while (this.#next[slot] < count) {
      request.readRange(chain, this.#next[slot]++);
      const verdict = request.judgeRange(discard, capacity, storage.blockSize);
      if (verdict !== REQUEST_OK) return verdict;
      if (request.rangeSectors === 0) continue;
      table.offsets[slot] = request.rangeSector * SECTOR_SIZE;
      table.lengths[slot] = request.rangeSectors * SECTOR_SIZE;
      storage.submit(slot, this.#operation(discard, request.rangeFlags));
      return REQUEST_OK;
    }
    return RANGES_DONE;
  }

  #operation(discard: boolean, flags: number): 3 | 4 | 5 {
    if (discard) return STORAGE_DISCARD;
    return this.#unmaps && (flags & RANGE_FLAG_UNMAP) !== 0
      ? STORAGE_WRITE_ZEROES_UNMAP
      : STORAGE_WRITE_ZEROES;
  }
}
