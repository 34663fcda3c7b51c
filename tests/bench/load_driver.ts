/**
 * A driver of one ring of a disk that is made for load: everything is laid out
 * once, and submitting or reaping a request allocates nothing.
 *
 * Theory of operation. Slot i of the queue depth owns descriptor i of the ring,
 * which points to its own indirect table of three, in the order of
 * {@linkcode RequestSlots}. To submit, the request is aimed at its place on the
 * disk, its descriptors of the ring are written, as a guest does each time,
 * although they are always the same here, and the head goes into the available
 * ring. (The indirect tables stay as they are, in both layouts.) Heads are
 * therefore slots, and a used element tells the slot at once.
 *
 * @module
 */

import type { RequestFormat } from "./request_format.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
} from "../../virtqueue/constants.ts";
import { needEvent } from "../../virtqueue/notification.ts";
import { loadAcquire, storeFence } from "../../virtqueue/ordering.ts";
import {
  type LoadDriverOptions,
  placer,
  RequestSlots,
  TABLE_BYTES,
} from "./request_slots.ts";
import type {
  RingLayout,
  SharedRegion,
} from "../../vhost/testing/front_end.ts";

/** Bytes of memory that a driver needs, generously. */
export function memoryFor(
  depth: number,
  blockSize: number,
  { headerBytes, answerBytes }: RequestFormat,
): number {
  const perSlot = TABLE_BYTES + headerBytes + answerBytes + 16 + blockSize;
  return 4 * 4096 + ringEntries(depth, false) * 64 + depth * perSlot;
}

/** A direct chain needs three descriptors, an indirect one a single one. */
function ringEntries(depth: number, indirect: boolean): number {
  return 1 << Math.ceil(Math.log2(indirect ? depth : depth * 3));
}

/** A driver for load, of whichever layout. */
export interface LoadRing extends RingLayout {
  /** Requests that may be in flight. */
  readonly depth: number;
  /** The bytes of the region. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Offset of a slot's data in the region. */
  dataOffset(slot: number): number;
  /** Makes a request for the block of this number available, not published yet. */
  submit(slot: number, block: number): void;
  /** Publishes what was submitted; true when the device wants a kick. */
  publish(): boolean;
  /** The slot of the next completion, or -1. */
  reap(): number;
  /** Status of a slot: 0 is good. */
  status(slot: number): number;
  /** Asks for an interrupt; true when there is something to reap already. */
  enableInterrupt(): boolean;
  /** Asks for no interrupts. */
  disableInterrupt(): void;
}

/** How often a request is repeated that is not answered well. */
const ATTEMPTS = 8;
/** How long (ms) an answer may take. */
const PATIENCE = 10_000;

/**
 * Repeats the request of slot 0, for the first block, until it is answered well:
 * a SCSI disk answers the first ones with what happened to it since (SAM-5, unit
 * attention condition), and does not do them.
 *
 * @throws {Error} when that does not come to pass
 */
export function settle(driver: LoadRing, kick: () => void): void {
  for (let i = 0; i < ATTEMPTS; i++) {
    driver.submit(0, 0);
    if (driver.publish()) kick();
    const limit = performance.now() + PATIENCE;
    while (driver.reap() < 0) {
      if (performance.now() > limit) {
        throw new Error("The first request was not answered in 10 s");
      }
    }
    if (driver.status(0) === 0) return;
  }
  throw new Error(`The first request failed ${ATTEMPTS} times`);
}

/** The driver's side of one split ring. */
export class LoadDriver implements LoadRing {
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  /** Requests that may be in flight. */
  readonly depth: number;
  readonly #eventIdx: boolean;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #usedElements: Uint32Array<ArrayBuffer>;
  readonly #mask: number;
  readonly #requests: RequestSlots;
  /** The descriptor table. */
  readonly #table: Uint32Array<ArrayBuffer>;
  /** What belongs there, in memory of our own. */
  readonly #descriptors: Uint32Array<ArrayBuffer>;
  /** Words of the descriptors of a request. */
  readonly #chainWords: number;
  readonly #heads: Uint16Array;
  readonly #slots: Uint16Array;
  #next = 0;
  #kicked = 0;
  #reaped = 0;

  /** Lays everything out at the start of a region. */
  constructor(region: SharedRegion, options: LoadDriverOptions) {
    const { depth, eventIdx, indirect } = options;
    const size = ringEntries(depth, indirect);
    this.size = size;
    this.depth = depth;
    this.#eventIdx = eventIdx;
    this.#mask = size - 1;
    this.#bytes = region.bytes;
    const { buffer, byteOffset } = region.bytes;
    const place = placer();
    const table = place(16 * size, 16);
    const available = place(6 + 2 * size, 64);
    const used = place(6 + 8 * size, 64);
    const requests = this.#requests = new RequestSlots(region, place, options);
    const base = region.guestAddress;
    this.descriptorTable = base + table;
    this.availableRing = base + available;
    this.usedRing = base + used;
    this.#available = new Uint16Array(buffer, byteOffset + available, 3 + size);
    this.#used = new Uint16Array(buffer, byteOffset + used, 3 + 4 * size);
    this.#usedElements = new Uint32Array(
      buffer,
      byteOffset + used + 4,
      2 * size,
    );
    this.#table = new Uint32Array(buffer, byteOffset + table, 4 * size);
    this.#chainWords = indirect ? 4 : 12;
    this.#heads = new Uint16Array(depth);
    this.#slots = new Uint16Array(size);
    for (let slot = 0; slot < depth; slot++) {
      const head = indirect ? slot : slot * 3;
      this.#heads[slot] = head;
      this.#slots[head] = slot;
      const chain = indirect
        ? requests.tables + slot * TABLE_BYTES
        : table + head * 16;
      const first = indirect ? 0 : head;
      requests.pieces(slot).forEach(({ at, length, flags }, i) =>
        this.#describe(chain + 16 * i, base + at, {
          length,
          flags: i < 2 ? flags | VIRTQ_DESC_F_NEXT : flags,
          next: i < 2 ? first + i + 1 : 0,
        })
      );
      if (indirect) {
        this.#describe(table + head * 16, base + chain, {
          length: TABLE_BYTES,
          flags: VIRTQ_DESC_F_INDIRECT,
          next: 0,
        });
      }
    }
    this.#descriptors = this.#table.slice();
  }

  #describe(
    at: number,
    address: number,
    rest: { length: number; flags: number; next: number },
  ): void {
    const { view } = this.#requests;
    view.setBigUint64(at, BigInt(address), true);
    view.setUint32(at + 8, rest.length, true);
    view.setUint16(at + 12, rest.flags, true);
    view.setUint16(at + 14, rest.next, true);
  }

  /** Offset of a slot's data in the region. */
  dataOffset(slot: number): number {
    return this.#requests.dataOffset(slot);
  }

  /** The bytes of the region. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Makes a request available, not published yet. */
  submit(slot: number, block: number): void {
    const head = this.#heads[slot];
    this.#requests.aim(slot, block);
    for (let i = 4 * head, end = i + this.#chainWords; i < end; i++) {
      this.#table[i] = this.#descriptors[i];
    }
    this.#available[2 + (this.#next & this.#mask)] = head;
    this.#next = (this.#next + 1) & 0xffff;
  }

  /** Publishes what was submitted; true when the device wants a kick. */
  publish(): boolean {
    const previous = this.#kicked, next = this.#next;
    if (previous === next) return false;
    storeFence(this.#available, 1, next);
    this.#kicked = next;
    return this.#eventIdx
      ? needEvent(this.#used[2 + 4 * this.size], next, previous)
      : (this.#used[0] & 1) === 0;
  }

  /** The slot of the next completion, or -1. */
  reap(): number {
    const at = this.#reaped;
    if (loadAcquire(this.#used, 1) === at) return -1;
    const head = this.#usedElements[(at & this.#mask) << 1];
    this.#reaped = (at + 1) & 0xffff;
    return this.#slots[head];
  }

  /** Status of a slot: 0 is good. */
  status(slot: number): number {
    return this.#requests.status(slot);
  }

  /** Asks for an interrupt; true when there is something to reap already. */
  enableInterrupt(): boolean {
    if (this.#eventIdx) {
      storeFence(this.#available, 2 + this.size, this.#reaped);
    } else storeFence(this.#available, 0, 0);
    return loadAcquire(this.#used, 1) !== this.#reaped;
  }

  /** Asks for no interrupts. */
  disableInterrupt(): void {
    if (this.#eventIdx) {
      this.#available[2 + this.size] = (this.#reaped - 1) & 0xffff;
    } else this.#available[0] = 1;
  }
}
