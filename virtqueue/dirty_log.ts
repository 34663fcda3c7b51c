/**
 * The dirty log: which pages of guest memory were written, for a front-end that
 * copies that memory while the device goes on writing it.
 *
 * Theory of operation
 * -------------------
 * The log has one bit for each page of 4 KiB, from guest address 0 on. Whoever
 * writes a page sets its bit; the front-end takes bits out and copies their pages,
 * again and again, until few are left; then it stops the rings and copies those.
 * Two rules make that complete:
 *
 * 1. A bit is set after the write that it stands for. The other way round the
 *    front-end could take the bit, copy the page, and miss the write.
 * 2. A bit is set before anybody is told that the ring has stopped.
 *
 * Other back-ends write the same log, and the front-end clears it meanwhile: bits
 * are set with an atomic OR. It is also a full fence, so that rule 1 holds for what
 * this thread wrote; what a kernel wrote for us was written before its completion
 * was seen. A bit that is set already is set again for the same reason: to look
 * first would let the look pass the write.
 *
 * Source: vhost-user.rst, "Migration".
 *
 * @module
 */

import type { DescriptorChain } from "./chain.ts";

/** Bytes of guest memory that one bit stands for (`VHOST_LOG_PAGE`). */
export const DIRTY_LOG_PAGE = 4096;

/**
 * Bytes of a log that has a bit for each page below an address.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { dirtyLogSize } from "./dirty_log.ts";
 *
 * assertEquals(dirtyLogSize(2 ** 30), 32768);
 * assertEquals(dirtyLogSize(1), 1);
 * ```
 */
export function dirtyLogSize(end: number): number {
  return Math.ceil(end / (8 * DIRTY_LOG_PAGE));
}

/**
 * A log of written pages.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { DirtyLog } from "./dirty_log.ts";
 *
 * const bits = new Uint8Array(2);
 * const log = new DirtyLog(bits);
 * log.mark(0x7fff, 2);
 * assertEquals([...bits], [0x80, 0x01]);
 * ```
 */
export class DirtyLog {
  /** A bit was set since somebody last made this false. */
  changed = false;
  /** Bytes of the log that were to be written and lie behind its end. */
  lost = 0;
  readonly #bits: Uint8Array;

  /** Makes a log of bits that are shared with others. */
  constructor(bits: Uint8Array) {
    this.#bits = bits;
  }

  /**
   * A range of guest memory was written.
   *
   * @param address guest address of the first byte
   * @param length in bytes
   */
  mark(address: number, length: number): void {
    if (length <= 0) return;
    const bits = this.#bits;
    const first = Math.floor(address / DIRTY_LOG_PAGE);
    const last = Math.floor((address + length - 1) / DIRTY_LOG_PAGE);
    const start = Math.floor(first / 8), end = Math.floor(last / 8);
    for (let at = start; at <= end; at++) {
      let mask = 0xff;
      if (at === start) mask &= 0xff << (first % 8);
      if (at === end) mask &= 0xff >> (7 - last % 8);
      if (at < bits.length) Atomics.or(bits, at, mask);
      else this.lost++;
    }
    this.changed = true;
  }

  /**
   * Entries of a ring were written.
   *
   * @param address guest address of the first entry of the ring
   * @param width of an entry in bytes
   * @param from index of the first entry that was written
   * @param count how many follow each other, around the end of the ring
   * @param size entries of the ring
   */
  markEntries(
    address: number,
    width: number,
    from: number,
    count: number,
    size: number,
  ): void {
    const behind = from + count - size;
    if (count >= size) this.mark(address, width * size);
    else if (behind <= 0) this.mark(address + width * from, width * count);
    else {
      this.mark(address + width * from, width * (size - from));
      this.mark(address, width * behind);
    }
  }

  /** All that the device may write of a chain. */
  markChain(chain: DescriptorChain): void {
    for (let i = chain.readableCount; i < chain.count; i++) {
      this.mark(chain.address(i), chain.lengths[i]);
    }
  }
}
