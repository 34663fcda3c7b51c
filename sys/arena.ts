/**
 * Scratch memory at a fixed address, for structures that the kernel reads and
 * writes and that hold addresses themselves or outlive one call: msghdr,
 * iovec, pollfd, epoll_event. The garbage collector never moves it.
 *
 * @module
 */

import { mapAnonymous, type Mapping } from "./mapping.ts";

/** A piece of an {@linkcode Arena}. */
export interface Allocation {
  /** Its address in memory. */
  address: number;
  /** Its first byte in the arena's buffer. */
  offset: number;
}

/**
 * Memory that is allocated upwards and freed all at once.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using arena = new Arena(4096);
 * const iovec = arena.alloc(16);
 * arena.view.setUint32(iovec.offset, 512, true);
 * assertEquals(iovec.address % 64, 0);
 * ```
 */
export class Arena implements Disposable {
  /** Size in bytes. */
  readonly size: number;
  /** Address of the first byte. */
  readonly address: number;
  /** All the memory. */
  readonly buffer: ArrayBuffer;
  /** All the memory, by bytes. */
  readonly u8: Uint8Array<ArrayBuffer>;
  /** All the memory, by 32-bit words. */
  readonly u32: Uint32Array<ArrayBuffer>;
  /** All the memory, for unaligned and mixed access. */
  readonly view: DataView<ArrayBuffer>;
  readonly #mapping: Mapping;
  #used = 0;

  /**
   * Maps memory filled with zeros.
   *
   * @param size bytes; rounded up to a multiple of 8
   */
  constructor(size: number) {
    this.size = Math.ceil(size / 8) * 8;
    this.#mapping = mapAnonymous(this.size);
    this.address = this.#mapping.address;
    this.buffer = this.#mapping.buffer;
    this.u8 = new Uint8Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /**
   * Takes the next `bytes` bytes.
   *
   * @param align a power of two up to 4096
   * @throws {RangeError} if the arena is too small
   */
  alloc(bytes: number, align = 64): Allocation {
    const offset = Math.ceil(this.#used / align) * align;
    if (!(bytes >= 0 && offset + bytes <= this.size)) {
      throw new RangeError(
        `Cannot allocate ${bytes} bytes: ` +
          `${this.#used} of the arena's ${this.size} bytes are in use`,
      );
    }
    this.#used = offset + bytes;
    return { address: this.address + offset, offset };
  }

  /** Frees all pieces and fills the memory that they had with zeros. */
  reset(): void {
    this.u8.fill(0, 0, this.#used);
    this.#used = 0;
  }

  /** Unmaps the memory and detaches its views. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
  }
}
