/**
 * Requests of a packed queue that a predecessor took and did not answer, as they
 * are handed from the area that they were noted in to the queue that submits them
 * again.
 *
 * @module
 */

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
