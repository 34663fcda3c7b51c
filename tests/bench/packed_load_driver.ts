/**
 * The counterpart of `load_driver.ts` for a packed ring.
 *
 * Theory of operation. Slot i of the queue depth owns an indirect table of three,
 * in the order of {@linkcode RequestSlots}. To submit, the request is aimed at its
 * place on the disk, and a descriptor of the table, with the slot as buffer id,
 * goes to the next entry of the ring. A batch becomes visible with the flags of
 * its first descriptor.
 *
 * @module
 */

import {
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_USED,
} from "../../virtqueue/constants.ts";
import { needPackedEvent } from "../../virtqueue/notification.ts";
import {
  loadAcquire,
  storeEvent,
  storeFence,
} from "../../virtqueue/ordering.ts";
import { encodePosition, entryAt } from "../../virtqueue/packed_ring.ts";
import type { SharedRegion } from "../../vhost/testing/front_end.ts";
import type { LoadRing } from "./load_driver.ts";
import {
  type LoadDriverOptions,
  placer,
  RequestSlots,
  TABLE_BYTES,
} from "./request_slots.ts";

// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const INDIRECT = VIRTQ_DESC_F_INDIRECT;
const AVAIL = VIRTQ_DESC_F_AVAIL;
const USED = VIRTQ_DESC_F_USED;

/** The driver's side of one packed ring. */
export class PackedLoadDriver implements LoadRing {
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  readonly depth: number;
  readonly #eventIdx: boolean;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;
  readonly #requests: RequestSlots;
  /** Guest address of the first table. */
  readonly #base: number;
  #next = 0;
  #kicked = 0;
  #used = 0;
  #firstFlags = 0;

  /** Lays everything out at the start of a region, which ends below 4 GiB. */
  constructor(region: SharedRegion, options: LoadDriverOptions) {
    const { depth, eventIdx } = options;
    this.size = depth;
    this.depth = depth;
    this.#eventIdx = eventIdx;
    this.#bytes = region.bytes;
    const { buffer, byteOffset } = region.bytes;
    const place = placer();
    const ring = place(16 * depth, 64);
    const driver = place(4, 64);
    const device = place(4, 64);
    const requests = this.#requests = new RequestSlots(region, place, options);
    const base = region.guestAddress;
    this.#base = base + requests.tables;
    this.descriptorTable = base + ring;
    this.availableRing = base + driver;
    this.usedRing = base + device;
    this.#halves = new Uint16Array(buffer, byteOffset + ring, 8 * depth);
    this.#words = new Uint32Array(buffer, byteOffset + ring, 4 * depth);
    this.#driverEvent = new Uint32Array(buffer, byteOffset + driver, 1);
    this.#deviceEvent = new Uint32Array(buffer, byteOffset + device, 1);
    const { view } = requests;
    for (let slot = 0; slot < depth; slot++) {
      const table = requests.tables + TABLE_BYTES * slot;
      requests.pieces(slot).forEach(({ at, length, flags }, i) => {
        const to = table + 16 * i;
        view.setBigUint64(to, BigInt(base + at), true);
        view.setUint32(to + 8, length, true);
        view.setUint16(to + 14, flags, true);
      });
    }
  }

  dataOffset(slot: number): number {
    return this.#requests.dataOffset(slot);
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  submit(slot: number, block: number): void {
    this.#requests.aim(slot, block);
    const position = this.#next, size = this.size;
    const at = position < size ? position : position - size;
    const flags = position < size ? INDIRECT | AVAIL : INDIRECT | USED;
    const words = this.#words;
    words[at * 4] = this.#base + TABLE_BYTES * slot;
    words[at * 4 + 1] = 0;
    words[at * 4 + 2] = TABLE_BYTES;
    if (position === this.#kicked) {
      this.#halves[at * 8 + 6] = slot;
      this.#firstFlags = flags;
    } else words[at * 4 + 3] = flags << 16 | slot;
    this.#next = position + 1 < 2 * size ? position + 1 : 0;
  }

  publish(): boolean {
    const previous = this.#kicked, next = this.#next;
    // A batch of the whole ring ends one lap further, not where it began.
    if (previous === next) return false;
    const at = entryAt(previous, this.size) * 8 + 7;
    storeFence(this.#halves, at, this.#firstFlags);
    this.#kicked = next;
    const event = this.#deviceEvent[0];
    const flags = event >>> 16 & 3;
    return flags === 2
      ? needPackedEvent(event & 0xffff, next, previous, this.size)
      : flags === 0;
  }

  reap(): number {
    const position = this.#used, size = this.size;
    const at = (position < size ? position : position - size) * 8;
    if (!this.#usedAt(at, position)) return -1;
    this.#used = position + 1 < 2 * size ? position + 1 : 0;
    return this.#halves[at + 6];
  }

  status(slot: number): number {
    return this.#requests.status(slot);
  }

  enableInterrupt(): boolean {
    const event = this.#eventIdx
      ? encodePosition(this.#used, this.size) | 2 << 16
      : 0;
    storeEvent(this.#driverEvent, event);
    return this.#usedAt(entryAt(this.#used, this.size) * 8, this.#used);
  }

  disableInterrupt(): void {
    this.#driverEvent[0] = 1 << 16;
  }

  #usedAt(at: number, position: number): boolean {
    const marks = position < this.size ? AVAIL | USED : 0;
    return (loadAcquire(this.#halves, at + 7) & (AVAIL | USED)) === marks;
  }
}
