/**
 * Memory at fixed addresses with a scatter list over it: what a guest's request
 * looks like to a storage engine.
 *
 * @module
 */

import { IOV_MAX, IovecTable } from "../../../sys/iovec.ts";
import { mapAnonymous, type Mapping } from "../../../sys/mapping.ts";

const TWO_32 = 4294967296;

/** Memory for the data of test requests. */
export class TestBuffers implements Disposable {
  readonly #mapping: Mapping;
  readonly #iovecs = new IovecTable(1, IOV_MAX);
  /** All the memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;

  /** @param size bytes, at a page boundary */
  constructor(size: number) {
    this.#mapping = mapAnonymous(size);
    this.bytes = new Uint8Array(this.#mapping.buffer);
  }

  /** Address of the scatter list. */
  get iovecs(): number {
    return this.#iovecs.address(0);
  }

  /**
   * Describes pieces of the memory as the scatter list.
   *
   * @param pieces offset and length of each; an offset can be beyond the
   * memory, for an address that is none
   * @returns the sum of the lengths
   */
  scatter(pieces: readonly (readonly [number, number])[]): number {
    const words = this.#iovecs.words;
    let total = 0;
    pieces.forEach(([offset, length], i) => {
      const address = this.#mapping.address + offset;
      words.set([address, address / TWO_32, length, 0], 4 * i);
      total += length;
    });
    return total;
  }

  /** The bytes of pieces, one after the other. */
  gather(pieces: readonly (readonly [number, number])[]): Uint8Array {
    const out = new Uint8Array(pieces.reduce((sum, [, n]) => sum + n, 0));
    let at = 0;
    for (const [offset, length] of pieces) {
      out.set(this.bytes.subarray(offset, offset + length), at);
      at += length;
    }
    return out;
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#iovecs[Symbol.dispose]();
  }
}

/** Bytes that differ from each other and from those of other seeds. */
export function pattern(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
