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
 * With a fixed window (`poll=50`) only the last rule holds. All durations are in
 * milliseconds, as `performance.now()` has them.
 *
 * @module
 */

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

/** Decides how long to look before sleeping. */
export class PollingGovernor {
  readonly #limit: number;
  readonly #adaptive: boolean;
  #window: number;
  #restUntil = 0;
  #looking = false;

  /** @param mode `auto`, `off`, or a fixed window in microseconds */
  constructor(mode: "auto" | "off" | number) {
    this.#adaptive = mode === "auto";
    this.#limit = mode === "auto"
      ? AUTO_LIMIT
      : mode === "off"
      ? 0
      : mode / 1000;
    this.#window = this.#adaptive ? 0 : this.#limit;
  }

  /** Whether looking is ever allowed. */
  get enabled(): boolean {
    return this.#limit > 0;
  }

  /** Whether the last {@linkcode PollingGovernor.window} was more than none. */
  get looking(): boolean {
    return this.#looking;
  }

  /** How long to look now. */
  window(now: number): number {
    const window = now < this.#restUntil ? 0 : this.#window;
    this.#looking = window > 0;
    return window;
  }

  /** The time between two looks: true when the looking must end. */
  gap(now: number, duration: number): boolean {
    if (duration < GAP) return false;
    this.#restUntil = now + REST;
    return true;
  }

  /** A sleep ended after this time. */
  slept(duration: number): void {
    if (!this.#adaptive) return;
    if (duration <= this.#limit) {
      this.#window = Math.min(this.#limit, Math.max(FIRST, this.#window * 2));
    } else {
      this.#window = this.#window / 2 < LEAST ? 0 : this.#window / 2;
    }
  }
}
