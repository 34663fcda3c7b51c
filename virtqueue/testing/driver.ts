/**
 * A virtio driver for tests: lays out a split ring in fake guest memory, makes
 * buffers available, and reaps what the device used. It keeps the driver's
 * rules of virtio 1.4, section 2.7, checks that the device keeps its own, and
 * has raw access to every field for tests that break the rules.
 *
 * @module
 */

import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../constants.ts";
import { needEvent } from "../notification.ts";
import { loadAcquire, storeFence } from "../ordering.ts";
import {
  collectWritten,
  type Completion,
  type FakeBuffer,
  freeRanges,
  placeBuffer,
  type Range,
  type RawDescriptor,
  type RingDriver,
  type SubmitOptions,
  writeDescriptor,
} from "./buffers.ts";
import type { FakeMemory } from "./memory.ts";

export type {
  Completion,
  FakeBuffer,
  RawDescriptor,
  RingDriver,
  SubmitOptions,
} from "./buffers.ts";

export { FakeMemory, type FakeRegion } from "./memory.ts";

/** How to lay out a ring. */
export interface FakeDriverOptions {
  /** Number of entries (default 256). */
  readonly size?: number;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated (default false). */
  readonly eventIdx?: boolean;
  /**
   * Whether VIRTIO_F_INDIRECT_DESC was negotiated (default true). Without it all
   * chains are direct, also those that were to be indirect.
   */
  readonly indirect?: boolean;
  /** Where both ring indices start, to come near the wrap (default 0). */
  readonly start?: number;
  /** Whether completions carry the written bytes (default true). */
  readonly copy?: boolean;
}

interface Submission {
  readonly token: number;
  readonly descriptors: readonly number[];
  readonly ranges: readonly Range[];
  /** Indirect table to free, of length 0 when there is none. */
  readonly table: Range;
}

/**
 * A driver of one split virtqueue.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FakeDriver, FakeMemory } from "./driver.ts";
 *
 * const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
 * const driver = new FakeDriver(memory, { size: 8 });
 * driver.submit([{ readable: new Uint8Array(16) }, { writable: 1 }]);
 * assertEquals(driver.kickNeeded(), true);
 * assertEquals(driver.reap(), []); // no device is there
 * ```
 */
export class FakeDriver implements RingDriver {
  readonly packed = false;
  /** The memory that everything lies in. */
  readonly memory: FakeMemory;
  /** Number of entries. */
  readonly size: number;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** Guest address of the descriptor table. */
  readonly descriptorTable: number;
  /** Guest address of the available ring. */
  readonly availableRing: number;
  /** Guest address of the used ring. */
  readonly usedRing: number;
  /** Where both ring indices started. */
  readonly start: number;
  readonly #copy: boolean;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #usedElements: Uint32Array<ArrayBuffer>;
  readonly #free: number[] = [];
  readonly #pending = new Map<number, Submission>();
  #availableIndex: number;
  #kickedIndex: number;
  #usedIndex: number;
  #tokens = 0;

  /** Lays out a ring, all zeroes, in newly allocated memory. */
  constructor(memory: FakeMemory, options: FakeDriverOptions = {}) {
    const { size = 256, eventIdx = false, start = 0, copy = true } = options;
    this.memory = memory;
    this.size = size;
    this.eventIdx = eventIdx;
    this.indirect = options.indirect ?? true;
    this.start = start;
    this.#copy = copy;
    this.descriptorTable = memory.allocate(16 * size, 16);
    this.availableRing = memory.allocate(6 + 2 * size, 2);
    this.usedRing = memory.allocate(6 + 8 * size, 4);
    memory.bytes(this.descriptorTable, 16 * size).fill(0);
    const available = memory.bytes(this.availableRing, 6 + 2 * size).fill(0);
    const used = memory.bytes(this.usedRing, 6 + 8 * size).fill(0);
    this.#available = new Uint16Array(
      available.buffer,
      available.byteOffset,
      3 + size,
    );
    this.#used = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size);
    this.#usedElements = new Uint32Array(
      used.buffer,
      used.byteOffset + 4,
      2 * size,
    );
    for (let i = size - 1; i >= 0; i--) this.#free.push(i);
    this.#availableIndex = start;
    this.#kickedIndex = start;
    this.#usedIndex = start;
    this.#available[1] = start;
    this.#used[1] = start;
    this.#available[2 + size] = start;
  }

  get submitted(): number {
    return this.#tokens;
  }

  /** Chains that were submitted and not reaped. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** Descriptors that are free. */
  get freeDescriptors(): number {
    return this.#free.length;
  }

  /**
   * Makes a chain available.
   *
   * @returns a token that comes back with the completion, or -1 when there are
   * not enough free descriptors.
   */
  submit(
    buffers: readonly FakeBuffer[],
    options: SubmitOptions = {},
  ): number {
    const indirect = this.indirect && options.indirect === true;
    const needed = indirect ? 1 : buffers.length;
    if (needed > this.#free.length || needed === 0) return -1;
    const descriptors = this.#claim(needed, options.descriptors ?? []);
    const ranges = buffers.map((buffer) => placeBuffer(this.memory, buffer));
    const table = indirect
      ? this.#writeTable(descriptors[0], ranges, options.tableAddress)
      : this.#writeDirect(descriptors, ranges);
    const token = this.#tokens++;
    this.#pending.set(descriptors[0], { token, descriptors, ranges, table });
    this.setAvailable(this.#availableIndex, descriptors[0]);
    this.#availableIndex = (this.#availableIndex + 1) & 0xffff;
    if (options.flush !== false) this.flush();
    return token;
  }

  /** Publishes the available index. */
  flush(): void {
    storeFence(this.#available, 1, this.#availableIndex);
  }

  /**
   * Decides whether the device wants to be notified of what was published
   * since the last call.
   */
  kickNeeded(): boolean {
    const previous = this.#kickedIndex;
    const next = this.#available[1];
    this.#kickedIndex = next;
    if (next === previous) return false;
    if (this.eventIdx) {
      return needEvent(this.availEvent, next, previous);
    }
    return (this.#used[0] & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /**
   * Takes what the device used, and frees it.
   *
   * @param limit most chains to take
   * @throws {Error} when the device gave back a chain that is not in flight,
   * or claims to have written more than there was room for.
   */
  reap(limit: number = Infinity): Completion[] {
    const completions: Completion[] = [];
    const end = loadAcquire(this.#used, 1);
    while (this.#usedIndex !== end && completions.length < limit) {
      const at = (this.#usedIndex & (this.size - 1)) * 2;
      const id = this.#usedElements[at];
      const length = this.#usedElements[at + 1];
      this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
      completions.push(this.#finish(id, length));
    }
    return completions;
  }

  /** True when the used ring holds something to reap. */
  get usedPending(): boolean {
    return loadAcquire(this.#used, 1) !== this.#usedIndex;
  }

  /**
   * Asks for a used-buffer notification at the next completion.
   *
   * @returns true when something was used before the device could see the
   * request: reap instead of sleeping.
   */
  enableInterrupt(): boolean {
    if (this.eventIdx) {
      storeFence(this.#available, 2 + this.size, this.#usedIndex);
    } else {
      storeFence(this.#available, 0, 0);
    }
    return this.usedPending;
  }

  /** Asks for no used-buffer notifications. */
  disableInterrupt(): void {
    if (this.eventIdx) {
      // As far behind as can be: the device passes it in 65535 completions.
      this.#available[2 + this.size] = (this.#usedIndex - 1) & 0xffff;
    } else {
      this.#available[0] = VIRTQ_AVAIL_F_NO_INTERRUPT;
    }
  }

  /** `used_event`: completions up to which no notification is wanted. */
  get usedEvent(): number {
    return this.#available[2 + this.size];
  }
  set usedEvent(value: number) {
    storeFence(this.#available, 2 + this.size, value);
  }

  /** `avail_event` as the device wrote it. */
  get availEvent(): number {
    return this.#used[2 + 4 * this.size];
  }

  /** `flags` of the available ring. */
  get availableFlags(): number {
    return this.#available[0];
  }
  set availableFlags(value: number) {
    storeFence(this.#available, 0, value);
  }

  /** `flags` of the used ring as the device wrote it. */
  get usedFlags(): number {
    return this.#used[0];
  }

  /** The available index as it was published. */
  get availableIndex(): number {
    return this.#available[1];
  }

  /** The used index as the device published it. */
  get usedIndex(): number {
    return loadAcquire(this.#used, 1);
  }

  /** Reads an element of the used ring. */
  usedElement(position: number): { id: number; length: number } {
    const at = (position & (this.size - 1)) * 2;
    return { id: this.#usedElements[at], length: this.#usedElements[at + 1] };
  }

  /** Writes a descriptor, whatever it says. */
  setDescriptor(index: number, descriptor: RawDescriptor): void {
    this.setDescriptorAt(this.descriptorTable + 16 * index, descriptor);
  }

  /** Writes a descriptor anywhere in guest memory: an indirect table's, say. */
  setDescriptorAt(at: number, descriptor: RawDescriptor): void {
    const { flags = 0, next = 0 } = descriptor;
    writeDescriptor(this.memory, at, descriptor, [flags, next]);
  }

  /** Writes an entry of the available ring. */
  setAvailable(position: number, head: number): void {
    this.#available[2 + (position & (this.size - 1))] = head;
  }

  /** Writes the available index; later submissions go on from there. */
  setAvailableIndex(index: number): void {
    this.#availableIndex = index & 0xffff;
    this.flush();
  }

  /** Makes a head available that was written with `setDescriptor`. */
  offer(head: number): void {
    this.setAvailable(this.#availableIndex, head);
    this.setAvailableIndex(this.#availableIndex + 1);
  }

  /** Forgets and frees everything, ring indices included: a driver's reset. */
  reset(start: number = this.start): void {
    for (const [id] of this.#pending) this.#finish(id, 0);
    this.#available.fill(0);
    this.#used.fill(0);
    this.#availableIndex = start;
    this.#kickedIndex = start;
    this.#usedIndex = start;
    this.#available[1] = start;
    this.#used[1] = start;
    this.#available[2 + this.size] = start;
  }

  #claim(count: number, wanted: readonly number[]): number[] {
    const chosen: number[] = [];
    for (let i = 0; i < count; i++) {
      let descriptor = wanted[i];
      if (descriptor === undefined) {
        descriptor = this.#free.pop() as number;
      } else {
        const at = this.#free.indexOf(descriptor);
        if (at < 0) {
          this.#free.push(...chosen);
          throw new Error(`Descriptor ${descriptor} is not free`);
        }
        this.#free.splice(at, 1);
      }
      chosen.push(descriptor);
    }
    return chosen;
  }

  #writeDirect(descriptors: readonly number[], ranges: Range[]): Range {
    ranges.forEach(({ address, length, write }, i) => {
      const last = i === ranges.length - 1;
      const flags = (write ? VIRTQ_DESC_F_WRITE : 0) |
        (last ? 0 : VIRTQ_DESC_F_NEXT);
      const next = last ? 0 : descriptors[i + 1];
      this.setDescriptor(descriptors[i], { address, length, flags, next });
    });
    return { address: 0, length: 0, write: false, owned: false };
  }

  #writeTable(head: number, ranges: Range[], at?: number): Range {
    const length = 16 * ranges.length;
    const table = at ?? this.memory.allocate(length, 16);
    ranges.forEach((range, i) => {
      const last = i === ranges.length - 1;
      this.setDescriptorAt(table + 16 * i, {
        address: range.address,
        length: range.length,
        flags: (range.write ? VIRTQ_DESC_F_WRITE : 0) |
          (last ? 0 : VIRTQ_DESC_F_NEXT),
        next: last ? 0 : i + 1,
      });
    });
    const flags = VIRTQ_DESC_F_INDIRECT;
    this.setDescriptor(head, { address: table, length, flags });
    return { address: table, length, write: false, owned: at === undefined };
  }

  #finish(id: number, length: number): Completion {
    const submission = this.#pending.get(id);
    if (submission === undefined) {
      throw new Error(`The device used id ${id}, which is not in flight`);
    }
    this.#pending.delete(id);
    const data = collectWritten(
      this.memory,
      submission.ranges,
      id,
      length,
      this.#copy,
    );
    freeRanges(this.memory, [...submission.ranges, submission.table]);
    for (let i = submission.descriptors.length - 1; i >= 0; i--) {
      this.#free.push(submission.descriptors[i]);
    }
    return { token: submission.token, id, length, data };
  }
}
