/**
 * Where the writes of a packed queue to its own ring are logged.
 *
 * Theory of operation: front-ends tell one address of each ring, that of what is
 * the used ring of a split one, and the device event structure of a packed one.
 * Answers are in the ring of descriptors; that is logged where it lies.
 *
 * @module
 */

import { VIRTQ_DESC_SIZE } from "./constants.ts";
import type { DirtyLog } from "./dirty_log.ts";
import { entriesBetween, entryAt } from "./packed_ring.ts";

/** Bytes of an event suppression structure. */
const EVENT_BYTES = 4;

/** Marks what a queue writes of its ring. */
export class PackedRingLog {
  readonly #log: DirtyLog;
  readonly #ring: number;
  readonly #size: number;
  readonly #event: number;

  /**
   * Marks all of the ring: much was written before.
   *
   * @param ring guest address of the descriptors, of which there are `size`
   * @param event guest address at which the device event structure is logged
   */
  constructor(log: DirtyLog, ring: number, size: number, event: number) {
    this.#log = log;
    this.#ring = ring;
    this.#size = size;
    this.#event = event;
    log.mark(ring, VIRTQ_DESC_SIZE * size);
    this.event();
  }

  /** Descriptors from one position to another were written over with answers. */
  answers(from: number, to: number): void {
    this.#log.markEntries(
      this.#ring,
      VIRTQ_DESC_SIZE,
      entryAt(from, this.#size),
      entriesBetween(from, to, this.#size),
      this.#size,
    );
  }

  /** The device event structure was written. */
  event(): void {
    this.#log.mark(this.#event, EVENT_BYTES);
  }
}
