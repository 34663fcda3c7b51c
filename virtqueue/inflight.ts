/**
 * Inflight tracking of a split queue: which requests were taken and not answered
 * yet, in memory that outlives this process.
 *
 * Theory of operation
 * -------------------
 * The used ring tells how many requests were answered, not which are left: a
 * device may answer in any order. So each head has an entry in an area that the
 * front-end keeps, and gives to the next back-end when this one has died:
 *
 * - `take` numbers the request and marks its head;
 * - `answered` links the head into the batch of answers that will become visible
 *   together;
 * - then the queue stores the used index, which is the moment at which the driver
 *   may see the batch;
 * - `published` unmarks the heads of the batch, and notes the used index.
 *
 * Whoever finds that the noted used index is behind the real one knows that its
 * predecessor died between the last two steps, and unmarks the heads of that
 * batch itself, along the links. What is still marked was taken and not answered,
 * and is submitted again, in the order of its numbers. A request may be carried
 * out twice like that, never answered twice, and none is lost.
 *
 * A process that is killed stops between two instructions, and its stores stay:
 * what counts is their order in the program, not when they reach memory.
 *
 * The area is shared with the front-end, which is trusted by half: it is read in
 * {@linkcode SplitInflight.recover} alone, each field once, and every number of a
 * head is checked. Afterwards what is needed is kept here.
 *
 * Layout, little-endian: `u64 features; u16 version; u16 desc_num;
 * u16 last_batch_head; u16 used_idx;`, then for each head `u8 inflight;
 * u8 padding[5]; u16 next; u64 counter;`.
 *
 * Source: vhost-user.rst, "Inflight I/O tracking", `QueueRegionSplit`.
 *
 * @module
 */

import {
  DESC_NUM_U16,
  INFLIGHT_VERSION,
  inflightCounter,
  inflightSize,
  inflightUsed,
  RequestCounter,
  VERSION_U16,
  viewInflight,
} from "./inflight_area.ts";

// Fields of the area, and of the entry of a head, which are 16 bytes each.
const LAST_BATCH_HEAD_U16 = 6;
const USED_IDX_U16 = 7;
const NEXT_U16 = 3;
const COUNTER_U32 = 2;

/**
 * Size in bytes of the area of one split queue.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { splitInflightSize } from "./inflight.ts";
 *
 * assertEquals(splitInflightSize(128), 2112);
 * ```
 */
export function splitInflightSize(heads: number): number {
  return inflightSize(heads, 16);
}

/** The area of one split queue. */
export class SplitInflight {
  /** Heads that the area has room for. */
  readonly heads: number;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  /** The batch: its heads, the first ones first. */
  readonly #batch: Uint16Array;
  #batched = 0;
  readonly #counter = new RequestCounter();

  /**
   * Uses an area. One that was never used is all zeroes, and is made ready.
   *
   * @param bytes of the area, at a multiple of 8 in its buffer
   * @param heads size of the largest queue
   * @throws {QueueError} of kind `inflight-area` when it has no room for them, or
   * is of another layout
   */
  constructor(bytes: Uint8Array<ArrayBuffer>, heads: number) {
    const what = `${heads} heads`;
    const views = viewInflight(bytes, splitInflightSize(heads), what);
    this.heads = heads;
    this.#bytes = bytes;
    this.#halves = views.halves;
    this.#words = views.words;
    this.#batch = new Uint16Array(heads);
    if (!inflightUsed(this.#halves, heads, what)) {
      this.store16(DESC_NUM_U16, heads);
      this.store16(VERSION_U16, INFLIGHT_VERSION);
    }
  }

  /**
   * Finds what a predecessor left, and makes the area consistent.
   *
   * @param used the used index as it is in the ring
   * @param size of the ring, at most {@linkcode SplitInflight.heads}
   * @returns heads of the requests to be submitted again, in their order; all
   * distinct and below `size`
   */
  recover(used: number, size: number): number[] {
    const halves = this.#halves;
    let left = (used - halves[USED_IDX_U16]) & 0xffff;
    if (left > size) left = 0; // The note of another life of the ring.
    for (let head = halves[LAST_BATCH_HEAD_U16]; left > 0; left--) {
      if (head >= size) break;
      const next = halves[8 * (head + 1) + NEXT_U16];
      this.store8(16 * (head + 1), 0);
      head = next;
    }
    this.store16(USED_IDX_U16, used);
    const found: { head: number; counter: number }[] = [];
    for (let head = 0; head < size; head++) {
      if (this.#bytes[16 * (head + 1)] !== 1) continue;
      const at = 4 * (head + 1) + COUNTER_U32;
      const counter = inflightCounter(this.#words, at);
      found.push({ head, counter });
    }
    found.sort((a, b) => a.counter - b.counter || a.head - b.head);
    // Above all others, and small enough to count on.
    this.#counter.set(Math.min(found.at(-1)?.counter ?? 0, 2 ** 52));
    return found.map(({ head }) => head);
  }

  /** A request was taken. */
  take(head: number): void {
    const counter = this.#counter;
    const at = 4 * (head + 1) + COUNTER_U32;
    counter.next();
    this.store32(at, counter.low);
    this.store32(at + 1, counter.high);
    this.store8(16 * (head + 1), 1);
  }

  /** A request is given back: it will be taken again. */
  untake(head: number): void {
    this.store8(16 * (head + 1), 0);
  }

  /** The answer is in the used ring, which does not show it yet. */
  answered(head: number): void {
    const halves = this.#halves;
    this.store16(8 * (head + 1) + NEXT_U16, halves[LAST_BATCH_HEAD_U16]);
    this.store16(LAST_BATCH_HEAD_U16, head);
    this.#batch[this.#batched++] = head;
  }

  /** The used ring shows all answers, up to `used`. */
  published(used: number): void {
    for (let i = 0; i < this.#batched; i++) {
      this.store8(16 * (this.#batch[i] + 1), 0);
    }
    this.#batched = 0;
    this.store16(USED_IDX_U16, used);
  }

  // The stores, by index in units of their size.

  /** Stores a byte. */
  protected store8(at: number, value: number): void {
    this.#bytes[at] = value;
  }

  /** Stores 16 bits. */
  protected store16(at: number, value: number): void {
    this.#halves[at] = value;
  }

  /** Stores 32 bits. */
  protected store32(at: number, value: number): void {
    this.#words[at] = value;
  }
}
