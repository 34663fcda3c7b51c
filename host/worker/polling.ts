/**
 * How long a data loop looks at its rings before it sleeps.
 *
 * Theory of operation. Sleeping costs two wake-ups for a request: a kick wakes
 * the loop, and the loop was not there when the kick came. Looking at the ring a
 * little longer spares both, when a request comes soon; when none comes it burns
 * the CPU. So the window adapts (as a hypervisor's halt polling does):
 *
 * - a sleep that ended within the limit could have been spared: the window
 *   doubles, from {@linkcode FIRST} up to the limit;
 * - a longer sleep could not: the window is halved, and soon is 0. (A window that
 *   passed in vain says nothing: perhaps it was only too short.)
 * - a gap between two looks means that somebody else wanted this CPU, perhaps
 *   the very guest that is waited for: no looking for {@linkcode REST} ms.
 *
 * With a fixed window (`poll=50`) only the last rule holds.
 *
 * The loop tells what it does, and the governor reads the clock. Times are in
 * milliseconds and stay in an array: handed on from function to function, they
 * could be put on the heap.
 *
 * @module
 */

import { readClock } from "../../sys/clock.ts";

/** Longest window of `auto`. */
const AUTO_LIMIT = 0.1;
/** Window after the first sleep that was too short. */
const FIRST = 0.01;
/** A window below this is none. */
const LEAST = 0.004;
/** A gap between two looks that means preemption. */
const GAP = 0.2;
/** Rest after a preemption. */
const REST = 100;

// Places in the array of times.
/** The time of the last look at the clock. */
const NOW = 0;
/** When looking ends. */
const END = 1;
/** Until when there is no looking. */
const REST_UNTIL = 2;
/** How long the loop has slept for want of work on rings. */
const SLEPT = 3;
/** When the last sleep began. */
const ASLEEP = 4;
/** How long the last sleep lasted. */
const LAST = 5;
/** As `SLEPT`, when such work came last. */
const WHOLE = 6;
const TIMES = 7;

/** Puts the time, in milliseconds, at a place of an array. */
export type ReadClock = (times: Float64Array, at: number) => void;

/** Decides how long to look before sleeping. */
export class PollingGovernor {
  readonly #limit: number;
  readonly #adaptive: boolean;
  readonly #read: ReadClock;
  readonly #times = new Float64Array(TIMES);
  #window: number;
  #looking = false;

  /**
   * @param mode `auto`, `off`, or a fixed window in microseconds
   * @param read the clock
   */
  constructor(mode: "auto" | "off" | number, read: ReadClock = readClock) {
    this.#adaptive = mode === "auto";
    this.#limit = mode === "auto"
      ? AUTO_LIMIT
      : mode === "off"
      ? 0
      : mode / 1000;
    this.#window = this.#adaptive ? 0 : this.#limit;
    this.#read = read;
    this.#times[REST_UNTIL] = -Infinity;
  }

  /** Whether looking is ever allowed. */
  get enabled(): boolean {
    return this.#limit > 0;
  }

  /** Whether the last {@linkcode PollingGovernor.begin} allowed it. */
  get looking(): boolean {
    return this.#looking;
  }

  /** How long the loop slept until there was work on rings, the last time, in ms. */
  get slept(): number {
    return this.#times[WHOLE];
  }

  /** The loop would look at its rings: whether it shall. */
  begin(): boolean {
    const times = this.#times;
    this.#read(times, NOW);
    const window = times[NOW] < times[REST_UNTIL] ? 0 : this.#window;
    times[END] = times[NOW] + window;
    this.#looking = window > 0;
    return this.#looking;
  }

  /** The loop has looked for a little while: whether it shall go on. */
  goOn(): boolean {
    const times = this.#times;
    const last = times[NOW];
    this.#read(times, NOW);
    const now = times[NOW];
    if (now - last >= GAP) {
      times[REST_UNTIL] = now + REST;
      return false;
    }
    return now < times[END];
  }

  /** The loop goes to sleep. */
  sleeps(): void {
    this.#read(this.#times, ASLEEP);
  }

  /** The loop wakes. */
  wakes(): void {
    const times = this.#times;
    this.#read(times, LAST);
    times[LAST] -= times[ASLEEP];
    times[SLEPT] += times[LAST];
  }

  /**
   * The loop knows what woke it.
   *
   * @param aside nothing came that has to do with rings: the sleep goes on, as it
   * were
   */
  woken(aside: boolean): void {
    const times = this.#times;
    if (aside) return;
    const slept = times[WHOLE] = times[SLEPT];
    times[SLEPT] = 0;
    if (!this.#adaptive) return;
    if (slept <= this.#limit) {
      this.#window = Math.min(this.#limit, Math.max(FIRST, this.#window * 2));
    } else {
      this.#window = this.#window / 2 < LEAST ? 0 : this.#window / 2;
    }
  }

  /** Whether the last sleep lasted for so many milliseconds. */
  sleptFor(ms: number): boolean {
    return this.#times[LAST] >= ms;
  }
}
