/**
 * Reads an input from its start; what is beyond the end is zero.
 *
 * @module
 */

/** A position in an input. */
export class Bytes {
  readonly #input: Uint8Array;
  #at = 0;

  /** Starts at the first byte. */
  constructor(input: Uint8Array) {
    this.#input = input;
  }

  /** Whether everything was read. */
  get done(): boolean {
    return this.#at >= this.#input.length;
  }

  /** Next byte. */
  u8(): number {
    return this.#input[this.#at++] ?? 0;
  }

  /** Next two bytes, little-endian. */
  u16(): number {
    return this.u8() | this.u8() << 8;
  }

  /** Next four bytes, little-endian. */
  u32(): number {
    return (this.u16() | this.u16() << 16) >>> 0;
  }
}
