/**
 * A storage engine of plain system calls: every operation is done, and
 * completed, before `submit` returns.
 *
 * Theory of operation. One system call moves the data of a request between the
 * image and guest memory: preadv or pwritev, pread or pwrite for one buffer. What
 * it does not move at once is the rare case and handled apart: a short transfer
 * goes on where it stopped; with direct I/O, EINVAL says that a buffer or a length
 * is not aligned, and the transfer goes through a {@linkcode BounceBuffer}. A
 * transfer ends with its whole length or with an error: reading beyond the end of
 * an image that was truncated is EIO.
 *
 * Ranges of files are punched and zeroed with fallocate. On a block device that
 * zeroes in both cases, so it serves what has to read as zeroes; a discard is the
 * device's own (BLKDISCARD), which promises nothing and which devices have that
 * zero nothing by themselves. What the file system or the device lacks is learned
 * from its answer and not tried again: then zeroes are written, and a discard does
 * nothing.
 *
 * Source: pread(2), preadv(2), fallocate(2), open(2) on O_DIRECT; Linux
 * `block/fops.c` and `block/ioctl.c`.
 *
 * @module
 */

import type { DataFile } from "../../sys/file.ts";
import { Errno } from "../../sys/errno.ts";
import type { IoTable } from "../../sys/io_table.ts";
import { BounceBuffer } from "./bounce.ts";
import { type QueueLimits, queueLimits } from "./block_device.ts";
import { StorageError } from "./error.ts";
import { ImageLock } from "./lock.ts";
import { ScatterList } from "./scatter.ts";
import { sizeProblem } from "./size.ts";
import {
  type Storage,
  STORAGE_DISCARD,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
  type StorageCompletion,
  type StorageExtent,
  type StorageOperation,
} from "./storage.ts";
import { findExtent } from "./extent.ts";
import { ZeroWriter } from "./zeroes.ts";

/** Unit of I/O of files, in bytes: pages and file system blocks. */
const FILE_UNIT = 4096;
/** Distance beyond the end of a file at which punching holes is tried. */
const PROBE_DISTANCE = 2 ** 30;

/** What a {@linkcode SyncEngine} is made with. */
export interface SyncEngineOptions {
  /** Logical block size in bytes. */
  readonly blockSize: number;
  /** Serve the image although others use it. */
  readonly share: boolean;
  /** What a block device's queue can do (default: what sysfs tells). */
  readonly limits?: QueueLimits;
}

/** Counters of what is not the common case. */
interface RareCounters {
  shortTransfers: number;
  bouncedTransfers: number;
  writtenZeroes: number;
  ignoredDiscards: number;
}

/** Storage in a file or block device, by plain system calls. */
export class SyncEngine implements Storage {
  readonly blockSize: number;
  readonly optimalSize: number;
  readonly readOnly: boolean;
  readonly discardGranularity: number;
  onComplete: StorageCompletion = () => {};
  readonly #file: DataFile;
  readonly #lock: ImageLock;
  readonly #scatter: ScatterList;
  readonly #zeroes: ZeroWriter;
  #table: IoTable | null = null;
  readonly #bounce: BounceBuffer | null;
  readonly #rare: RareCounters = {
    shortTransfers: 0,
    bouncedTransfers: 0,
    writtenZeroes: 0,
    ignoredDiscards: 0,
  };
  #capacity: number;
  /** Ranges can be made holes. */
  #canPunch: boolean;
  /** The device, if it is one, frees space that is not to read as zeroes. */
  #canTrim: boolean;
  #canZero = true;

  /** Makes an engine for an open image of a fit size, which it closes in the end. */
  constructor(file: DataFile, options: SyncEngineOptions) {
    this.#file = file;
    this.blockSize = options.blockSize;
    this.readOnly = file.readOnly;
    const limits = file.kind === "block"
      ? options.limits ?? queueLimits(file)
      : null;
    this.optimalSize = Math.max(
      limits?.physicalBlockSize || FILE_UNIT,
      this.blockSize,
    );
    this.discardGranularity = Math.max(
      limits?.discardGranularity || FILE_UNIT,
      this.blockSize,
    );
    this.#capacity = file.size();
    this.#canPunch = !this.readOnly &&
      (limits === null ? this.#probePunch() : limits.writeZeroesMaxBytes > 0);
    this.#canTrim = !this.readOnly && limits !== null &&
      limits.discardMaxBytes > 0;
    this.#lock = new ImageLock(file, options.share);
    this.#scatter = new ScatterList();
    this.#zeroes = new ZeroWriter();
    this.#bounce = file.direct ? new BounceBuffer(file, this.#scatter) : null;
  }

  get capacity(): number {
    return this.#capacity;
  }

  get canDiscard(): boolean {
    return this.#file.kind === "block" ? this.#canTrim : this.#canPunch;
  }

  get canUnmap(): boolean {
    return this.#canPunch;
  }

  attach(table: IoTable): void {
    this.#table = table;
  }

  submit(slot: number, operation: StorageOperation): void {
    this.onComplete(slot, this.run(slot, operation));
  }

  poll(): number {
    return 0;
  }

  datasync(): number {
    return this.#file.datasync();
  }

  extent(offset: number): StorageExtent {
    return findExtent(this.#file, offset, this.#capacity);
  }

  acquire(): void {
    this.#lock.acquire();
  }

  release(): void {
    this.#lock.release();
  }

  refresh(): number {
    const file = this.#file, size = file.size();
    const problem = sizeProblem(file, size, this.blockSize);
    if (problem !== null) {
      throw new StorageError(
        "size",
        file.path,
        `${problem}; the guest still sees ${this.#capacity} bytes`,
      );
    }
    this.#capacity = size;
    return size;
  }

  /** Whether the image was closed. */
  get closed(): boolean {
    return this.#file.closed;
  }

  status(): Record<string, unknown> {
    return {
      path: this.#file.path,
      kind: this.#file.kind,
      engine: "sync",
      filesystem: this.#file.filesystem(),
      direct: this.#file.direct,
      locked: this.#lock.held,
      allocatedBytes: this.#file.kind === "file"
        ? this.#file.blockBytes()
        : this.#capacity,
      ...this.#rare,
    };
  }

  close(): void {
    if (this.#file.closed) return;
    this.#lock.release();
    this.#bounce?.[Symbol.dispose]();
    this.#scatter[Symbol.dispose]();
    this.#zeroes[Symbol.dispose]();
    this.#file.close();
  }

  /** Does an operation; its result. */
  protected run(slot: number, operation: StorageOperation): number {
    const table = this.#table!;
    switch (operation) {
      case STORAGE_READ:
        return this.#transfer(table, slot, false);
      case STORAGE_WRITE:
        return this.#transfer(table, slot, true);
      case STORAGE_FLUSH:
        return this.#file.datasync();
      case STORAGE_DISCARD:
        return this.#discard(table, slot);
      case STORAGE_WRITE_ZEROES:
        return this.#writeZeroes(table, slot);
      case STORAGE_WRITE_ZEROES_UNMAP:
        return this.#unmap(table, slot);
    }
  }

  #transfer(table: IoTable, slot: number, writing: boolean): number {
    if (table.lengths[slot] === 0) return 0;
    const moved = writing
      ? this.#file.writeSlot(table, slot)
      : this.#file.readSlot(table, slot);
    if (moved === table.lengths[slot]) return moved;
    return this.goOn(slot, writing, moved);
  }

  /**
   * Finishes a transfer whose first call did not do all.
   *
   * @param first what that call returned: bytes moved, or a negative errno
   * @returns the length of the transfer, or a negative errno
   */
  protected goOn(slot: number, writing: boolean, first: number): number {
    const table = this.#table!;
    const offset = table.offsets[slot], length = table.lengths[slot];
    const count = table.counts[slot];
    const iovecs = table.iovecs.address(slot);
    const file = this.#file;
    let done = 0, moved = first, bounced = false;
    for (;;) {
      if (moved === -Errno.EINVAL && this.#bounce !== null && !bounced) {
        bounced = true;
        this.#rare.bouncedTransfers++;
      } else if (moved < 0) {
        return moved;
      } else if (moved === 0) {
        return -Errno.EIO;
      } else {
        done += moved;
        if (done === length) return length;
        if (!bounced) this.#rare.shortTransfers++;
      }
      const at = offset + done, left = length - done;
      if (bounced) {
        moved = this.#bounce!
          .transfer(writing, iovecs, count, done, left, at);
      } else {
        const parts = this.#scatter.slice(iovecs, count, done, left);
        moved = writing
          ? file.writev(this.#scatter.address, parts, at)
          : file.readv(this.#scatter.address, parts, at);
      }
    }
  }

  #discard(table: IoTable, slot: number): number {
    if (this.#canTrim) {
      const result = this.#file.discardSlot(table, slot);
      if (!isUnsupported(result)) return result;
      if (result !== -Errno.EINVAL) this.#canTrim = false;
    } else if (this.#canPunch && this.#file.kind === "file") {
      const result = this.#file.punchSlot(table, slot);
      if (!this.#lacksPunch(result)) return result;
    }
    this.#rare.ignoredDiscards++;
    return 0;
  }

  #unmap(table: IoTable, slot: number): number {
    if (this.#canPunch) {
      const result = this.#file.punchSlot(table, slot);
      if (!this.#lacksPunch(result)) return result;
    }
    return this.#writeZeroes(table, slot);
  }

  #writeZeroes(table: IoTable, slot: number): number {
    if (this.#canZero) {
      const result = this.#file.zeroSlot(table, slot);
      if (!isUnsupported(result)) return result;
      if (result !== -Errno.EINVAL) this.#canZero = false;
    }
    this.#rare.writtenZeroes++;
    return this.#zeroes.write(this.#file, table, slot);
  }

  /** Remembers that holes cannot be punched when that is what the answer says. */
  #lacksPunch(result: number): boolean {
    if (!isUnsupported(result)) return false;
    if (result !== -Errno.EINVAL) this.#canPunch = false;
    return true;
  }

  /** Tries to punch a hole where no data is, far beyond the end of the file. */
  #probePunch(): boolean {
    const at = this.#capacity + PROBE_DISTANCE;
    return !isUnsupported(this.#file.punchHole(at, FILE_UNIT));
  }
}

/**
 * Whether an answer to fallocate or to a discard means that this cannot be done
 * here, on this range at least (a block device refuses what is no whole blocks).
 */
function isUnsupported(result: number): boolean {
  return result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS ||
    result === -Errno.EINVAL || result === -Errno.ENODEV;
}
