/**
 * The port between a block-like device (virtio-blk, a SCSI disk) and what
 * keeps its bytes. Engines implement it; devices submit operations on slots of
 * their own and are told of each completion.
 *
 * @module
 */

import type { IoTable } from "../../sys/io_table.ts";

/** Reads into the iovecs. */
export const STORAGE_READ = 0;
/** Writes from the iovecs. */
export const STORAGE_WRITE = 1;
/** Makes all completed writes durable. */
export const STORAGE_FLUSH = 2;
/** Gives a range back: host blocks are freed, its contents are undefined from then on. */
export const STORAGE_DISCARD = 3;
/** Makes a range read as zeroes, keeping its host blocks. */
export const STORAGE_WRITE_ZEROES = 4;
/** Makes a range read as zeroes; host blocks may be freed. */
export const STORAGE_WRITE_ZEROES_UNMAP = 5;

/** One of the `STORAGE_*` operations. */
export type StorageOperation = 0 | 1 | 2 | 3 | 4 | 5;

/**
 * Told of each finished operation.
 *
 * @param slot as it was given to {@linkcode Storage.submit}
 * @param result bytes moved, 0 for operations without data, or a negative errno
 */
export type StorageCompletion = (slot: number, result: number) => void;

/** A run of bytes that are all allocated, or all not. */
export interface StorageExtent {
  /** Length in bytes, at least 1. */
  readonly length: number;
  /** Whether the host has space for them; without it they read as zeroes. */
  readonly mapped: boolean;
}

/** Where the bytes of a disk are kept. Offsets and lengths are in bytes. */
export interface Storage {
  /** Size in bytes; a multiple of {@linkcode blockSize}. */
  readonly capacity: number;
  /** Smallest unit of addressing in bytes that the medium asks for (512 or more). */
  readonly blockSize: number;
  /** Preferred unit of I/O in bytes (a multiple of `blockSize`), for topology hints. */
  readonly optimalSize: number;
  /** True when writes are refused. */
  readonly readOnly: boolean;
  /** True when DISCARD frees space. */
  readonly canDiscard: boolean;
  /** True when WRITE_ZEROES_UNMAP frees space. */
  readonly canUnmap: boolean;
  /** Granularity in bytes below which DISCARD frees nothing. */
  readonly discardGranularity: number;

  /** Receives completions; set once, before the first `submit`. */
  onComplete: StorageCompletion;

  /**
   * Names the table that has the operands of all slots; once, before the first
   * {@linkcode submit}. The table stays the caller's.
   */
  attach(table: IoTable): void;

  /**
   * Starts an operation on the range and iovecs that the table has for `slot`;
   * they stay as they are until it completes. `onComplete(slot, …)` is called exactly once for it,
   * before `submit` returns or from a later {@linkcode poll}. Short transfers
   * are continued by the engine: the result is the whole length, or an error.
   *
   * The range must lie in the capacity (the device checked it). The memory
   * that the iovecs name stays untouched by the caller until completion. Only
   * reads and writes have iovecs; a flush has no range either.
   */
  submit(slot: number, operation: StorageOperation): void;

  /**
   * Asks that an operation in flight end soon, done or not. It completes from a
   * later {@linkcode poll}: with `-ECANCELED` where it was not done as a whole.
   * May be asked again. Absent where nothing is in flight after `submit`.
   */
  cancel?(slot: number): void;

  /** Submits what is prepared and delivers what is done; returns the number of completions. */
  poll(): number;

  /**
   * Makes all completed writes durable before it returns. For rare use: nothing
   * else of this thread goes on meanwhile.
   *
   * @returns 0, or a negative errno
   */
  datasync(): number;

  /**
   * Tells whether the bytes from `offset` on are allocated, and how far that
   * goes. For rare use: it is a system call or two, and allocates.
   *
   * @param offset below the capacity
   */
  extent(offset: number): StorageExtent;

  /** Takes the lock that keeps others from writing; throws when it is taken. */
  acquire(): void;
  /** Lets the lock go. */
  release(): void;
  /**
   * Looks at the size again; returns the new capacity. Throws when the medium
   * could not be opened with that size; the capacity stays what it was.
   */
  refresh(): number;
  /** Facts for people: path, engine, file system, allocated bytes. */
  status(): Record<string, unknown>;
  /** Closes what was opened. Nothing is in flight. */
  close(): void;
}
