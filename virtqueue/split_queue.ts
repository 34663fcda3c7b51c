/**
 * A split virtqueue, device side.
 *
 * Theory of operation. The driver publishes heads of descriptor chains in the
 * available ring; the device answers in the used ring. Both indices run freely
 * and wrap at 2^16, whatever the size of the ring.
 *
 * A descriptor head is in one of three states: with the driver; available
 * (parked, or between `#position` and the available index); in flight (marked in
 * `#inFlight`, held by a chain object or about to be answered). `take` moves a
 * head from the second to the third, `complete` from the third to the first,
 * `untake` from the third back to the second: such a head is parked, and parked
 * heads are taken before new ones. The available ring is not read twice for
 * them, since the driver may have written over entries that were passed.
 *
 * With inflight tracking, a queue begins with the heads that a predecessor had in
 * flight: they are parked too, above all others, and taken in the order of their
 * first taking. Each of the moves above is noted in the area. What a device
 * abandons keeps its mark there: it is the next queue's.
 *
 * What the driver wrote wrongly is answered as narrowly as possible:
 *
 * - An available index that is ahead by more than the ring's size means that
 *   the ring itself is corrupt. It is marked broken and not touched again.
 * - A head that is no descriptor, or one that is in flight, is skipped: there
 *   is nobody to answer, and a second answer would answer the wrong request.
 * - Any other bad chain is answered with length 0.
 *
 * Answers become visible, and notifications are decided, in `publish` only. A
 * call of `take` looks at a bounded number of bad entries, so that a hostile
 * driver cannot keep it.
 *
 * All access to a chain's fate passes through `take`, `untake`, `abandon`,
 * `#answer` and `publish`: that is where requests are tracked. Writes are logged
 * where a chain is completed, before it is answered, and behind each write of the
 * used ring.
 *
 * Source: virtio 1.4, section 2.7. Legacy rings have the same layout.
 *
 * @module
 */

import type { DescriptorChain, OpenChain } from "./chain.ts";
import { ChainPool } from "./chain_pool.ts";
import { CompletionOrder } from "./completion_order.ts";
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
} from "./constants.ts";
import { CHAIN_OK, DescriptorReader } from "./descriptors.ts";
import type { DirtyLog } from "./dirty_log.ts";
import type { SplitInflight } from "./inflight.ts";
import { needEvent } from "./notification.ts";
import { loadAcquire, storeFence } from "./ordering.ts";
import { noCounters, type QueueCounters, type RunningQueue } from "./queue.ts";
import {
  lengthDoesNotFit,
  notInFlight,
  notTakenLast,
  QueueError,
  requireTracked,
} from "./queue_error.ts";
import {
  bindRings,
  checkOptions,
  SPLIT_HEAD_IN_FLIGHT,
  SPLIT_HEAD_RANGE,
  splitFault,
  type SplitQueueOptions,
  standInRing,
} from "./split_ring.ts";

export { QueueError, type QueueErrorKind } from "./queue_error.ts";
export type { SplitQueueOptions } from "./split_ring.ts";

/** Indices in the 16-bit windows of both rings: of `flags`, and of `idx`. */
const FLAGS = 0, INDEX = 1;
/** Index of the first entry of the available ring. */
const RING = 2;
/** Bytes of `flags` and `idx`, before the elements of the used ring. */
const USED_HEADER = 4;
/** Bytes of an element of the used ring. */
const USED_ELEMENT = 8;
/** Bad entries that one call of `take` looks at. */
const BAD_BUDGET = 32;

// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const OK = CHAIN_OK;
const NO_INTERRUPT = VIRTQ_AVAIL_F_NO_INTERRUPT;
const HEAD_RANGE = SPLIT_HEAD_RANGE;
const HEAD_IN_FLIGHT = SPLIT_HEAD_IN_FLIGHT;

/** The device side of a split virtqueue. */
export class SplitQueue implements RunningQueue {
  readonly index: number;
  readonly size: number;
  readonly counters: QueueCounters = noCounters();
  readonly #options: SplitQueueOptions;
  readonly #mask: number;
  readonly #eventIdx: boolean;
  readonly #alwaysNotify: boolean;
  readonly #pool: ChainPool;
  readonly #reader: DescriptorReader;
  readonly #inflight: SplitInflight | null;
  readonly #order: CompletionOrder | null;
  /** 1 for each head that was taken and not answered. */
  readonly #inFlight: Uint8Array<ArrayBuffer>;
  /** The chain object taken before each, by number in the pool. */
  readonly #takenBefore: Int32Array<ArrayBuffer>;
  /** Heads of the chains that were given back, the next to take last. */
  readonly #parkedHeads: Uint16Array<ArrayBuffer>;
  /** Their positions in the available ring. */
  readonly #parkedPositions: Uint16Array<ArrayBuffer>;
  /** 1 for those that a predecessor had taken. */
  readonly #parkedAgain: Uint8Array<ArrayBuffer>;
  #available: Uint16Array<ArrayBuffer>;
  #used: Uint16Array<ArrayBuffer>;
  #usedElements: Uint32Array<ArrayBuffer>;
  /** Position of the first entry that was never looked at. */
  #position: number;
  /** Number of chains that were given back. */
  #parked = 0;
  /** Number of those among them that a predecessor had taken. */
  #recovering = 0;
  /** The chain object taken last and not given back, by number in the pool. */
  #takenLast = -1;
  /** The available index as it was read last. */
  #availableIndex: number;
  /** The used index to publish next. */
  #usedIndex: number;
  /** The used index as the driver sees it. */
  #publishedIndex: number;
  #count = 0;
  #broken: string | null = null;
  #fault = CHAIN_OK;
  #faultHead = 0;
  /** Where writes are logged; `null`: nowhere. */
  #log: DirtyLog | null = null;
  /** Address at which writes to the used ring are logged; -1: they are not. */
  #usedLog = -1;

  /**
   * Starts a queue on a ring in guest memory. The used index is taken from the
   * ring; available-buffer notifications are enabled.
   *
   * @throws {QueueError} of kind `invalid-size`, `invalid-option`,
   * `unaligned-ring`, `ring-outside-memory`
   */
  constructor(options: SplitQueueOptions) {
    checkOptions(options);
    const { index, size, memory, position, maxSegments } = options;
    this.index = index;
    this.size = size;
    this.#options = options;
    this.#mask = size - 1;
    this.#eventIdx = options.eventIdx;
    this.#alwaysNotify = options.alwaysNotify ?? false;
    this.#order = options.inOrder ? new CompletionOrder(size) : null;
    this.#inFlight = new Uint8Array(size);
    this.#takenBefore = new Int32Array(options.slots ?? size);
    this.#parkedHeads = new Uint16Array(size);
    this.#parkedPositions = new Uint16Array(size);
    this.#parkedAgain = new Uint8Array(size);
    const views = bindRings(options);
    this.#available = views.available;
    this.#used = views.used;
    this.#usedElements = views.usedElements;
    this.#pool = new ChainPool(
      this,
      memory,
      options.slots ?? size,
      options.slotBase ?? 0,
      maxSegments,
    );
    this.#reader = new DescriptorReader(
      memory,
      views.descriptors,
      size,
      options.indirect,
      maxSegments,
    );
    this.#usedIndex = loadAcquire(this.#used, INDEX);
    this.#publishedIndex = this.#usedIndex;
    this.#inflight = options.inflight ?? null;
    this.#position = this.#recover(position);
    this.#availableIndex = this.#position;
    this.#used[FLAGS] = 0;
    this.enableNotification();
  }

  get inFlight(): number {
    return this.#count;
  }

  get unanswered(): number {
    return this.#order?.length ?? this.#count;
  }

  get available(): boolean {
    if (this.#broken !== null) return false;
    return this.#parked > 0 || this.#position !== this.#availableIndex ||
      this.#refresh();
  }

  get ready(): boolean {
    return this.#pool.ready && this.available;
  }

  get broken(): string | null {
    return this.#broken;
  }

  get recovering(): number {
    return this.#recovering;
  }

  get lastError(): string | null {
    if (this.#fault === CHAIN_OK) return null;
    return splitFault(this.#fault, this.#faultHead, this.size);
  }

  get position(): number {
    return this.#parked > 0
      ? this.#parkedPositions[this.#parked - 1]
      : this.#position;
  }

  get base(): number {
    if (this.#recovering === 0) return this.position;
    const given = this.#parked - this.#recovering, used = this.#usedIndex;
    const heads = this.#parkedHeads.subarray(given, this.#parked);
    const stand = this.#broken !== null ||
      standInRing(this.#available, this.size, used, heads);
    return stand ? used : -1;
  }

  get suspendedBase(): number {
    // What a predecessor had taken lies above what was given back.
    const given = this.#parked - this.#recovering;
    return given > 0 ? this.#parkedPositions[given - 1] : this.#position;
  }

  take(): DescriptorChain | null {
    const chain = this.#pool.peek();
    if (chain === null || this.#broken !== null) return null;
    for (let budget = BAD_BUDGET; budget > 0; budget--) {
      let position = this.#position;
      let head = 0;
      let resubmitted = false;
      if (this.#parked > 0) {
        this.#parked--;
        resubmitted = this.#parkedAgain[this.#parked] === 1;
        if (resubmitted) this.#recovering--;
        position = this.#parkedPositions[this.#parked];
        head = this.#parkedHeads[this.#parked];
      } else {
        if (position === this.#availableIndex && !this.#refresh()) return null;
        head = this.#available[RING + (position & this.#mask)];
        this.#position = (position + 1) & 0xffff;
      }
      let fault = HEAD_RANGE;
      if (head < this.size) {
        fault = HEAD_IN_FLIGHT;
        if (this.#inFlight[head] === 0) {
          fault = this.#reader.read(chain, head);
        }
      }
      if (fault === OK) {
        const open: OpenChain = chain;
        open.head = head;
        open.position = position;
        open.resubmitted = resubmitted;
        open.taken = true;
        this.#pool.drop();
        const number = this.#numberOf(chain);
        this.#takenBefore[number] = this.#takenLast;
        this.#takenLast = number;
        this.#inFlight[head] = 1;
        this.#count++;
        // One that comes again has its mark, and its number.
        if (this.#inflight !== null && !resubmitted) this.#inflight.take(head);
        if (this.#order !== null) this.#order.take(head);
        return chain;
      }
      this.#refuse(head, fault, resubmitted);
    }
    return null;
  }

  complete(chain: DescriptorChain, written: number): void {
    const head = chain.head;
    if (!chain.taken || chain.queue !== this) {
      throw notInFlight(this.index, head);
    }
    if (!(written >= 0 && written <= chain.writableLength)) {
      throw lengthDoesNotFit(this.index, head, written, chain.writableLength);
    }
    if (this.#log !== null) this.#log.markChain(chain);
    if (this.#order === null) {
      this.#inFlight[head] = 0;
      this.#answer(head, written);
    } else this.#answerInOrder(this.#order, head, written);
    this.#give(chain);
  }

  untake(chain: DescriptorChain): void {
    if (!chain.taken || chain.queue !== this) {
      throw notInFlight(this.index, chain.head);
    }
    const number = this.#numberOf(chain);
    if (number !== this.#takenLast) {
      throw notTakenLast(this.index, chain.head);
    }
    this.#takenLast = this.#takenBefore[number];
    this.#parkedPositions[this.#parked] = chain.position;
    this.#parkedHeads[this.#parked] = chain.head;
    this.#parkedAgain[this.#parked] = chain.resubmitted ? 1 : 0;
    this.#parked++;
    // It is not in the available ring: a successor finds it in the area alone.
    if (chain.resubmitted) this.#recovering++;
    else if (this.#inflight !== null) this.#inflight.untake(chain.head);
    if (this.#order !== null) this.#order.untake(chain.head);
    this.#inFlight[chain.head] = 0;
    this.#give(chain);
  }

  abandon(chain: DescriptorChain): void {
    requireTracked(this, chain, this.#inflight !== null);
    if (this.#log !== null) this.#log.markChain(chain);
    this.#give(chain);
  }

  publish(): boolean {
    const previous = this.#publishedIndex;
    const next = this.#usedIndex;
    if (next === previous || this.#broken !== null) return false;
    storeFence(this.#used, INDEX, next);
    this.#publishedIndex = next;
    if (this.#usedLog >= 0) this.#logElements(previous, next);
    if (this.#inflight !== null) this.#inflight.published(next);
    const wanted = this.#alwaysNotify ||
      (this.#eventIdx
        ? needEvent(this.#available[RING + this.size], next, previous)
        : (this.#available[FLAGS] & NO_INTERRUPT) === 0);
    if (wanted) this.counters.notifications++;
    return wanted;
  }

  enableNotification(): boolean {
    if (this.#broken !== null) return false;
    if (this.#eventIdx) {
      storeFence(this.#used, RING + 4 * this.size, this.#position);
      if (this.#usedLog >= 0) {
        this.#logUsed(USED_HEADER + USED_ELEMENT * this.size, 2);
      }
    } else {
      storeFence(this.#used, FLAGS, 0);
      if (this.#usedLog >= 0) this.#logUsed(0, 2);
    }
    return this.#pool.ready && (this.#refresh() || this.#parked > 0);
  }

  disableNotification(): void {
    // With EVENT_IDX an avail_event that is left behind asks for nothing.
    if (this.#eventIdx || this.#broken !== null) return;
    this.#used[FLAGS] = VIRTQ_USED_F_NO_NOTIFY;
    if (this.#usedLog >= 0) this.#logUsed(0, 2);
  }

  /** The used ring is logged as a whole at first: much was written before. */
  logWrites(log: DirtyLog | null, usedRing: number): void {
    this.#log = log;
    this.#usedLog = log === null ? -1 : usedRing;
    if (this.#usedLog >= 0) this.#logUsed(0, 2 * this.#used.length);
  }

  /**
   * Finds the rings again after the set of memory regions changed. Nothing may
   * be in flight that lies in a region which went away.
   *
   * @throws {QueueError} of kind `ring-outside-memory` or `unaligned-ring`; the
   * queue is then broken and touches memory no more.
   */
  rebind(): void {
    try {
      const views = bindRings(this.#options);
      this.#available = views.available;
      this.#used = views.used;
      this.#usedElements = views.usedElements;
      this.#reader.rebind(views.descriptors);
    } catch (error) {
      if (error instanceof QueueError) this.#break(error.message);
      throw error;
    }
  }

  /** Reads the available index; true when there is something to take. */
  #refresh(): boolean {
    if (this.#broken !== null) return false;
    const index = loadAcquire(this.#available, INDEX);
    const ahead = (index - this.#position) & 0xffff;
    if (ahead > this.size) {
      this.#break(
        `available index ${index} is ${ahead} ahead of ${this.#position}, ` +
          `more than the size ${this.size}`,
      );
      return false;
    }
    this.#availableIndex = index;
    return ahead !== 0;
  }

  /** Puts an answer into the used ring, to be published later. */
  #answer(head: number, written: number): void {
    const at = (this.#usedIndex & this.#mask) << 1;
    this.#usedElements[at] = head;
    this.#usedElements[at + 1] = written;
    this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
    this.counters.completed++;
    if (this.#inflight !== null) this.#inflight.answered(head);
  }

  /** Completes a request in its turn: all that are in line before it come first. */
  #answerInOrder(order: CompletionOrder, head: number, written: number): void {
    order.finish(head, written);
    for (let next = order.next(); next >= 0; next = order.next()) {
      this.#inFlight[next] = 0;
      this.#answer(next, order.written(next));
    }
  }

  /** Bytes of the used ring were written. */
  #logUsed(offset: number, length: number): void {
    this.#log!.mark(this.#usedLog + offset, length);
  }

  /** Elements of the used ring were written, and its index. */
  #logElements(previous: number, next: number): void {
    this.#logUsed(0, USED_HEADER);
    this.#log!.markEntries(
      this.#usedLog + USED_HEADER,
      USED_ELEMENT,
      previous & this.#mask,
      (next - previous) & 0xffff,
      this.size,
    );
  }

  /**
   * Parks what a predecessor left in flight.
   *
   * @param position where the front-end says to go on
   * @returns where to go on: behind what was answered and what is in flight
   */
  #recover(position: number): number {
    const heads = this.#inflight?.recover(this.#usedIndex, this.size) ?? [];
    if (heads.length === 0) return position;
    for (const [i, head] of heads.toReversed().entries()) {
      this.#parkedHeads[i] = head;
      this.#parkedPositions[i] = this.#usedIndex;
      this.#parkedAgain[i] = 1;
    }
    this.#parked = this.#recovering = heads.length;
    return (this.#usedIndex + heads.length) & 0xffff;
  }

  /** Ends the flight of a chain. */
  #give(chain: DescriptorChain): void {
    this.#count--;
    this.#pool.release(chain);
  }

  /** The number of a chain object in the pool. */
  #numberOf(chain: DescriptorChain): number {
    return chain.slot - (this.#options.slotBase ?? 0);
  }

  #refuse(head: number, fault: number, resubmitted: boolean): void {
    this.#fault = fault;
    this.#faultHead = head;
    this.counters.badChains++;
    if (fault <= CHAIN_OK) return;
    if (this.#order === null) return this.#answer(head, 0);
    // It waits in the line, as others do.
    this.#inFlight[head] = 1;
    if (this.#inflight !== null && !resubmitted) this.#inflight.take(head);
    this.#order.take(head);
    this.#answerInOrder(this.#order, head, 0);
  }

  #break(reason: string): void {
    this.#broken = reason;
    this.#availableIndex = this.#position;
  }
}
