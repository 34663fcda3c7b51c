/**
 * Tells people when devices take long to start, and what that waits for.
 *
 * Theory of operation. Opening an image waits for its file system, which may not
 * answer: a server that is gone, a network that is down. Nothing can be done about
 * that from here, and it may end well, so whoever starts devices goes on waiting;
 * but one line is logged after a while, and another one when they start after
 * all. Between the two {@linkcode StartWatch.problem} has what is waited for now.
 *
 * @module
 */

import type { Logger } from "./log.ts";

/** How long (ms) a start may take before anybody is told. */
export const START_PATIENCE = 10_000;

/** Watches the start of the devices of one process. */
export class StartWatch implements Disposable {
  readonly #names: readonly string[];
  readonly #pid: number;
  readonly #log: Logger;
  readonly #begin = performance.now();
  readonly #timer: ReturnType<typeof setTimeout>;
  #made = -1;
  #what: string | null = null;
  #late = false;

  /**
   * Begins to watch.
   *
   * @param names of the devices, in the order in which they are made
   * @param pid of the process that makes them
   * @param patience how long (ms) nobody is told
   */
  constructor(
    names: readonly string[],
    pid: number,
    log: Logger,
    patience: number = START_PATIENCE,
  ) {
    this.#names = names;
    this.#pid = pid;
    this.#log = log;
    this.#timer = setTimeout(() => {
      this.#late = true;
      this.#log.warn(`Waiting on: ${this.#describe()}`, { pid });
    }, patience);
  }

  /** What takes long, and for how long so far; `null`: nothing does. */
  get problem(): string | null {
    return this.#late ? this.#describe() : null;
  }

  /**
   * A device is being made; those before it are made.
   *
   * @param what it waits for, as far as it said so
   */
  making(name: string, what: string | null = null): void {
    this.#made = this.#names.indexOf(name);
    this.#what = what;
  }

  /** All devices have started. */
  started(): void {
    if (this.#late) {
      this.#log.info(`Started after ${this.#seconds} s`, { pid: this.#pid });
    }
    this[Symbol.dispose]();
  }

  /** Tells nothing any more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#late = false;
  }

  get #seconds(): number {
    return Math.round((performance.now() - this.#begin) / 1000);
  }

  #describe(): string {
    const made = Math.max(0, this.#made);
    const left = this.#names.slice(made).map((name) => `"${name}"`);
    const cause = this.#made < 0
      ? "has not begun"
      : `waits for ${this.#what ?? `${left[0]} to be made`}`;
    return `${left.join(", ")} not started after ${this.#seconds} s: ` +
      `process ${this.#pid} ${cause}`;
  }
}
