/**
 * The descriptors that a ring polls.
 *
 * Theory of operation. The number of a watch belongs to two: to the kernel, until
 * the last completion of its poll, and to whoever watches, until he ends it. He may
 * do so long after the kernel gave the poll up by itself, and must not meet the
 * watch of somebody else then. So a number is free when both have let go of it.
 *
 * @module
 */

/** Nothing is there. */
const FREE = 0;
/** Events are delivered. */
const LIVE = 1;
/** Events are dropped until the last one, which says that the poll ended. */
const ENDING = 2;
/** The poll ended by itself. */
const OVER = 3;

/** What is polled, for whom, by the number of the watch. */
export class Watches {
  /** Descriptors. */
  readonly fds: number[] = [];
  /** Whose handlers are told. */
  readonly sources: number[] = [];
  /** What they are told. */
  readonly tokens: number[] = [];
  readonly #states: number[] = [];

  /** A new watch; returns its number. */
  add(fd: number, source: number, token: number): number {
    const states = this.#states;
    let watch = states.indexOf(FREE);
    if (watch < 0) watch = states.length;
    states[watch] = LIVE;
    this.fds[watch] = fd;
    this.sources[watch] = source;
    this.tokens[watch] = token;
    return watch;
  }

  /** Whether its events are delivered. */
  isLive(watch: number): boolean {
    return this.#states[watch] === LIVE;
  }

  /**
   * Whoever watches lets go: events are dropped from now on.
   *
   * @returns whether the kernel has the poll yet, and is to end it
   */
  end(watch: number): boolean {
    const live = this.#states[watch] === LIVE;
    if (live) this.#states[watch] = ENDING;
    else if (this.#states[watch] === OVER) this.#states[watch] = FREE;
    return live;
  }

  /** The kernel has ended the poll. */
  over(watch: number): void {
    this.#states[watch] = this.#states[watch] === LIVE ? OVER : FREE;
  }

  /** The numbers of the watches that the kernel has. */
  numbers(): number[] {
    return [...this.#states.keys()].filter((i) =>
      this.#states[i] === LIVE || this.#states[i] === ENDING
    );
  }
}
