/**
 * Latencies, counted in buckets: recording one allocates nothing.
 *
 * @module
 */

/** Buckets for each power of two: a value is known to one part in 32. */
const STEPS = 32;
/** Powers of two from 1 ns on: up to 18 minutes. */
const POWERS = 40;

/** A histogram of durations in nanoseconds. */
export class Histogram {
  readonly #counts = new Uint32Array(STEPS * POWERS);
  #total = 0;

  /** Number of values. */
  get total(): number {
    return this.#total;
  }

  /** Counts a duration in nanoseconds. */
  record(nanoseconds: number): void {
    const value = nanoseconds < STEPS ? STEPS : nanoseconds;
    const power = Math.floor(Math.log2(value));
    const step = Math.floor(value / 2 ** power * STEPS) - STEPS;
    const index = Math.min(power * STEPS + step, this.#counts.length - 1);
    this.#counts[index]++;
    this.#total++;
  }

  /**
   * The duration in nanoseconds that a share of all values does not exceed.
   *
   * @param share 0 to 1
   */
  percentile(share: number): number {
    const wanted = Math.max(1, Math.ceil(this.#total * share));
    let seen = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i];
      if (seen >= wanted) {
        return 2 ** Math.floor(i / STEPS) * (1 + (i % STEPS + 1) / STEPS);
      }
    }
    return 0;
  }

  /** Forgets everything. */
  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }
}
