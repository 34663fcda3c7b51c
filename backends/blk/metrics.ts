/**
 * What a block device counts.
 *
 * @module
 */

import { errnoName } from "../../sys/errno.ts";
import { REQUEST_OK, VERDICT_NAMES } from "./request.ts";

/** Error numbers above this are counted as this. */
const LARGEST_ERRNO = 133;

/** Counters of a block device. Every one only grows. */
export class BlkMetrics {
  /** Reads done. */
  reads = 0;
  /** Writes done. */
  writes = 0;
  /** Flushes done: those that the driver asked for. */
  flushes = 0;
  /** Discards done. */
  discards = 0;
  /** Write zeroes done. */
  writeZeroes = 0;
  /** Device IDs handed out. */
  getIds = 0;
  /** Bytes read. */
  bytesRead = 0;
  /** Bytes written. */
  bytesWritten = 0;
  /** Bytes discarded. */
  bytesDiscarded = 0;
  /** Bytes zeroed. */
  bytesZeroed = 0;
  /** Flushes that made single writes durable. */
  durableWrites = 0;
  /** Requests handed back to the driver, failed ones included. */
  completed = 0;
  readonly #refused = new Float64Array(VERDICT_NAMES.length);
  readonly #errors = new Float64Array(LARGEST_ERRNO + 1);

  /** Counts a request that was not done for what it said. */
  refuse(verdict: number): void {
    this.#refused[verdict]++;
  }

  /** Counts a storage operation that failed. */
  fail(errno: number): void {
    this.#errors[Math.min(Math.max(errno, 0), LARGEST_ERRNO)]++;
  }

  /** The counters as JSON; of errors and refusals, those that happened. */
  toJSON(): Record<string, unknown> {
    const refused: Record<string, number> = {};
    for (let i = REQUEST_OK + 1; i < VERDICT_NAMES.length; i++) {
      if (this.#refused[i] > 0) refused[VERDICT_NAMES[i]] = this.#refused[i];
    }
    const errors: Record<string, number> = {};
    this.#errors.forEach((count, errno) => {
      if (count > 0) errors[errnoName(errno)] = count;
    });
    return {
      reads: this.reads,
      writes: this.writes,
      flushes: this.flushes,
      discards: this.discards,
      writeZeroes: this.writeZeroes,
      getIds: this.getIds,
      bytesRead: this.bytesRead,
      bytesWritten: this.bytesWritten,
      bytesDiscarded: this.bytesDiscarded,
      bytesZeroed: this.bytesZeroed,
      durableWrites: this.durableWrites,
      completed: this.completed,
      refused,
      errors,
    };
  }
}
