/**
 * Writes zeroes where the file system cannot make a range of them.
 *
 * @module
 */

import type { DataFile } from "../../sys/file.ts";
import { Errno } from "../../sys/errno.ts";
import { IoTable } from "../../sys/io_table.ts";
import { mapAnonymous, type Mapping } from "../../sys/mapping.ts";

/** Bytes of the buffer of zeroes. */
const BUFFER_SIZE = 128 * 1024;
/** Times that one system call writes the buffer. */
const REPEAT = 64;
const TWO_32 = 4294967296;

/**
 * Writes zeroes from one buffer that all elements of a scatter list share. The
 * buffer is never written, so it takes no memory but a page of the kernel's.
 */
export class ZeroWriter implements Disposable {
  readonly #mapping: Mapping = mapAnonymous(BUFFER_SIZE);
  /** The operands of one write. */
  readonly #table: IoTable = new IoTable(1, REPEAT);

  constructor() {
    const { words } = this.#table.iovecs;
    for (let i = 0; i < REPEAT; i++) {
      words[4 * i] = this.#mapping.address;
      words[4 * i + 1] = this.#mapping.address / TWO_32;
      words[4 * i + 2] = BUFFER_SIZE;
    }
  }

  /**
   * Writes zeroes to a range.
   *
   * @param request has `offsets` and `lengths` of the slot
   * @returns 0, or a negative errno; then a part may have been written
   */
  write(file: DataFile, request: IoTable, slot: number): number {
    const table = this.#table, { words } = table.iovecs;
    const offset = request.offsets[slot], length = request.lengths[slot];
    let done = 0;
    while (done < length) {
      const step = Math.min(length - done, BUFFER_SIZE * REPEAT);
      const count = Math.ceil(step / BUFFER_SIZE);
      words[4 * count - 2] = step - (count - 1) * BUFFER_SIZE;
      table.counts[0] = count;
      table.offsets[0] = offset + done;
      const written = file.writeSlot(table, 0);
      words[4 * count - 2] = BUFFER_SIZE;
      if (written <= 0) return written < 0 ? written : -Errno.EIO;
      done += written;
    }
    return 0;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#table[Symbol.dispose]();
  }
}
