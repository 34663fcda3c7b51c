/**
 * Requests of a packed queue that a predecessor took and did not answer, as they
 * are handed from the area that they were noted in to the queue that submits them
 * again.
 *
 * @module
 */

import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_SIZE } from "./constants.ts";
import { advance, AVAIL_USED, entryAt } from "./packed_ring.ts";

/** A request that a predecessor took and did not answer. */
export interface KeptRequest {
  /** Its buffer id, below the size of the ring, and nobody else's. */
  readonly id: number;
  /**
   * Its descriptors: four words each as in the ring, without the marks, all but
   * the last with VIRTQ_DESC_F_NEXT.
   */
  readonly descriptors: Uint32Array<ArrayBuffer>;
}

/** The descriptors of requests, one behind the other. */
export interface KeptTable {
  /** All of them, 16 bytes each. */
  readonly table: DataView<ArrayBuffer>;
  /** Their number. */
  readonly total: number;
  /** The first one of each request. */
  readonly places: readonly number[];
}

/** Puts the descriptors of requests into one table. */
export function tableOf(requests: readonly KeptRequest[]): KeptTable {
  const places: number[] = [];
  let total = 0;
  for (const { descriptors } of requests) {
    places.push(total);
    total += descriptors.length >> 2;
  }
  const words = new Uint32Array(4 * total);
  requests.forEach(({ descriptors }, i) =>
    words.set(descriptors, 4 * places[i])
  );
  return { table: new DataView(words.buffer), total, places };
}

/**
 * Whether requests stand in a ring as they were taken from it, one behind the
 * other.
 *
 * @param table all that there were
 * @param places of their first descriptors, that of the first request last
 * @param ring its descriptors, four words each
 * @param used position of the next descriptor to use
 */
export function standInPackedRing(
  table: DataView<ArrayBuffer>,
  places: Int32Array<ArrayBuffer>,
  ring: Uint32Array<ArrayBuffer>,
  used: number,
): boolean {
  const size = ring.length >> 2;
  let position = used;
  for (const place of places.toReversed()) {
    let at = place * VIRTQ_DESC_SIZE, more = true;
    while (more) {
      const entry = 4 * entryAt(position, size);
      const word = table.getUint32(at + 12, true);
      more = (word >>> 16 & VIRTQ_DESC_F_NEXT) !== 0;
      const differs = (word ^ ring[entry + 3]) & ~(AVAIL_USED << 16);
      // Only the last descriptor of a chain has an id that counts.
      if (
        (more ? differs >>> 16 : differs) !== 0 ||
        table.getUint32(at, true) !== ring[entry] ||
        table.getUint32(at + 4, true) !== ring[entry + 1] ||
        table.getUint32(at + 8, true) !== ring[entry + 2]
      ) return false;
      position = advance(position, 1, size);
      at += VIRTQ_DESC_SIZE;
    }
  }
  return true;
}
