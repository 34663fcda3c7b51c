/**
 * How long to wait before something that died is started again.
 *
 * @module
 */

/** Delays in ms: the first time none, then more and more. */
const FIRST = 100;
const LONGEST = 5_000;
/** After a life of that many ms, an end is no part of a series any more. */
const LONG_LIFE = 10_000;

/**
 * The delays of a series of failures.
 *
 * @example
 * ```ts
 * import { Backoff } from "./backoff.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const backoff = new Backoff();
 * assertEquals([backoff.next(), backoff.next(), backoff.next()], [0, 100, 200]);
 * backoff.lived(60_000);
 * assertEquals(backoff.next(), 0);
 * ```
 */
export class Backoff {
  readonly #longLife: number;
  #failures = 0;

  /** @param longLife what ends a series, in ms */
  constructor(longLife: number = LONG_LIFE) {
    this.#longLife = longLife;
  }

  /** The delay before the next attempt, in ms. */
  next(): number {
    const failures = this.#failures++;
    if (failures === 0) return 0;
    return Math.min(FIRST * 2 ** (failures - 1), LONGEST);
  }

  /** Something was up for `milliseconds`. */
  lived(milliseconds: number): void {
    if (milliseconds >= this.#longLife) this.#failures = 0;
  }
}
