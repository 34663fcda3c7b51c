/**
 * Inflight tracking of a packed queue: which requests were taken and not answered
 * yet, in memory that outlives this process.
 *
 * Theory of operation
 * -------------------
 * In a packed ring an answer overwrites a descriptor, not always that of its own
 * request, and no index in guest memory tells how far the device has come. So the
 * area keeps both: a copy of the descriptors of each request in flight, in
 * entries linked to each other, and the used position. Entries that hold nothing
 * are in a free list; a request takes as many from its front as it has
 * descriptors, and is known by the first.
 *
 * What changes together is changed by one store:
 *
 * - `note` fills entries that are still free; `take` then moves the head of the
 *   free list past them.
 * - `publishing` links the entries of a batch of answers in front of the free
 *   list and notes the new used position, the old ones beside both;
 * - then the queue marks the first answer of the batch used, which is the moment
 *   at which the driver may see the batch;
 * - `published` unmarks the requests and makes the new head and position the old
 *   ones.
 *
 * A successor that finds two different used positions looks at the ring: while
 * the entry at the old one is still marked available, nobody saw the batch and it
 * is rolled back, else it is committed. What is marked in flight and not in the
 * free list is submitted again, in the order of its numbers.
 *
 * A process that is killed stops between two instructions, and its stores stay:
 * what counts is their order in the program, not when they reach memory.
 *
 * The area is shared with the front-end, which is trusted by half: it is read in
 * {@linkcode PackedInflight.recover} alone, and every number is checked. Links and
 * heads that are needed afterwards are kept here.
 *
 * Layout, little-endian: `u64 features; u16 version; u16 desc_num; u16 free_head;
 * u16 old_free_head; u16 used_idx; u16 old_used_idx; u8 used_wrap_counter;
 * u8 old_used_wrap_counter; u8 padding[7];`, and from byte 32 on entries of
 * `u8 inflight; u8 padding; u16 next; u16 last; u16 num; u64 counter; u16 id;
 * u16 flags; u32 len; u64 addr;`. The free list ends with a link to an entry that
 * does not exist.
 *
 * Source: vhost-user.rst, "Inflight I/O tracking", `QueueRegionPacked`.
 *
 * @module
 */

import { VIRTQ_DESC_F_NEXT } from "./constants.ts";
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
import { AVAIL_USED, decodePosition, marksAt } from "./packed_ring.ts";
import type { KeptRequest } from "./kept_requests.ts";
import { QueueError } from "./queue_error.ts";

// Fields of the area, by index in units of their size.
const FREE_HEAD_U16 = 6;
const OLD_FREE_HEAD_U16 = 7;
/** Both heads of the free list. */
const HEADS_U32 = 3;
const USED_IDX_U16 = 8;
const OLD_USED_IDX_U16 = 9;
const USED_WRAP_U8 = 20;
const OLD_USED_WRAP_U8 = 21;
/** Both indices of used positions. */
const INDICES_U32 = 4;
/** Both used positions: the fields from byte 16 to 23. */
const USED_U64 = 2;

// Fields of an entry of 32 bytes.
const NEXT_U16 = 1;
const LAST_U16 = 2;
const NUM_U16 = 3;
/** `last` and `num`. */
const LIST_U32 = 1;
const COUNTER_U32 = 2;
const DESCRIPTOR_U32 = 4;

/**
 * Size in bytes of the area of one packed queue.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { packedInflightSize } from "./packed_inflight.ts";
 *
 * assertEquals(packedInflightSize(128), 4160);
 * ```
 */
export function packedInflightSize(entries: number): number {
  return inflightSize(entries, 32);
}

/** What a predecessor left. */
export interface Recovered {
  /** Whether there was a predecessor; else the position is that of the caller. */
  readonly found: boolean;
  /** Position of the next descriptor to use. */
  readonly used: number;
  /** Requests to submit again, in the order of their first taking. */
  readonly requests: readonly KeptRequest[];
}

interface Candidate {
  readonly entry: number;
  readonly counter: number;
}

/** The area of one packed queue. */
export class PackedInflight {
  /** Entries of the area: descriptors that it has room for. */
  readonly heads: number;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #longs: Float64Array;
  /** Links of the entries. */
  readonly #next: Uint16Array<ArrayBuffer>;
  /** Last entry of each request, by its first. */
  readonly #last: Uint16Array<ArrayBuffer>;
  /** First entry of each request, by buffer id. */
  readonly #entryOf: Uint16Array<ArrayBuffer>;
  /** First entries of the answered requests, the first ones first. */
  readonly #batch: Uint16Array<ArrayBuffer>;
  readonly #positions = new Float64Array(1);
  readonly #positionWords: Uint32Array = new Uint32Array(
    this.#positions.buffer,
  );
  /** Both wrap counters as they were stored last; -1: never. */
  #wraps = -1;
  #batched = 0;
  #freeHead = 0;
  /** The free entry that the next descriptor is noted in. */
  #end = 0;
  /** The one that the last was noted in. */
  #lastNoted = 0;
  #used = 0;
  #size = 0;
  readonly #counter = new RequestCounter();

  /**
   * Uses an area. One that was never used is all zeroes.
   *
   * @param bytes of the area, at a multiple of 8 in its buffer
   * @param heads size of the largest queue
   * @throws {QueueError} of kind `inflight-area` when it has no room for them, or
   * is of another layout
   */
  constructor(bytes: Uint8Array<ArrayBuffer>, heads: number) {
    const needed = packedInflightSize(heads);
    const views = viewInflight(bytes, needed, `${heads} descriptors`);
    this.heads = heads;
    this.#bytes = bytes;
    this.#halves = views.halves;
    this.#words = views.words;
    this.#longs = views.longs;
    this.#next = new Uint16Array(heads);
    this.#last = new Uint16Array(heads);
    this.#entryOf = new Uint16Array(heads);
    this.#batch = new Uint16Array(heads);
  }

  /**
   * Finds what a predecessor left, and makes the area consistent.
   *
   * @param size of the ring, at most {@linkcode PackedInflight.heads}
   * @param used where to begin in an area that was never used, as a position
   * @param flagsAt the flags of an entry of the ring now
   * @throws {QueueError} of kind `inflight-area` when it is of another layout or
   * its positions do not lie in the ring
   */
  recover(
    size: number,
    used: number,
    flagsAt: (index: number) => number,
  ): Recovered {
    this.#size = size;
    if (!inflightUsed(this.#halves, this.heads, `${this.heads} descriptors`)) {
      this.#initialize(used);
      return { found: false, used, requests: [] };
    }
    const head = this.#settle(flagsAt);
    const taken = new Uint8Array(this.heads);
    const free = this.#walkFreeList(head, taken);
    const requests: KeptRequest[] = [];
    let descriptors = 0;
    for (const { entry } of this.#candidates(taken)) {
      const request = this.#readRequest(entry, taken, size - descriptors);
      if (request === null || requests.some(({ id }) => id === request.id)) {
        this.store8(32 * (entry + 1), 0);
        continue;
      }
      descriptors += request.descriptors.length >> 2;
      this.#entryOf[request.id] = entry;
      requests.push(request);
    }
    this.#adoptLost(requests, free);
    return { found: true, used: this.#used, requests };
  }

  /** A chain is about to be read: its descriptors are noted in free entries. */
  begin(): void {
    this.#end = this.#freeHead;
  }

  /** The next descriptor of the chain, as it was read in the ring: four words. */
  note(low: number, high: number, length: number, word: number): void {
    const entry = this.#end;
    const at = 8 * (entry + 1) + DESCRIPTOR_U32;
    this.store32(at, word);
    this.store32(at + 1, length);
    this.store32(at + 2, low);
    this.store32(at + 3, high);
    this.#lastNoted = entry;
    this.#end = this.#next[entry];
  }

  /**
   * The request whose descriptors were noted was taken.
   *
   * @param count number of its descriptors
   */
  take(id: number, count: number): void {
    const first = this.#freeHead, counter = this.#counter;
    const at = 8 * (first + 1);
    counter.next();
    this.store32(at + COUNTER_U32, counter.low);
    this.store32(at + COUNTER_U32 + 1, counter.high);
    this.store32(at + LIST_U32, this.#lastNoted | count << 16);
    this.store8(32 * (first + 1), 1);
    this.#last[first] = this.#lastNoted;
    this.#entryOf[id] = first;
    this.#storeHeads(this.#end);
  }

  /** A request is given back: it will be taken again. */
  untake(id: number): void {
    const entry = this.#entryOf[id];
    this.#link(this.#last[entry], this.#freeHead);
    this.#storeHeads(entry);
    this.store8(32 * (entry + 1), 0);
  }

  /** The answer is in the ring, which does not show it yet. */
  answered(id: number): void {
    this.#batch[this.#batched++] = this.#entryOf[id];
  }

  /** The ring is about to show all answers, up to the position `used`. */
  publishing(used: number): void {
    let head = this.#freeHead;
    for (let i = 0; i < this.#batched; i++) {
      const entry = this.#batch[i];
      this.#link(this.#last[entry], head);
      head = entry;
    }
    this.store16(FREE_HEAD_U16, head);
    this.#storeUsed(used, this.#used);
    this.#freeHead = head;
  }

  /** The ring shows all answers. */
  published(used: number): void {
    for (let i = 0; i < this.#batched; i++) {
      this.store8(32 * (this.#batch[i] + 1), 0);
    }
    this.#batched = 0;
    this.#storeHeads(this.#freeHead);
    this.#storeUsed(used, used);
    this.#used = used;
  }

  #initialize(used: number): void {
    this.store16(DESC_NUM_U16, this.heads);
    for (let entry = 0; entry < this.heads; entry++) {
      this.store8(32 * (entry + 1), 0);
      this.#link(entry, entry + 1);
    }
    this.#storeHeads(0);
    this.#storeUsed(used, used);
    this.#used = used;
    this.store16(VERSION_U16, INFLIGHT_VERSION);
  }

  /**
   * Commits the last batch of answers, or rolls it back.
   *
   * @returns the head of the free list
   */
  #settle(flagsAt: (index: number) => number): number {
    const halves = this.#halves, bytes = this.#bytes;
    const oldIndex = halves[OLD_USED_IDX_U16];
    const next = this.#position(halves[USED_IDX_U16], bytes[USED_WRAP_U8]);
    const old = this.#position(oldIndex, bytes[OLD_USED_WRAP_U8]);
    const seen = next !== old &&
      (flagsAt(oldIndex) & AVAIL_USED) !== marksAt(old, this.#size);
    const head = halves[seen ? FREE_HEAD_U16 : OLD_FREE_HEAD_U16];
    this.#used = seen ? next : old;
    this.#storeHeads(head);
    this.#storeUsed(this.#used, this.#used);
    return head;
  }

  #position(index: number, wrap: number): number {
    const position = index > 0x7fff || wrap > 1
      ? -1
      : decodePosition(index | wrap << 15, this.#size);
    if (position >= 0) return position;
    throw new QueueError(
      "inflight-area",
      `Cannot go on where a predecessor stopped: used index ${index} with wrap ` +
        `counter ${wrap} does not lie in a packed ring of ${this.#size}`,
    );
  }

  /** Unmarks what is in the free list; its entries, and their links in `#next`. */
  #walkFreeList(head: number, taken: Uint8Array): number[] {
    const free: number[] = [];
    let entry = head;
    while (entry < this.heads && taken[entry] === 0) {
      taken[entry] = 1;
      free.push(entry);
      if (this.#bytes[32 * (entry + 1)] !== 0) this.store8(32 * (entry + 1), 0);
      entry = this.#halves[16 * (entry + 1) + NEXT_U16];
      this.#next[free.at(-1)!] = entry;
    }
    return free;
  }

  /** What is marked and not in the free list, in the order of its numbers. */
  #candidates(taken: Uint8Array): Candidate[] {
    const found: Candidate[] = [];
    for (let entry = 0; entry < this.heads; entry++) {
      if (taken[entry] !== 0 || this.#bytes[32 * (entry + 1)] !== 1) continue;
      const at = 8 * (entry + 1) + COUNTER_U32;
      const counter = inflightCounter(this.#words, at);
      found.push({ entry, counter });
    }
    found.sort((a, b) => a.counter - b.counter || a.entry - b.entry);
    // Above all others, and small enough to count on.
    this.#counter.set(Math.min(found.at(-1)?.counter ?? 0, 2 ** 52));
    return found;
  }

  /** Reads a request out of its entries; `null` when it cannot be one. */
  #readRequest(
    first: number,
    taken: Uint8Array,
    room: number,
  ): KeptRequest | null {
    const at = 16 * (first + 1);
    const last = this.#halves[at + LAST_U16];
    const count = this.#halves[at + NUM_U16];
    if (count < 1 || count > room) return null;
    const entries: number[] = [];
    for (let entry = first; entries.length < count;) {
      if (entry >= this.heads || taken[entry] !== 0) return null;
      if (entries.includes(entry)) return null;
      entries.push(entry);
      entry = this.#halves[16 * (entry + 1) + NEXT_U16];
    }
    if (entries.at(-1) !== last) return null;
    const descriptors = new Uint32Array(4 * count);
    let id = 0;
    entries.forEach((entry, i) => {
      const from = 8 * (entry + 1) + DESCRIPTOR_U32;
      const word = this.#words[from];
      id = word & 0xffff;
      const flags = (word >>> 16) & ~(AVAIL_USED | VIRTQ_DESC_F_NEXT) |
        (i < count - 1 ? VIRTQ_DESC_F_NEXT : 0);
      descriptors[4 * i] = this.#words[from + 2];
      descriptors[4 * i + 1] = this.#words[from + 3];
      descriptors[4 * i + 2] = this.#words[from + 1];
      descriptors[4 * i + 3] = id | flags << 16;
    });
    if (id >= this.#size) return null;
    for (const [i, entry] of entries.entries()) {
      taken[entry] = 1;
      this.#next[entry] = entries[i + 1] ?? this.heads;
    }
    this.#last[first] = last;
    return { id, descriptors };
  }

  /**
   * Entries that belong to nobody go to the free list. There are none, unless the
   * area was written to by somebody else.
   */
  #adoptLost(requests: readonly KeptRequest[], free: number[]): void {
    const held = new Uint8Array(this.heads);
    for (const entry of free) held[entry] = 1;
    for (const { id } of requests) {
      const first = this.#entryOf[id];
      for (let entry = first;; entry = this.#next[entry]) {
        held[entry] = 1;
        if (entry === this.#last[first]) break;
      }
    }
    const known = free.length;
    for (let entry = 0; entry < this.heads; entry++) {
      if (held[entry] === 0) free.push(entry);
    }
    const ends = known === 0 || this.#next[free[known - 1]] >= this.heads;
    if (free.length > known || !ends) {
      for (const [i, entry] of free.entries()) {
        this.#link(entry, free[i + 1] ?? this.heads);
      }
    }
    this.#freeHead = free[0] ?? this.heads;
    if (known === 0) this.#storeHeads(this.#freeHead);
  }

  #link(entry: number, next: number): void {
    this.#next[entry] = next;
    this.store16(16 * (entry + 1) + NEXT_U16, next);
  }

  #storeHeads(head: number): void {
    this.#freeHead = head;
    this.store32(HEADS_U32, head | head << 16);
  }

  /**
   * Both positions at once, since they are of use together only: all of it where
   * a wrap counter changes, else the indices alone.
   */
  #storeUsed(used: number, old: number): void {
    const size = this.#size;
    const now = used < size ? used : used - size;
    const before = old < size ? old : old - size;
    const indices = now | before << 16;
    const wraps = (used < size ? 1 : 0) | (old < size ? 0x100 : 0);
    if (wraps === this.#wraps) {
      this.store32(INDICES_U32, indices);
      return;
    }
    this.#wraps = wraps;
    this.#positionWords[0] = indices;
    this.#positionWords[1] = wraps;
    // The upper two bytes are 0: this is a number, whose bits stay as they are.
    this.store64(USED_U64);
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

  /** Stores the 64 bits of both positions; no float crosses the call. */
  protected store64(at: number): void {
    this.#longs[at] = this.#positions[0];
  }
}
