/**
 * A part of a scatter list, as a scatter list of its own.
 *
 * Needed where a transfer has to go on after a part of it is done: after a
 * short transfer, and when it goes through a bounce buffer piece by piece. Both
 * are rare, so views of foreign memory are made and given up again here.
 *
 * @module
 */

import { IOV_MAX, IovecTable } from "../../sys/iovec.ts";
import { detachMemory, viewMemory } from "../../sys/mapping.ts";

const TWO_32 = 4294967296;
const IOVEC_BYTES = 16;

/** A scatter list in memory of its own, filled from parts of others. */
export class ScatterList implements Disposable {
  readonly #table: IovecTable = new IovecTable(1, IOV_MAX);

  /** Address of the first iovec. */
  get address(): number {
    return this.#table.address(0);
  }

  /**
   * Takes over a range of the bytes that another list describes.
   *
   * @param iovecs address of the other list
   * @param count number of its iovecs, at most 1024
   * @param start first byte, counted from the start of that list
   * @param length number of bytes
   * @returns number of iovecs that describe the range; they cover less when the
   * other list does
   */
  slice(iovecs: number, count: number, start: number, length: number): number {
    const buffer = viewMemory(iovecs, count * IOVEC_BYTES);
    try {
      return this.#copy(new Uint32Array(buffer), start, length);
    } finally {
      detachMemory(buffer);
    }
  }

  #copy(from: Uint32Array, start: number, length: number): number {
    const words = this.#table.words;
    let skip = start, left = length, at = 0;
    for (let i = 0; i < from.length && left > 0; i += 4) {
      const size = from[i + 2] + from[i + 3] * TWO_32;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const address = from[i] + from[i + 1] * TWO_32 + skip;
      const piece = Math.min(size - skip, left);
      words[at++] = address;
      words[at++] = address / TWO_32;
      words[at++] = piece;
      words[at++] = piece / TWO_32;
      left -= piece;
      skip = 0;
    }
    return at / 4;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }
}
