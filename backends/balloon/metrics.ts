/**
 * What a balloon counts.
 *
 * @module
 */

import { errnoName } from "../../sys/errno.ts";

/** Error numbers above this are counted as this. */
const LARGEST_ERRNO = 133;

/** Why a request had no effect. */
export const REFUSALS = {
  /** No feature that was negotiated goes with the queue. */
  queue: 0,
  /** The chain has more descriptors than the device works on. */
  segments: 1,
  /** The bytes are no whole entries; those that are whole count. */
  length: 2,
} as const;

const REFUSAL_NAMES = Object.keys(REFUSALS);

/** Counters of a balloon. Every one only grows. */
export class BalloonMetrics {
  /** Requests handed back to the driver. */
  completed = 0;
  /** Pages that the driver put into the balloon, repeated ones included. */
  inflatedPages = 0;
  /** Pages that the driver took out of the balloon, repeated ones included. */
  deflatedPages = 0;
  /** Bytes that the driver reported as free. */
  reportedBytes = 0;
  /** Bytes given back to the host. */
  discardedBytes = 0;
  /** System calls that gave them back. */
  discards = 0;
  /** Page numbers that lie outside of the guest's memory. */
  badPages = 0;
  /**
   * Bytes in inflate requests and reports that stayed in place: memory that is
   * no shared file, poisoned pages, ends of reports that are no whole pages of
   * the host, and everything while writes are logged.
   */
  keptBytes = 0;
  /** Buffers with statistics. */
  statistics = 0;
  readonly #refused = new Float64Array(REFUSAL_NAMES.length);
  readonly #errors = new Float64Array(LARGEST_ERRNO + 1);

  /** Counts a request that had no effect, or not all of it. */
  refuse(reason: number): void {
    this.#refused[reason]++;
  }

  /** Counts a page that could not be given back; true the first time. */
  fail(errno: number): boolean {
    return this.#errors[Math.min(errno, LARGEST_ERRNO)]++ === 0;
  }

  /** The counters as JSON; of errors and refusals, those that happened. */
  toJSON(): Record<string, unknown> {
    const refused: Record<string, number> = {};
    REFUSAL_NAMES.forEach((name, i) => {
      if (this.#refused[i] > 0) refused[name] = this.#refused[i];
    });
    const errors: Record<string, number> = {};
    this.#errors.forEach((count, errno) => {
      if (count > 0) errors[errnoName(errno)] = count;
    });
    return {
      completed: this.completed,
      inflatedPages: this.inflatedPages,
      deflatedPages: this.deflatedPages,
      reportedBytes: this.reportedBytes,
      discardedBytes: this.discardedBytes,
      discards: this.discards,
      badPages: this.badPages,
      keptBytes: this.keptBytes,
      statistics: this.statistics,
      refused,
      errors,
    };
  }
}
