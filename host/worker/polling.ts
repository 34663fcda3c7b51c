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
 * ticks of {@linkcode readClock}: whole numbers, so that nothing is put on the
 * heap, not even before V8 has compiled this, which for what is rarely called
 * takes a minute.
 *
 * @module
 */

import {
  CLOCK_CYCLE,
  readClock,
  ticksBetween,
  ticksOf,
} from "../../sys/clock.ts";

/** Longest window of `auto`. */
const AUTO_LIMIT = ticksOf(0.1);
/** Window after the first sleep that was too short. */
const FIRST = ticksOf(0.01);
/** A window below this is none. */
const LEAST = ticksOf(0.004);
/** A gap between two looks that means preemption. */
const GAP = ticksOf(0.2);
/** Rest after a preemption. */
const REST = ticksOf(100);
/** Windows and sleeps count as this long at most. */
const LONGEST = CLOCK_CYCLE >> 1;

/** Decides how long to look before sleeping. */
export class PollingGovernor {
  readonly #limit: number;
  readonly #adaptive: boolean;
  readonly #read: () => number;
  #window: number;
  #looking = false;
  /** When looking began. */
  #begun = 0;
  /** For how long it may go on. */
  #allowed = 0;
  /** When there was the last look. */
  #looked = 0;
  /** Whether there is no looking for a while. */
  #resting = false;
  /** When that began. */
  #restBegun = 0;
  /** When the last sleep began. */
  #asleep = 0;
  /** How long the last sleep lasted. */
  #last = 0;
  /** How long the loop has slept for want of work on rings. */
  #slept = 0;
  /** The same, when such work came last. */
  #whole = 0;

  /**
   * @param mode `auto`, `off`, or a fixed window in microseconds
   * @param read the clock, in ticks
   */
  constructor(
    mode: "auto" | "off" | number,
    read: () => number = readClock,
  ) {
    this.#adaptive = mode === "auto";
    this.#limit = mode === "auto"
      ? AUTO_LIMIT
      : mode === "off"
      ? 0
      : Math.min(ticksOf(mode / 1000), LONGEST);
    this.#window = this.#adaptive ? 0 : this.#limit;
    this.#read = read;
  }

  /** Whether looking is ever allowed. */
  get enabled(): boolean {
    return this.#limit > 0;
  }

  /** Whether the last {@linkcode PollingGovernor.begin} allowed it. */
  get looking(): boolean {
    return this.#looking;
  }

  /** Ticks that the loop slept until there was work on rings, the last time. */
  get slept(): number {
    return this.#whole;
  }

  /** The loop would look at its rings: whether it shall. */
  begin(): boolean {
    const now = this.#read();
    // Whoever comes just a cycle of the clock later rests again, which is no harm.
    if (this.#resting && ticksBetween(this.#restBegun, now) >= REST) {
      this.#resting = false;
    }
    this.#begun = this.#looked = now;
    this.#allowed = this.#resting ? 0 : this.#window;
    this.#looking = this.#allowed > 0;
    return this.#looking;
  }

  /** The loop has looked for a little while: whether it shall go on. */
  goOn(): boolean {
    const last = this.#looked, now = this.#read();
    this.#looked = now;
    if (ticksBetween(last, now) >= GAP) {
      this.#resting = true;
      this.#restBegun = now;
      return false;
    }
    return ticksBetween(this.#begun, now) < this.#allowed;
  }

  /** The loop goes to sleep. */
  sleeps(): void {
    this.#asleep = this.#read();
  }

  /** The loop wakes. */
  wakes(): void {
    this.#last = ticksBetween(this.#asleep, this.#read());
    const slept = this.#slept + this.#last;
    // Compiled code has the least of two numbers as a double.
    this.#slept = slept < LONGEST ? slept : LONGEST;
  }

  /**
   * The loop knows what woke it.
   *
   * @param aside nothing came that has to do with rings: the sleep goes on, as it
   * were
   */
  woken(aside: boolean): void {
    if (aside) return;
    const slept = this.#whole = this.#slept;
    this.#slept = 0;
    if (!this.#adaptive) return;
    if (slept <= this.#limit) {
      const twice = this.#window * 2, limit = this.#limit;
      this.#window = twice < FIRST ? FIRST : twice < limit ? twice : limit;
    } else {
      const half = this.#window >> 1;
      this.#window = half < LEAST ? 0 : half;
    }
  }

  /** Whether the last sleep lasted for so many ticks. */
  sleptFor(ticks: number): boolean {
    return this.#last >= ticks;
  }
}
