/**
 * What a request of a block device waits for.
 *
 * @module
 */

/** Data is read. */
export const READING = 1;
/** Data is written. */
export const WRITING = 2;
/** The driver asked for a flush. */
export const FLUSHING = 3;
/** A range is discarded. */
export const DISCARDING = 4;
/** A range is zeroed. */
export const ZEROING = 5;
/** The data is written; a flush makes it durable. */
export const SYNCING = 6;

/** Whether a flush is under way. */
export function isFlush(phase: number): boolean {
  return phase === FLUSHING || phase === SYNCING;
}

/** The storage operation of each phase, for people. */
export const OPERATIONS: readonly string[] = [
  "nothing",
  "read",
  "write",
  "flush",
  "discard",
  "write of zeroes",
  "flush",
];
