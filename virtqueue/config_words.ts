/**
 * Words of a configuration space that the host writes for the driver.
 *
 * @module
 */

/** Bytes of a word. */
const WORD = 4;

/** A word, as bytes. */
const bytes = new Uint8Array(WORD);
const word = new Uint32Array(bytes.buffer);

/**
 * Applies what a driver wrote to those words of a configuration space that are
 * the driver's. Each changes at once, for whoever reads it in another thread.
 *
 * @param config at a multiple of 4 in its buffer
 * @param words offsets of the words, multiples of 4
 * @param offset of the first byte that was written
 * @param data what was written; what lies in no such word is ignored
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { writeWords } from "./config_words.ts";
 *
 * const config = new Uint8Array(new SharedArrayBuffer(12));
 * writeWords(config, [4], 0, new Uint8Array(12).fill(1));
 * assertEquals([...config], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
 * ```
 */
export function writeWords(
  config: Uint8Array,
  words: readonly number[],
  offset: number,
  data: Uint8Array,
): void {
  const view = new Uint32Array(
    config.buffer,
    config.byteOffset,
    Math.floor(config.length / WORD),
  );
  for (const at of words) {
    const first = Math.max(at, offset);
    const end = Math.min(at + WORD, offset + data.length);
    if (first >= end) continue;
    word[0] = Atomics.load(view, at / WORD);
    for (let i = first; i < end; i++) bytes[i - at] = data[i - offset];
    Atomics.store(view, at / WORD, word[0]);
  }
}
