/**
 * Storage without a medium: a disk in memory, and one of nothing.
 *
 * Theory of operation. The bytes of a disk in memory lie in a memfd that is
 * mapped here: reads and writes are copies without a system call, and discarded
 * ranges are given back to the host by punching holes into the memfd. Copies to
 * random places of a large disk wait for the page tables more than for the memory:
 * huge pages are asked for. The disk is lost with the process; that is what it is
 * for (tests, scratch space).
 *
 * A disk of nothing completes every request at once and touches no data. It
 * shows what everything but the medium costs.
 *
 * @module
 */

import { copySlot, zeroMapped } from "../../sys/copy.ts";
import { SystemError } from "../../sys/errno.ts";
import { DataFile } from "../../sys/file.ts";
import type { IoTable } from "../../sys/io_table.ts";
import { mapFile, type Mapping } from "../../sys/mapping.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { StorageError } from "./error.ts";
import { findExtent } from "./extent.ts";
import {
  type Storage,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  type StorageCompletion,
  type StorageExtent,
  type StorageOperation,
} from "./storage.ts";

/** Unit of I/O in bytes: a page. */
const UNIT = 4096;

/** What a disk without a medium is made with. */
export interface MemoryOptions {
  /** Bytes; a multiple of the block size. */
  readonly size: number;
  /** Logical block size in bytes. */
  readonly blockSize: number;
  /** Refuse writes. */
  readonly readOnly: boolean;
}

/** A disk that keeps nothing. */
export class NullEngine implements Storage {
  readonly capacity: number;
  readonly blockSize: number;
  readonly optimalSize: number = UNIT;
  readonly readOnly: boolean;
  readonly canDiscard: boolean = true;
  readonly canUnmap: boolean = true;
  readonly discardGranularity: number = UNIT;
  onComplete: StorageCompletion = () => {};
  #table: IoTable | null = null;

  /** Makes a disk. */
  constructor(options: MemoryOptions) {
    this.capacity = options.size;
    this.blockSize = options.blockSize;
    this.readOnly = options.readOnly;
  }

  attach(table: IoTable): void {
    this.#table = table;
  }

  submit(slot: number, operation: StorageOperation): void {
    this.onComplete(
      slot,
      operation === STORAGE_FLUSH ? 0 : this.#table!.lengths[slot] >>> 0,
    );
  }

  poll(): number {
    return 0;
  }

  datasync(): number {
    return 0;
  }

  extent(offset: number): StorageExtent {
    return { length: this.capacity - offset, mapped: false };
  }

  acquire(): void {}

  release(): void {}

  refresh(): number {
    return this.capacity;
  }

  status(): Record<string, unknown> {
    return { kind: "null", engine: "null" };
  }

  close(): void {}
}

/** A disk in shared memory. */
export class MemoryEngine implements Storage {
  readonly capacity: number;
  readonly blockSize: number;
  readonly optimalSize: number = UNIT;
  readonly readOnly: boolean;
  readonly canDiscard: boolean = true;
  readonly canUnmap: boolean = true;
  readonly discardGranularity: number = UNIT;
  onComplete: StorageCompletion = () => {};
  readonly #file: DataFile;
  readonly #mapping: Mapping;
  #table: IoTable | null = null;

  /**
   * Makes a disk of zeroes; memory is taken when it is written.
   *
   * @throws {StorageError} kind `size` when it is more than can be mapped
   */
  constructor(options: MemoryOptions) {
    this.capacity = options.size;
    this.blockSize = options.blockSize;
    this.readOnly = options.readOnly;
    const { size } = options;
    try {
      using memfd = createMemfd("vhostd-disk", size);
      using stack = new DisposableStack();
      this.#file = stack.use(DataFile.open(`/proc/self/fd/${memfd.fd}`));
      this.#mapping = mapFile(this.#file.fd, { offset: 0, size });
      this.#mapping.advise("huge-pages");
      this.#mapping.advise("no-dump");
      stack.move();
    } catch (cause) {
      throw new StorageError(
        "size",
        "storage=memory",
        `there is no room here for ${size} bytes (${
          cause instanceof SystemError ? cause.kind : cause
        }); use a smaller size`,
        { cause },
      );
    }
  }

  attach(table: IoTable): void {
    this.#table = table;
  }

  submit(slot: number, operation: StorageOperation): void {
    this.onComplete(slot, this.#run(slot, operation));
  }

  poll(): number {
    return 0;
  }

  datasync(): number {
    return 0;
  }

  extent(offset: number): StorageExtent {
    return findExtent(this.#file, offset, this.capacity);
  }

  acquire(): void {}

  release(): void {}

  refresh(): number {
    return this.capacity;
  }

  status(): Record<string, unknown> {
    return {
      kind: "memory",
      engine: "memory",
      allocatedBytes: this.#file.blockBytes(),
    };
  }

  close(): void {
    this.#mapping.unmap();
    this.#file.close();
  }

  #run(slot: number, operation: StorageOperation): number {
    const table = this.#table!;
    const length = table.lengths[slot];
    if (operation === STORAGE_READ || operation === STORAGE_WRITE) {
      copySlot(table, slot, this.#mapping, operation === STORAGE_WRITE);
      return length;
    }
    if (operation === STORAGE_FLUSH) return 0;
    if (operation === STORAGE_WRITE_ZEROES) {
      zeroMapped(table, slot, this.#mapping);
      return 0;
    }
    return this.#file.punchSlot(table, slot);
  }
}
