/**
 * Stamps: what tells blocks of a disk apart, and writes from what was there.
 *
 * Theory of operation. Every 4 KiB of a disk start with their own number, in an
 * image and in what is written. Two words follow, zeroes in an image: a write has
 * the number of its run there, which is random, and its own number in the run. So
 * a read is checked by the first word, whatever was written before, and what a
 * write left is checked by all three: {@linkcode WriteLog} knows which writes to
 * a block may be its last. Two that are in flight at once may be done in either
 * order. A block keeps the number of the first write since when there was always
 * one in flight for it: all before that were answered when it was begun.
 *
 * @module
 */

/** Unit of the stamps in bytes. */
export const STAMP_UNIT = 4096;

/** Makes an image of `bytes`, every 4 KiB of it stamped. */
export function stampImage(path: string, bytes: number): void {
  using file = Deno.openSync(path, { create: true, write: true });
  const piece = new Uint8Array(1 << 20);
  const view = new DataView(piece.buffer);
  for (let at = 0; at < bytes; at += piece.length) {
    for (let i = 0; i < piece.length; i += STAMP_UNIT) {
      view.setUint32(i, (at + i) / STAMP_UNIT, true);
    }
    const rest = piece.subarray(0, Math.min(piece.length, bytes - at));
    for (let done = 0; done < rest.length;) {
      done += file.writeSync(rest.subarray(done));
    }
  }
}

/**
 * Where the first stamp of a piece of a disk is, in bytes from its start; at or
 * beyond its end: it has none.
 *
 * @param start of the piece, in bytes from that of the disk
 */
export function firstStamp(start: number): number {
  return (STAMP_UNIT - start % STAMP_UNIT) % STAMP_UNIT;
}

/** The writes of one run. */
export class WriteLog {
  /** The number of the run, never 0. */
  readonly run: number;
  /**
   * Of each block, side by side: the first write that may be its last (0: none
   * was begun), and how many are in flight.
   */
  readonly #state: Uint32Array<ArrayBuffer>;
  /** The number of the last write. */
  #last = 0;

  /** @param blocks that the disk has */
  constructor(blocks: number) {
    this.run = (crypto.getRandomValues(new Uint32Array(1))[0] | 1) >>> 0;
    this.#state = new Uint32Array(2 * blocks);
  }

  /** A write of a block begins; its number, from 1 on, modulo 2^32. */
  begin(block: number): number {
    const number = this.#last = (this.#last + 1) >>> 0;
    if (this.#state[2 * block + 1]++ === 0) this.#state[2 * block] = number;
    return number;
  }

  /** A write of a block was answered. */
  end(block: number): void {
    this.#state[2 * block + 1]--;
  }

  /** Whether a block was written. */
  wrote(block: number): boolean {
    return this.#state[2 * block] !== 0;
  }

  /** Whether the write of this run and number may be the last one of a block. */
  mayBeLast(block: number, run: number, number: number): boolean {
    const first = this.#state[2 * block];
    return run === this.run &&
      (number - first) >>> 0 <= (this.#last - first) >>> 0;
  }
}
