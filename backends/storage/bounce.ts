/**
 * Direct I/O for buffers that are not aligned as it needs them.
 *
 * Theory of operation. Direct I/O moves whole blocks between a device and
 * memory at aligned addresses; a guest may hand in buffers at any address and of
 * any length. Those go through an aligned buffer here. It is the mapping of a
 * memfd: the kernel copies between the guest's buffers and the memfd (preadv,
 * pwritev), and moves blocks between the mapping and the image. So this code
 * needs no view of guest memory, and guest memory that was taken away meanwhile
 * is an error (EFAULT) instead of a fault.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import { DataFile } from "../../sys/file.ts";
import { IovecTable } from "../../sys/iovec.ts";
import { mapFile, type Mapping } from "../../sys/mapping.ts";
import { createMemfd } from "../../sys/memfd.ts";
import type { ScatterList } from "./scatter.ts";

/** Bytes that are moved at a time. */
export const BOUNCE_SIZE = 256 * 1024;

/** An aligned buffer that transfers go through. */
export class BounceBuffer implements Disposable {
  readonly #file: DataFile;
  readonly #memory: DataFile;
  readonly #mapping: Mapping;
  readonly #whole: IovecTable;
  readonly #scatter: ScatterList;

  /**
   * Makes a buffer for transfers of `file`.
   *
   * @param scatter used for parts of scatter lists
   */
  constructor(file: DataFile, scatter: ScatterList) {
    this.#file = file;
    this.#scatter = scatter;
    using memfd = createMemfd("bounce", BOUNCE_SIZE);
    this.#memory = DataFile.open(`/proc/self/fd/${memfd.fd}`);
    this.#mapping = mapFile(memfd.fd, { size: BOUNCE_SIZE });
    this.#whole = new IovecTable(1, 1);
    this.#whole.words[0] = this.#mapping.address;
    this.#whole.words[1] = this.#mapping.address / 4294967296;
  }

  /**
   * Reads or writes a part of a transfer.
   *
   * @param iovecs address of the scatter list of the whole transfer
   * @param count number of its iovecs
   * @param start bytes of the transfer that are done already
   * @param length most bytes to move; no more than {@linkcode BOUNCE_SIZE} are
   * @param offset in the image of the first byte to move; it must be aligned,
   * as `length` must
   * @returns bytes moved, or a negative errno
   */
  transfer(
    writing: boolean,
    iovecs: number,
    count: number,
    start: number,
    length: number,
    offset: number,
  ): number {
    const size = Math.min(length, BOUNCE_SIZE);
    const whole = this.#whole.address(0);
    if (writing) {
      const parts = this.#scatter.slice(iovecs, count, start, size);
      const copied = this.#memory.writev(this.#scatter.address, parts, 0);
      if (copied !== size) return copied < 0 ? copied : -Errno.EFAULT;
      this.#whole.words[2] = size;
      return this.#file.writev(whole, 1, offset);
    }
    this.#whole.words[2] = size;
    const moved = this.#file.readv(whole, 1, offset);
    if (moved <= 0) return moved;
    const parts = this.#scatter.slice(iovecs, count, start, moved);
    const copied = this.#memory.readv(this.#scatter.address, parts, 0);
    if (copied !== moved) return copied < 0 ? copied : -Errno.EFAULT;
    return moved;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#memory.close();
    this.#whole[Symbol.dispose]();
  }
}
