/**
 * A packed virtqueue, device side.
 *
 * Theory of operation. Driver and device share one ring of descriptors. The
 * driver writes chains into it and marks them available; the device reads them in
 * that order, and writes an answer for each, in the order of completion, over
 * descriptors that it has read, and marks it used. An answer stands for the whole
 * chain: the next one is written as many entries further as the chain has
 * descriptors. Both sides count on their own, with a wrap counter that tells one
 * lap from the next; no index is shared (positions: `packed_ring.ts`).
 *
 * So all entries from the used position to the available one belong to the
 * device, never more than the ring has. Chains are known by the buffer id that
 * the driver chose. Taking, parking (`untake`) and answering are as in
 * `split_queue.ts`, and so is what happens to bad chains, with these differences:
 *
 * - A chain whose end cannot be found, or which the driver cannot have, makes the
 *   ring corrupt: it is marked broken and not touched again.
 * - A chain with an id that is beyond the ring, or in flight, is never answered;
 *   its descriptors stay with the device.
 *
 * Answers of a batch are written at once, but for the flags of the first, which
 * `publish` stores behind a full fence: until the driver sees that one it looks at
 * no other. A process that dies in between leaves marks that were never true;
 * its successor takes them back before it does anything else.
 *
 * Writes are logged as in `split_queue.ts`, those to the ring by `packed_log.ts`.
 *
 * Source: virtio 1.4, section 2.8.
 *
 * @module
 */

import type { DescriptorChain, OpenChain } from "./chain.ts";
import { ChainPool } from "./chain_pool.ts";
import { CompletionOrder } from "./completion_order.ts";
import {
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "./constants.ts";
import { CHAIN_OK } from "./descriptors.ts";
import type { DirtyLog } from "./dirty_log.ts";
import { standInPackedRing, tableOf } from "./kept_requests.ts";
import { wantsPacked } from "./notification.ts";
import { loadAcquire, storeEvent, storeFence } from "./ordering.ts";
import {
  ID_IN_FLIGHT,
  ID_RANGE,
  packedFault,
  PackedReader,
  RING_WRAP,
} from "./packed_descriptors.ts";
import type { PackedInflight } from "./packed_inflight.ts";
import { PackedRingLog } from "./packed_log.ts";
import {
  advance,
  bindPacked,
  checkPacked,
  countAvailable,
  encodeBase,
  encodePosition,
  entryAt,
  type PackedBase,
  type PackedQueueOptions,
  RING_EVENT_ENABLE,
  takeMarksBack,
} from "./packed_ring.ts";
import { noCounters, type QueueCounters, type RunningQueue } from "./queue.ts";
import {
  lengthDoesNotFit,
  notInFlight,
  notTakenLast,
  QueueError,
  requireTracked,
} from "./queue_error.ts";

export type { PackedQueueOptions } from "./packed_ring.ts";

/** Bad chains that one call of `take` looks at. */
const BAD_BUDGET = 32;

// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const OK = CHAIN_OK;
const WRAP = RING_WRAP;
const AVAIL = VIRTQ_DESC_F_AVAIL;
const USED = VIRTQ_DESC_F_USED;
const WRITE = VIRTQ_DESC_F_WRITE;

/** The device side of a packed virtqueue. */
export class PackedQueue implements RunningQueue {
  readonly index: number;
  readonly size: number;
  readonly counters: QueueCounters = noCounters();
  readonly #options: PackedQueueOptions;
  readonly #eventIdx: boolean;
  readonly #alwaysNotify: boolean;
  readonly #slotBase: number;
  readonly #pool: ChainPool;
  readonly #reader: PackedReader;
  readonly #inflight: PackedInflight | null;
  readonly #order: CompletionOrder | null;
  /** Number of descriptors of each chain in flight, by id; 0: there is none. */
  readonly #members: Uint16Array<ArrayBuffer>;
  /** The chain object taken before each, by number in the pool. */
  readonly #takenBefore: Int32Array<ArrayBuffer>;
  /** Positions of the chains that were given back, the next to take last. */
  readonly #parkedPositions: Uint16Array<ArrayBuffer>;
  /** Where they are in `#kept`; below 0: as many descriptors in the ring. */
  readonly #parkedKept: Int32Array<ArrayBuffer>;
  /** Where the chain of an id is in `#kept`. */
  readonly #keptOf: Uint16Array<ArrayBuffer>;
  /** Descriptors of the chains that a predecessor had taken. */
  #kept: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));
  #halves: Uint16Array<ArrayBuffer>;
  #words: Uint32Array<ArrayBuffer>;
  #driverEvent: Uint32Array<ArrayBuffer>;
  #deviceEvent: Uint32Array<ArrayBuffer>;
  /** Position of the first descriptor that was never taken. */
  #position: number;
  /** Descriptors from there on that are known to be available. */
  #ahead = 0;
  /** Position of the next answer. */
  #usedPosition: number;
  /** Position of the first answer that the driver does not see. */
  #publishedPosition: number;
  /** Entry of that answer, when there is one, else -1. */
  #firstAnswer = -1;
  /** Its flags. */
  #firstFlags = 0;
  /** Number of chains that were given back. */
  #parked = 0;
  /** Number of those among them that a predecessor had taken. */
  #recovering = 0;
  /** The chain object taken last and not given back, by number in the pool. */
  #takenLast = -1;
  #count = 0;
  #broken: string | null = null;
  #fault = CHAIN_OK;
  #faultId = 0;
  /** Where writes to buffers are logged, and to the ring; `null`: nowhere. */
  #log: DirtyLog | null = null;
  #ringLog: PackedRingLog | null = null;

  /**
   * Starts a queue on a ring in guest memory; available-buffer notifications are
   * enabled. Where requests are tracked, the area says where a predecessor
   * stopped; else the `position` of the options does.
   *
   * @throws {QueueError} of kind `invalid-size`, `invalid-option`,
   * `unaligned-ring`, `ring-outside-memory`, `inflight-area`
   */
  constructor(options: PackedQueueOptions) {
    const base = checkPacked(options);
    const { index, size, memory, maxSegments } = options;
    const { slots = size, slotBase = 0 } = options;
    this.index = index;
    this.size = size;
    this.#options = options;
    this.#eventIdx = options.eventIdx;
    this.#alwaysNotify = options.alwaysNotify ?? false;
    this.#slotBase = slotBase;
    this.#inflight = options.inflight ?? null;
    this.#order = options.inOrder ? new CompletionOrder(size) : null;
    this.#members = new Uint16Array(size);
    this.#takenBefore = new Int32Array(slots);
    this.#parkedPositions = new Uint16Array(size);
    this.#parkedKept = new Int32Array(size);
    this.#keptOf = new Uint16Array(size);
    const views = bindPacked(options);
    this.#halves = views.halves;
    this.#words = views.words;
    this.#driverEvent = views.driverEvent;
    this.#deviceEvent = views.deviceEvent;
    this.#pool = new ChainPool(this, memory, slots, slotBase, maxSegments);
    this.#reader = new PackedReader(
      memory,
      views.descriptors,
      size,
      options.indirect,
      maxSegments,
      this.#inflight,
    );
    this.#position = base.available;
    this.#usedPosition = base.used;
    this.#recover(base);
    this.#publishedPosition = this.#usedPosition;
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
    return this.#parked > 0 || this.#ahead > 0 || this.#refresh();
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
    return packedFault(this.#fault, this.#faultId, this.size);
  }

  get position(): number {
    return this.#parked > 0
      ? this.#parkedPositions[this.#parked - 1]
      : this.#position;
  }

  get base(): number {
    const used = this.#usedPosition, size = this.size;
    if (this.#recovering === 0) return encodeBase(this.position, used, size);
    const first = this.#parked - this.#recovering;
    const places = this.#parkedKept.subarray(first, this.#parked);
    const stand = this.#broken !== null ||
      standInPackedRing(this.#kept, places, this.#words, used);
    return stand ? encodeBase(used, used, size) : -1;
  }

  get suspendedBase(): number {
    const given = this.#parked - this.#recovering;
    const next = given > 0 ? this.#parkedPositions[given - 1] : this.#position;
    return encodeBase(next, this.#usedPosition, this.size);
  }

  take(): DescriptorChain | null {
    const chain = this.#pool.peek();
    if (chain === null || this.#broken !== null) return null;
    const reader = this.#reader, size = this.size;
    for (let budget = BAD_BUDGET; budget > 0; budget--) {
      let position = this.#position;
      let kept = -1;
      let fault: number;
      if (this.#parked > 0) {
        this.#parked--;
        position = this.#parkedPositions[this.#parked];
        kept = this.#parkedKept[this.#parked];
        if (kept >= 0) {
          this.#recovering--;
          fault = reader.readKept(chain, this.#kept, kept);
        } else fault = this.#read(chain, position, -kept);
      } else {
        if (this.#ahead === 0 && !this.#refresh()) return null;
        fault = this.#read(chain, position, this.#room());
        if (fault > WRAP) {
          const next = position + reader.count;
          this.#position = next < 2 * size ? next : next - 2 * size;
          const ahead = this.#ahead - reader.count;
          this.#ahead = ahead > 0 ? ahead : 0;
        }
      }
      if (fault <= WRAP) {
        this.#break(packedFault(fault, entryAt(position, size), size));
        return null;
      }
      const id = reader.id;
      if (id >= size) this.#skip(id, ID_RANGE);
      else if (this.#members[id] !== 0) this.#skip(id, ID_IN_FLIGHT);
      else {
        this.#members[id] = reader.count;
        if (this.#order !== null) this.#order.take(id);
        // One that comes again has its entries, and its number.
        if (kept >= 0) this.#keptOf[id] = kept;
        else if (this.#inflight !== null) this.#inflight.take(id, reader.count);
        if (fault === OK) {
          const open: OpenChain = chain;
          open.head = id;
          open.position = position;
          open.resubmitted = kept >= 0;
          open.taken = true;
          this.#pool.drop();
          const number = chain.slot - this.#slotBase;
          this.#takenBefore[number] = this.#takenLast;
          this.#takenLast = number;
          this.#count++;
          return chain;
        }
        this.#skip(id, fault);
        this.#finish(id, 0);
      }
    }
    return null;
  }

  complete(chain: DescriptorChain, written: number): void {
    const id = chain.head;
    if (!chain.taken || chain.queue !== this) throw notInFlight(this.index, id);
    if (!(written >= 0 && written <= chain.writableLength)) {
      throw lengthDoesNotFit(this.index, id, written, chain.writableLength);
    }
    if (this.#log !== null) this.#log.markChain(chain);
    this.#finish(id, written);
    this.#give(chain);
  }

  untake(chain: DescriptorChain): void {
    const id = chain.head;
    if (!chain.taken || chain.queue !== this) throw notInFlight(this.index, id);
    const number = chain.slot - this.#slotBase;
    if (number !== this.#takenLast) throw notTakenLast(this.index, id);
    this.#takenLast = this.#takenBefore[number];
    this.#parkedPositions[this.#parked] = chain.position;
    this.#parkedKept[this.#parked] = chain.resubmitted
      ? this.#keptOf[id]
      : -this.#members[id];
    this.#parked++;
    if (this.#order !== null) this.#order.untake(id);
    // It may be in the ring no more: a successor finds it in the area alone.
    if (chain.resubmitted) this.#recovering++;
    else if (this.#inflight !== null) this.#inflight.untake(id);
    this.#members[id] = 0;
    this.#give(chain);
  }

  abandon(chain: DescriptorChain): void {
    requireTracked(this, chain, this.#inflight !== null);
    if (this.#log !== null) this.#log.markChain(chain);
    this.#give(chain);
  }

  publish(): boolean {
    const first = this.#firstAnswer;
    if (first < 0 || this.#broken !== null) return false;
    const previous = this.#publishedPosition;
    const next = this.#usedPosition;
    if (this.#inflight !== null) this.#inflight.publishing(next);
    storeFence(this.#halves, first * 8 + 7, this.#firstFlags);
    this.#firstAnswer = -1;
    this.#publishedPosition = next;
    if (this.#ringLog !== null) this.#ringLog.answers(previous, next);
    if (this.#inflight !== null) this.#inflight.published(next);
    const event = this.#driverEvent[0], eventIdx = this.#eventIdx;
    const wanted = this.#alwaysNotify ||
      wantsPacked(event, eventIdx, next, previous, this.size);
    if (wanted) this.counters.notifications++;
    return wanted;
  }

  enableNotification(): boolean {
    if (this.#broken !== null) return false;
    const event = this.#eventIdx
      ? encodePosition(this.#position, this.size) | RING_EVENT_FLAGS_DESC << 16
      : RING_EVENT_ENABLE;
    storeEvent(this.#deviceEvent, event);
    if (this.#ringLog !== null) this.#ringLog.event();
    return this.#pool.ready &&
      (this.#parked > 0 || this.#ahead > 0 || this.#refresh());
  }

  disableNotification(): void {
    if (this.#broken !== null) return;
    this.#deviceEvent[0] = RING_EVENT_FLAGS_DISABLE << 16;
    if (this.#ringLog !== null) this.#ringLog.event();
  }

  logWrites(log: DirtyLog | null, usedRing: number): void {
    const { descriptorTable } = this.#options;
    this.#log = log;
    this.#ringLog = log === null || usedRing < 0
      ? null
      : new PackedRingLog(log, descriptorTable, this.size, usedRing);
  }

  /**
   * Finds the ring again after the set of memory regions changed. Nothing may be
   * in flight that lies in a region which went away.
   *
   * @throws {QueueError} of kind `ring-outside-memory` or `unaligned-ring`; the
   * queue is then broken and touches memory no more.
   */
  rebind(): void {
    try {
      const views = bindPacked(this.#options);
      this.#halves = views.halves;
      this.#words = views.words;
      this.#driverEvent = views.driverEvent;
      this.#deviceEvent = views.deviceEvent;
      this.#reader.rebind(views.descriptors);
      this.#ahead = 0;
    } catch (error) {
      if (error instanceof QueueError) this.#break(error.message);
      throw error;
    }
  }

  /** Looks for available descriptors; true when there is something to take. */
  #refresh(): boolean {
    if (this.#broken !== null) return false;
    const halves = this.#halves, size = this.size;
    const room = this.#room();
    const ahead = countAvailable(halves, this.#position, size, room);
    if (ahead > 0 && room === 0) {
      this.#break(
        `descriptor ${entryAt(this.#position, size)} is available although ` +
          `all ${size} of the ring are with the device`,
      );
      return false;
    }
    this.#ahead = ahead;
    return ahead > 0;
  }

  #read(chain: OpenChain, position: number, limit: number): number {
    const size = this.size, firstLap = position < size;
    const entry = firstLap ? position : position - size;
    return this.#reader.read(chain, entry, firstLap ? AVAIL : USED, limit);
  }

  /** Answers a chain, now or when its turn comes. */
  #finish(id: number, written: number): void {
    const order = this.#order;
    if (order === null) return this.#answer(id, written);
    order.finish(id, written);
    for (let next = order.next(); next >= 0; next = order.next()) {
      this.#answer(next, order.written(next));
    }
  }

  /** Puts an answer into the ring, to be published later. */
  #answer(id: number, written: number): void {
    const position = this.#usedPosition, size = this.size;
    const index = position < size ? position : position - size;
    const flags = (position < size ? AVAIL | USED : 0) |
      (written > 0 ? WRITE : 0);
    this.#words[index * 4 + 2] = written;
    if (this.#firstAnswer < 0) {
      this.#halves[index * 8 + 6] = id;
      this.#firstAnswer = index;
      this.#firstFlags = flags;
    } else this.#words[index * 4 + 3] = flags << 16 | id;
    const next = position + this.#members[id];
    this.#usedPosition = next < 2 * size ? next : next - 2 * size;
    this.#members[id] = 0;
    this.counters.completed++;
    if (this.#inflight !== null) this.#inflight.answered(id);
  }

  /** Begins where a predecessor stopped, if there was one. */
  #recover(base: PackedBase): void {
    const inflight = this.#inflight, size = this.size;
    if (inflight === null) return;
    const flags = (index: number) => loadAcquire(this.#halves, index * 8 + 7);
    const { found, used, requests } = inflight.recover(size, base.used, flags);
    if (!found) return;
    const { table, total, places } = tableOf(requests);
    // The first one is to be taken first, and so lies last.
    this.#parkedKept.set(places.toReversed());
    this.#parkedPositions.fill(used, 0, places.length);
    this.#kept = table;
    this.#parked = this.#recovering = requests.length;
    this.#usedPosition = used;
    this.#position = advance(used, total, this.size);
    takeMarksBack(this.#halves, used, total, size);
  }

  /** Ends the flight of a chain object. */
  #give(chain: DescriptorChain): void {
    this.#count--;
    this.#pool.release(chain);
  }

  #skip(id: number, fault: number): void {
    this.#fault = fault;
    this.#faultId = id;
    this.counters.badChains++;
  }

  /** Descriptors that the driver has: it does not know of what is not published. */
  #room(): number {
    const held = this.#position - this.#publishedPosition, size = this.size;
    return held < 0 ? -size - held : size - held;
  }

  #break(reason: string): void {
    this.#broken = reason;
    this.#ahead = 0;
  }
}
