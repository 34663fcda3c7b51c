/**
 * The descriptors that a ring polls.
 *
 * @module
 */

/** Nothing is there. */
const FREE = 0;
/** Events are delivered. */
const LIVE = 1;
/** Events are dropped until the last one, which says that the poll ended. */
const ENDING = 2;

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

  /** Drops the events of a watch from now on; false if it was not live. */
  end(watch: number): boolean {
    if (this.#states[watch] !== LIVE) return false;
    this.#states[watch] = ENDING;
    return true;
  }

  /** Its number can be given again: the kernel has ended the poll. */
  free(watch: number): void {
    this.#states[watch] = FREE;
  }

  /** The numbers of the watches that the kernel has. */
  numbers(): number[] {
    return [...this.#states.keys()].filter((i) => this.#states[i] !== FREE);
  }
}
