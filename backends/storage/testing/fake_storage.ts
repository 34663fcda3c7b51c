/**
 * A storage that completes when a test says so, in the order that the test
 * says: what an asynchronous engine may do.
 *
 * @module
 */

import type { IoTable } from "../../../sys/io_table.ts";
import { detachMemory, viewMemory } from "../../../sys/mapping.ts";
import {
  type Storage,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  type StorageCompletion,
  type StorageExtent,
  type StorageOperation,
} from "../storage.ts";

const TWO_32 = 4294967296;
const EIO = 5;

/** An operation that was submitted. */
export interface FakeOperation {
  /** Slot of the request. */
  readonly slot: number;
  /** What to do. */
  readonly operation: StorageOperation;
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly length: number;
  /** Address of the scatter list. */
  readonly iovecs: number;
  /** Number of its elements. */
  readonly count: number;
}

/** A disk in memory. */
export class FakeStorage implements Storage {
  readonly blockSize: number = 512;
  readonly optimalSize: number = 4096;
  readonly readOnly: boolean = false;
  readonly canDiscard: boolean = true;
  readonly canUnmap: boolean = true;
  readonly discardGranularity: number = 4096;
  onComplete: StorageCompletion = () => {};
  /** The contents. */
  readonly disk: Uint8Array<ArrayBuffer>;
  /** Every operation that was ever submitted. */
  readonly log: FakeOperation[] = [];
  /** Operations that are not completed. */
  readonly pending: FakeOperation[] = [];
  /** Completes at once, within `submit`. */
  immediate = false;
  /** Error numbers for the next operations to complete; 0: none. */
  readonly errors: number[] = [];
  /** How often {@linkcode datasync} was called. */
  datasyncs = 0;
  /** Slots whose operations were asked to end, as often as they were. */
  readonly cancelled: number[] = [];
  /** What {@linkcode refresh} finds; beyond the disk there are zeroes. */
  capacity: number;
  /** Whether the lock is taken. */
  locked = false;
  /** Whether it was closed. */
  closed = false;

  #table: IoTable | null = null;

  /** Makes a disk of zeroes. */
  constructor(capacity: number) {
    this.disk = new Uint8Array(capacity);
    this.capacity = capacity;
  }

  attach(table: IoTable): void {
    this.#table = table;
  }

  submit(slot: number, operation: StorageOperation): void {
    const table = this.#table!;
    const item = {
      slot,
      operation,
      offset: table.offsets[slot],
      length: table.lengths[slot],
      iovecs: table.iovecs.address(slot),
      count: table.counts[slot],
    };
    this.log.push(item);
    if (this.pending.some((other) => other.slot === slot)) {
      throw new Error(`Slot ${slot} has an operation already`);
    }
    this.pending.push(item);
    if (this.immediate) this.complete(this.pending.length - 1);
  }

  /** Does and completes the pending operation `index`. */
  complete(index: number): void {
    const [item] = this.pending.splice(index, 1);
    const error = this.errors.shift() ?? 0;
    this.onComplete(item.slot, error === 0 ? this.#do(item) : -error);
  }

  /** Completes nothing either. */
  cancel(slot: number): void {
    this.cancelled.push(slot);
  }

  /** Completes nothing: tests do. */
  poll(): number {
    return 0;
  }

  datasync(): number {
    this.datasyncs++;
    return -(this.errors.shift() ?? 0);
  }

  extent(offset: number): StorageExtent {
    return { length: this.capacity - offset, mapped: true };
  }

  acquire(): void {
    this.locked = true;
  }

  release(): void {
    this.locked = false;
  }

  refresh(): number {
    return this.capacity;
  }

  status(): Record<string, unknown> {
    return { engine: "fake" };
  }

  close(): void {
    this.closed = true;
  }

  #do(item: FakeOperation): number {
    const { operation, offset, length } = item;
    if (operation === STORAGE_FLUSH) return 0;
    if (offset + length > this.disk.length) return -EIO;
    const range = this.disk.subarray(offset, offset + length);
    if (operation === STORAGE_READ || operation === STORAGE_WRITE) {
      return transfer(item, range, operation === STORAGE_WRITE);
    }
    range.fill(0);
    return 0;
  }
}

/** Copies between memory that a scatter list names and a range. */
function transfer(
  item: FakeOperation,
  range: Uint8Array,
  writing: boolean,
): number {
  const list = viewMemory(item.iovecs, 16 * item.count);
  const words = new Uint32Array(list);
  let done = 0;
  for (let i = 0; i < words.length; i += 4) {
    const memory = viewMemory(words[i] + words[i + 1] * TWO_32, words[i + 2]);
    const bytes = new Uint8Array(memory);
    const part = range.subarray(done, done + bytes.length);
    if (writing) part.set(bytes);
    else bytes.set(part);
    done += bytes.length;
    detachMemory(memory);
  }
  detachMemory(list);
  return done;
}
