/**
 * Completions that were taken off a ring before anybody could be told of them.
 *
 * @module
 */

/** Words of a completion, as a shift. */
const SHIFT = 2;

/** Completions, oldest first. */
export class Backlog {
  /** How many there are. */
  size = 0;
  #words = new Int32Array(0);
  #first = 0;

  /** Copies the four words of a completion. */
  add(from: Int32Array, at: number): void {
    const end = (this.#first + this.size) << SHIFT;
    if (end === this.#words.length) this.#makeRoom();
    const to = (this.#first + this.size++) << SHIFT;
    this.#words.set(from.subarray(at, at + (1 << SHIFT)), to);
  }

  /** Takes the oldest completion off: its four words, until the next `add`. */
  take(): Int32Array {
    const at = this.#first++ << SHIFT;
    if (--this.size === 0) this.#first = 0;
    return this.#words.subarray(at, at + (1 << SHIFT));
  }

  #makeRoom(): void {
    const rest = this.#words.subarray(this.#first << SHIFT);
    const words = new Int32Array(Math.max(256, 2 * rest.length));
    words.set(rest);
    this.#words = words;
    this.#first = 0;
  }
}
