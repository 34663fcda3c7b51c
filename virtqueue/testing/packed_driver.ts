/**
 * A virtio driver of a packed ring, for tests: the counterpart of `FakeDriver`. It
 * keeps the driver's rules of virtio 1.4, section 2.8, checks that the device
 * keeps its own, and has raw access for tests that break the rules.
 *
 * @module
 */

import {
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../constants.ts";
import { needPackedEvent } from "../notification.ts";
import { loadAcquire, storeEvent, storeFence } from "../ordering.ts";
import {
  advance,
  AVAIL_USED,
  decodePosition,
  encodePosition,
  entryAt,
  marksAt,
} from "../packed_ring.ts";
import {
  collectWritten,
  type Completion,
  type FakeBuffer,
  freeRanges,
  placeBuffer,
  type Range,
  type RingDriver,
  type SubmitOptions,
  writeDescriptor,
} from "./buffers.ts";
import type { FakeDriverOptions } from "./driver.ts";
import type { FakeMemory } from "./memory.ts";

/** A descriptor as {@linkcode FakePackedDriver.setDescriptor} writes it. */
export interface RawPackedDescriptor {
  /** Guest address: a Number, or 64 bits as a BigInt. */
  readonly address: number | bigint;
  /** Length in bytes. */
  readonly length: number;
  /** Buffer id. */
  readonly id?: number;
  /** `VIRTQ_DESC_F_*`, the marks included. */
  readonly flags?: number;
}

interface Submission {
  readonly token: number;
  readonly ranges: readonly Range[];
  /** Descriptors in the ring. */
  readonly count: number;
}

/**
 * A driver of one packed virtqueue.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FakeMemory } from "./memory.ts";
 * import { FakePackedDriver } from "./packed_driver.ts";
 *
 * const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
 * const driver = new FakePackedDriver(memory, { size: 7 });
 * driver.submit([{ readable: new Uint8Array(16) }, { writable: 1 }]);
 * assertEquals(driver.kickNeeded(), true);
 * assertEquals(driver.reap(), []); // no device is there
 * ```
 */
export class FakePackedDriver implements RingDriver {
  readonly packed = true;
  readonly memory: FakeMemory;
  readonly size: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly descriptorTable: number;
  /** Guest address of the driver event suppression structure. */
  readonly availableRing: number;
  /** Guest address of the device event suppression structure. */
  readonly usedRing: number;
  readonly start: number;
  readonly #copy: boolean;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;
  readonly #ids: number[] = [];
  readonly #pending = new Map<number, Submission>();
  #free: number;
  #next: number;
  #used: number;
  /** Position up to which the device was, or was not, kicked. */
  #kicked: number;
  /** Position and flags of the first chain that is not shown yet. */
  #held: { position: number; flags: number } | null = null;
  #tokens = 0;

  /**
   * Lays out a ring, all zeroes, in newly allocated memory. `start` is where it
   * begins, as 16 bits of index and wrap counter (default: as after a reset).
   */
  constructor(memory: FakeMemory, options: FakeDriverOptions = {}) {
    const { size = 256, eventIdx = false, copy = true } = options;
    const start = options.start ?? 0x8000;
    const position = decodePosition(start, size);
    if (position < 0) throw new RangeError(`${start} is not in ${size}`);
    this.memory = memory;
    this.size = size;
    this.eventIdx = eventIdx;
    this.indirect = options.indirect ?? true;
    this.start = (start | start << 16) >>> 0;
    this.#copy = copy;
    this.descriptorTable = memory.allocate(16 * size, 16);
    this.availableRing = memory.allocate(4, 4);
    this.usedRing = memory.allocate(4, 4);
    const ring = memory.bytes(this.descriptorTable, 16 * size);
    this.#halves = new Uint16Array(ring.buffer, ring.byteOffset, 8 * size);
    this.#words = new Uint32Array(ring.buffer, ring.byteOffset, 4 * size);
    const driver = memory.bytes(this.availableRing, 4);
    this.#driverEvent = new Uint32Array(driver.buffer, driver.byteOffset, 1);
    const device = memory.bytes(this.usedRing, 4);
    this.#deviceEvent = new Uint32Array(device.buffer, device.byteOffset, 1);
    this.#free = size;
    this.#next = this.#used = this.#kicked = position;
    this.#clear();
  }

  get submitted(): number {
    return this.#tokens;
  }

  get inFlight(): number {
    return this.#pending.size;
  }

  get freeDescriptors(): number {
    return this.#free;
  }

  submit(
    buffers: readonly FakeBuffer[],
    options: SubmitOptions = {},
  ): number {
    const indirect = this.indirect && options.indirect === true;
    const count = indirect ? 1 : buffers.length;
    if (count > this.#free || buffers.length === 0) return -1;
    const id = this.#ids.pop()!;
    const ranges = buffers.map((buffer) => placeBuffer(this.memory, buffer));
    if (indirect) {
      const table = this.#writeTable(ranges, options.tableAddress);
      this.#write(table, VIRTQ_DESC_F_INDIRECT, id, true);
      ranges.push({ ...table, owned: options.tableAddress === undefined });
    } else {
      ranges.forEach((range, i) => {
        const flags = (range.write ? VIRTQ_DESC_F_WRITE : 0) |
          (i < count - 1 ? VIRTQ_DESC_F_NEXT : 0);
        this.#write(range, flags, id, i === 0);
      });
    }
    this.#free -= count;
    const token = this.#tokens++;
    this.#pending.set(id, { token, ranges, count });
    if (options.flush !== false) this.flush();
    return token;
  }

  flush(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const at = entryAt(held.position, this.size) * 8 + 7;
    storeFence(this.#halves, at, held.flags);
  }

  kickNeeded(): boolean {
    const previous = this.#kicked;
    const next = this.#held?.position ?? this.#next;
    this.#kicked = next;
    if (next === previous) return false;
    const event = this.#deviceEvent[0];
    const flags = event >>> 16 & 3;
    if (flags === RING_EVENT_FLAGS_DESC && this.eventIdx) {
      return needPackedEvent(event & 0xffff, next, previous, this.size);
    }
    return flags !== RING_EVENT_FLAGS_DISABLE;
  }

  get usedPending(): boolean {
    const at = entryAt(this.#used, this.size) * 8 + 7;
    const marks = this.#used < this.size ? AVAIL_USED : 0;
    return this.#pending.size > 0 &&
      (loadAcquire(this.#halves, at) & AVAIL_USED) === marks;
  }

  reap(limit: number = Infinity): Completion[] {
    const completions: Completion[] = [];
    while (completions.length < limit && this.usedPending) {
      const at = entryAt(this.#used, this.size);
      const id = this.#halves[at * 8 + 6];
      const written = (this.#halves[at * 8 + 7] & VIRTQ_DESC_F_WRITE) !== 0;
      completions.push(this.#finish(id, written ? this.#words[at * 4 + 2] : 0));
    }
    return completions;
  }

  enableInterrupt(): boolean {
    const event = this.eventIdx
      ? encodePosition(this.#used, this.size) | RING_EVENT_FLAGS_DESC << 16
      : RING_EVENT_FLAGS_ENABLE << 16;
    storeEvent(this.#driverEvent, event);
    return this.usedPending;
  }

  disableInterrupt(): void {
    this.#driverEvent[0] = RING_EVENT_FLAGS_DISABLE << 16;
  }

  /** The driver event suppression structure, as one number. */
  get driverEvent(): number {
    return this.#driverEvent[0];
  }
  set driverEvent(value: number) {
    storeEvent(this.#driverEvent, value);
  }

  /** The device event suppression structure as the device wrote it. */
  get deviceEvent(): number {
    return this.#deviceEvent[0];
  }

  /** Position of the next descriptor to make available. */
  get next(): number {
    return this.#next;
  }

  /** Position of the next descriptor that the device uses. */
  get used(): number {
    return this.#used;
  }

  /** Reads an entry of the ring. */
  descriptor(index: number): { id: number; length: number; flags: number } {
    return {
      id: this.#halves[index * 8 + 6],
      length: this.#words[index * 4 + 2],
      flags: this.#halves[index * 8 + 7],
    };
  }

  /** Writes an entry of the ring, whatever it says. */
  setDescriptor(index: number, descriptor: RawPackedDescriptor): void {
    const { id = 0, flags = 0 } = descriptor;
    const at = this.descriptorTable + 16 * index;
    writeDescriptor(this.memory, at, descriptor, [id, flags]);
  }

  /**
   * Makes descriptors available one after the other, whatever they say; marks are
   * added to their flags, and nothing is expected to come back.
   */
  offer(...descriptors: readonly RawPackedDescriptor[]): void {
    for (const descriptor of descriptors) {
      const position = this.#next;
      const flags = (descriptor.flags ?? 0) ^ marksAt(position, this.size);
      const index = entryAt(position, this.size);
      this.setDescriptor(index, { ...descriptor, flags });
      this.#next = advance(position, 1, this.size);
    }
  }

  /** Takes the answer of a chain of `offer`, of that many descriptors. */
  reapOffered(count: number): { id: number; length: number } | null {
    const at = entryAt(this.#used, this.size);
    const { id, length, flags } = this.descriptor(at);
    const marks = this.#used < this.size ? AVAIL_USED : 0;
    if ((flags & AVAIL_USED) !== marks) return null;
    this.#used = advance(this.#used, count, this.size);
    return { id, length: flags & VIRTQ_DESC_F_WRITE ? length : 0 };
  }

  reset(start: number = this.start): void {
    for (const { ranges } of this.#pending.values()) {
      freeRanges(this.memory, ranges);
    }
    this.#pending.clear();
    this.#held = null;
    this.#free = this.size;
    const position = decodePosition(start & 0xffff, this.size);
    this.#next = this.#used = this.#kicked = position;
    this.#clear();
  }

  #clear(): void {
    // A ring that begins elsewhere has been there: its marks are those of a
    // driver that has everything back.
    for (let index = 0; index < this.size; index++) {
      const lap = (index < entryAt(this.#next, this.size)) ===
        (this.#next < this.size);
      this.#words.fill(0, index * 4, index * 4 + 4);
      this.#halves[index * 8 + 7] = lap ? AVAIL_USED : 0;
    }
    this.#driverEvent[0] = 0;
    this.#deviceEvent[0] = 0;
    this.#ids.length = 0;
    for (let id = this.size - 1; id >= 0; id--) this.#ids.push(id);
  }

  #write(range: Range, flags: number, id: number, first: boolean): void {
    const position = this.#next;
    const index = entryAt(position, this.size);
    const marked = flags | marksAt(position, this.size);
    // The first one waits for the rest of the chain, and for `flush`.
    const held = first && this.#held === null;
    if (held) this.#held = { position, flags: marked };
    const at = this.descriptorTable + 16 * index;
    const before = this.#halves[index * 8 + 7];
    writeDescriptor(this.memory, at, range, [id, held ? before : marked]);
    this.#next = advance(position, 1, this.size);
  }

  #writeTable(ranges: readonly Range[], at?: number): Range {
    const length = 16 * ranges.length;
    const table = at ?? this.memory.allocate(length, 16);
    ranges.forEach((range, i) => {
      const flags = range.write ? VIRTQ_DESC_F_WRITE : 0;
      writeDescriptor(this.memory, table + 16 * i, range, [0, flags]);
    });
    return { address: table, length, write: false, owned: true };
  }

  #finish(id: number, length: number): Completion {
    const submission = this.#pending.get(id);
    if (submission === undefined) {
      throw new Error(`The device used id ${id}, which is not in flight`);
    }
    this.#pending.delete(id);
    const { token, ranges, count } = submission;
    const data = collectWritten(this.memory, ranges, id, length, this.#copy);
    freeRanges(this.memory, ranges);
    this.#used = advance(this.#used, count, this.size);
    this.#free += count;
    this.#ids.push(id);
    return { token, id, length, data };
  }
}
