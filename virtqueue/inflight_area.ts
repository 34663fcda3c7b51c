/**
 * What the areas of split and packed queues have in common: how they begin, how
 * long they are, and what an area that cannot be used is refused with. Nothing of
 * this but the counter is part of the work on a request.
 *
 * Both layouts begin with `u64 features; u16 version; u16 desc_num;`, go on with
 * fields of their own to the length of an entry, and then have one entry for each
 * descriptor of the queue.
 *
 * Source: vhost-user.rst, "Inflight I/O tracking".
 *
 * @module
 */

import { QueueError } from "./queue_error.ts";

/** Version of the layouts. */
export const INFLIGHT_VERSION = 1;
/** The size of an area is a multiple of this, in bytes. */
const ALIGNMENT = 64;
const TWO_32 = 4294967296;

/** `version`, by index in units of 16 bits. */
export const VERSION_U16 = 4;
/** `desc_num`, by index in units of 16 bits. */
export const DESC_NUM_U16 = 5;

/** Size in bytes of an area whose entries have as many bytes as what precedes them. */
export function inflightSize(entries: number, entryBytes: number): number {
  return Math.ceil(entryBytes * (1 + entries) / ALIGNMENT) * ALIGNMENT;
}

/** The bytes of an area, in units of several sizes. */
export interface InflightViews {
  /** In units of 16 bits. */
  readonly halves: Uint16Array<ArrayBuffer>;
  /** In units of 32 bits. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** In units of 64 bits. */
  readonly longs: Float64Array<ArrayBuffer>;
}

/**
 * Makes the windows of an area.
 *
 * @param needed bytes that it needs to have
 * @param what what it has room for, for people
 * @throws {QueueError} of kind `inflight-area` when it has no room, or does not
 * begin at a multiple of 8 in its buffer
 */
export function viewInflight(
  { buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>,
  needed: number,
  what: string,
): InflightViews {
  if (byteLength < needed || byteOffset % 8 !== 0) {
    throw new QueueError(
      "inflight-area",
      `Cannot track the requests of ${what}: the area has ${byteLength} bytes ` +
        `at offset ${byteOffset}, not ${needed} at a multiple of 8`,
    );
  }
  return {
    halves: new Uint16Array(buffer, byteOffset, byteLength >> 1),
    words: new Uint32Array(buffer, byteOffset, byteLength >> 2),
    longs: new Float64Array(buffer, byteOffset, byteLength >> 3),
  };
}

/**
 * Whether an area was used before; one that never was is all zeroes.
 *
 * @param halves the area in units of 16 bits
 * @param entries number of entries that it has to have
 * @param what the same, for people
 * @throws {QueueError} of kind `inflight-area` when it is of another layout
 */
export function inflightUsed(
  halves: Uint16Array,
  entries: number,
  what: string,
): boolean {
  const version = halves[VERSION_U16];
  if (version === 0) return false;
  const count = halves[DESC_NUM_U16];
  if (version === INFLIGHT_VERSION && count === entries) return true;
  throw new QueueError(
    "inflight-area",
    `Cannot track the requests of ${what}: the area is of version ${version} ` +
      `for ${count}, not of version ${INFLIGHT_VERSION}`,
  );
}

/** The number of a request: 64 bits, the lower word first. */
export function inflightCounter(words: Uint32Array, at: number): number {
  return words[at] + words[at + 1] * TWO_32;
}

/**
 * Numbers requests in the order in which they are taken: 64 bits, as two words,
 * since a request is numbered without a division.
 */
export class RequestCounter {
  /** Lower word of the last number. */
  low = 0;
  /** Upper word of it. */
  high = 0;

  /** Goes on behind a number, which is an integer from 0 to 2^53 - 1. */
  set(last: number): void {
    this.low = last >>> 0;
    this.high = Math.floor(last / TWO_32);
  }

  /** Moves on to the next number. */
  next(): void {
    this.low = (this.low + 1) >>> 0;
    if (this.low === 0) this.high++;
  }
}
