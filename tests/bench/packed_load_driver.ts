/**
 * The counterpart of `load_driver.ts` for a packed ring.
 *
 * Theory of operation. Slot i of the queue depth owns an indirect table of three:
 * header, data, answer (in the order that the {@linkcode RequestFormat} wants). To
 * submit, the place on the disk is written into the header, and a descriptor of
 * the table, with the slot as buffer id, goes to the next entry of the ring. A
 * batch becomes visible with the flags of its first descriptor.
 *
 * @module
 */

import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_WRITE,
} from "../../virtqueue/constants.ts";
import { needPackedEvent } from "../../virtqueue/notification.ts";
import {
  loadAcquire,
  storeEvent,
  storeFence,
} from "../../virtqueue/ordering.ts";
import {
  advance,
  AVAIL_USED,
  encodePosition,
  entryAt,
  marksAt,
} from "../../virtqueue/packed_ring.ts";
import type { SharedRegion } from "../../vhost/testing/front_end.ts";
import type { LoadDriverOptions, LoadRing } from "./load_driver.ts";
import type { RequestFormat } from "./request_format.ts";

const TABLE_BYTES = 48;
const SECTOR = 512;

/** The driver's side of one packed ring. */
export class PackedLoadDriver implements LoadRing {
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  readonly depth: number;
  readonly #blockSize: number;
  readonly #eventIdx: boolean;
  readonly #view: DataView<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;
  readonly #format: RequestFormat;
  readonly #tables: number;
  readonly #headers: number;
  readonly #data: number;
  readonly #answers: number;
  /** Guest address of the first table, in two words. */
  readonly #base: number;
  #next = 0;
  #kicked = 0;
  #used = 0;
  #firstFlags = 0;

  /** Lays everything out at the start of a region, which ends below 4 GiB. */
  constructor(region: SharedRegion, options: LoadDriverOptions) {
    const { depth, blockSize, eventIdx, write, format } = options;
    const { headerBytes, answerBytes } = format;
    this.#format = format;
    this.size = depth;
    this.depth = depth;
    this.#blockSize = blockSize;
    this.#eventIdx = eventIdx;
    this.#bytes = region.bytes;
    const { buffer, byteOffset } = region.bytes;
    this.#view = new DataView(buffer, byteOffset, region.size);
    let at = 0;
    const place = (bytes: number, alignment: number): number => {
      at = Math.ceil(at / alignment) * alignment;
      const offset = at;
      at += bytes;
      return offset;
    };
    const ring = place(16 * depth, 64);
    const driver = place(4, 64);
    const device = place(4, 64);
    this.#tables = place(TABLE_BYTES * depth, 64);
    this.#headers = place(headerBytes * depth, 64);
    this.#answers = place(answerBytes * depth, 64);
    this.#data = place(blockSize * depth, 4096);
    const base = region.guestAddress;
    this.#base = base;
    this.descriptorTable = base + ring;
    this.availableRing = base + driver;
    this.usedRing = base + device;
    this.#halves = new Uint16Array(buffer, byteOffset + ring, 8 * depth);
    this.#words = new Uint32Array(buffer, byteOffset + ring, 4 * depth);
    this.#driverEvent = new Uint32Array(buffer, byteOffset + driver, 1);
    this.#deviceEvent = new Uint32Array(buffer, byteOffset + device, 1);
    for (let slot = 0; slot < depth; slot++) {
      const table = this.#tables + TABLE_BYTES * slot;
      const header = this.#headers + slot * headerBytes;
      format.prepare(this.#view, header, write, blockSize);
      const data = [
        this.#data + slot * blockSize,
        blockSize,
        write ? 0 : VIRTQ_DESC_F_WRITE,
      ];
      const answer = [
        this.#answers + slot * answerBytes,
        answerBytes,
        VIRTQ_DESC_F_WRITE,
      ];
      const parts = [
        [header, headerBytes, 0],
        ...(write || !format.dataLast ? [data, answer] : [answer, data]),
      ];
      parts.forEach(([offset, length, flags], i) => {
        const to = table + 16 * i;
        this.#view.setBigUint64(to, BigInt(base + offset), true);
        this.#view.setUint32(to + 8, length, true);
        this.#view.setUint16(to + 14, flags, true);
      });
    }
  }

  dataOffset(slot: number): number {
    return this.#data + slot * this.#blockSize;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  submit(slot: number, block: number): void {
    this.#format.submit(
      this.#view,
      this.#headers + slot * this.#format.headerBytes,
      this.#answers + slot * this.#format.answerBytes,
      block * this.#blockSize / SECTOR,
    );
    const table = this.#tables + TABLE_BYTES * slot;
    const position = this.#next;
    const at = entryAt(position, this.size);
    const flags = VIRTQ_DESC_F_INDIRECT | marksAt(position, this.size);
    this.#words[at * 4] = this.#base + table;
    this.#words[at * 4 + 1] = 0;
    this.#words[at * 4 + 2] = TABLE_BYTES;
    if (position === this.#kicked) {
      this.#halves[at * 8 + 6] = slot;
      this.#firstFlags = flags;
    } else this.#words[at * 4 + 3] = flags << 16 | slot;
    this.#next = advance(position, 1, this.size);
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
    const position = this.#used;
    const at = entryAt(position, this.size) * 8;
    if (!this.#usedAt(at, position)) return -1;
    this.#used = advance(position, 1, this.size);
    return this.#halves[at + 6];
  }

  status(slot: number): number {
    return this.#format.status(
      this.#view,
      this.#answers + slot * this.#format.answerBytes,
    );
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
    const marks = position < this.size ? AVAIL_USED : 0;
    return (loadAcquire(this.#halves, at + 7) & AVAIL_USED) === marks;
  }
}
