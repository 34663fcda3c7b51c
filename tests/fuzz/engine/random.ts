/**
 * Random numbers that can be had again: from a seed.
 *
 * @module
 */

/** A generator (xorshift of 32 bits, seeded by multiplication). */
export class Random {
  #state: number;

  /** @param seed any number; the same one gives the same numbers */
  constructor(seed: number) {
    const mixed = Math.imul((seed ^ 0x9e37_79b9) >>> 0, 0x85eb_ca6b) >>> 0;
    this.#state = mixed === 0 ? 0x2545_f491 : mixed;
  }

  /** A number below 2^32. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** A number below `end`, which is at least 1. */
  below(end: number): number {
    return Math.floor(this.next() / 2 ** 32 * end);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  /** One of several. */
  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)];
  }

  /** A byte: often small, sometimes one at a border. */
  byte(): number {
    const kind = this.below(8);
    if (kind < 3) return this.below(8);
    if (kind < 5) return this.below(32);
    return kind < 7 ? this.below(256) : this.pick(BORDERS);
  }
}

const BORDERS = [0, 1, 0x7f, 0x80, 0xfe, 0xff] as const;
