/**
 * A set of page numbers, as bits.
 *
 * Memory for the bits is made when a page of its part is first added: 32 KiB
 * for each GiB of guest memory that ever held a balloon.
 *
 * @module
 */

/** Pages of one part: 1 GiB of guest memory. */
const CHUNK_PAGES = 2 ** 18;
const CHUNK_SHIFT = 18;
const CHUNKS = 2 ** 32 / CHUNK_PAGES;

/**
 * A set of page frame numbers (0 to 2^32 - 1).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PageSet } from "./page_set.ts";
 *
 * const pages = new PageSet();
 * assertEquals([pages.add(7), pages.add(7)], [true, false]);
 * assertEquals([pages.delete(7), pages.delete(7)], [true, false]);
 * ```
 */
export class PageSet {
  readonly #chunks: (Uint32Array<ArrayBuffer> | null)[] = new Array<
    Uint32Array<ArrayBuffer> | null
  >(CHUNKS).fill(null);
  #size = 0;

  /** Number of pages. */
  get size(): number {
    return this.#size;
  }

  /** Whether a page is in the set. */
  has(page: number): boolean {
    const chunk = this.#chunks[page >>> CHUNK_SHIFT];
    return chunk !== null &&
      (chunk[(page & (CHUNK_PAGES - 1)) >>> 5] & (1 << (page & 31))) !== 0;
  }

  /** Adds a page; true when it was not in the set. */
  add(page: number): boolean {
    const at = page >>> CHUNK_SHIFT;
    const chunk = this.#chunks[at] ??= new Uint32Array(CHUNK_PAGES / 32);
    const word = (page & (CHUNK_PAGES - 1)) >>> 5;
    const bit = 1 << (page & 31);
    if ((chunk[word] & bit) !== 0) return false;
    chunk[word] |= bit;
    this.#size++;
    return true;
  }

  /** Removes a page; true when it was in the set. */
  delete(page: number): boolean {
    const chunk = this.#chunks[page >>> CHUNK_SHIFT];
    if (chunk === null) return false;
    const word = (page & (CHUNK_PAGES - 1)) >>> 5;
    const bit = 1 << (page & 31);
    if ((chunk[word] & bit) === 0) return false;
    chunk[word] &= ~bit;
    this.#size--;
    return true;
  }

  /** The first page of the set from `page` on; -1: there is none. */
  next(page: number): number {
    for (let at = page >>> CHUNK_SHIFT; at < CHUNKS; at++) {
      const chunk = this.#chunks[at];
      if (chunk === null) continue;
      const first = at === page >>> CHUNK_SHIFT ? page & (CHUNK_PAGES - 1) : 0;
      for (let word = first >>> 5; word < chunk.length; word++) {
        const above = word === first >>> 5 ? -1 << (first & 31) : -1;
        const bits = chunk[word] & above;
        if (bits === 0) continue;
        return at * CHUNK_PAGES + 32 * word + 31 - Math.clz32(bits & -bits);
      }
    }
    return -1;
  }

  /** Removes every page, and gives the memory of the set back. */
  clear(): void {
    this.#chunks.fill(null);
    this.#size = 0;
  }
}
