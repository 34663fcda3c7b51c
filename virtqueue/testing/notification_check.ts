/**
 * Judges notifications in tests of devices: whoever would sleep in a real guest
 * or in a real loop must have been woken before it finds something.
 *
 * Theory of operation. After each turn the queue is asked for notifications, as a
 * loop does before it sleeps, and after each reaping the driver asks for one, as
 * a guest does before it waits. What comes next then has to be told: a chain that
 * was made available by a kick, a used one by `publish`.
 *
 * @module
 */

import type { RunningQueue } from "../queue.ts";
import type { Completion, RingDriver } from "./buffers.ts";

/** A driver and its queue, which sleep in between. */
export class NotificationCheck {
  readonly #driver: RingDriver;
  readonly #queue: RunningQueue;
  /** Chains that were there when the queue was asked to sleep; -1: it was not. */
  #seen: number;
  #notified = false;

  /** Both sides ask for notifications. */
  constructor(driver: RingDriver, queue: RunningQueue) {
    this.#driver = driver;
    this.#queue = queue;
    this.#seen = this.#sleep();
    driver.enableInterrupt();
  }

  /** Before the device serves: what is new must have needed a kick. */
  wake(): void {
    const kicked = this.#driver.kickNeeded();
    const { submitted } = this.#driver;
    if (this.#seen < 0 || this.#seen === submitted) return;
    if (!kicked && this.#queue.available) {
      throw new Error("The driver was not asked for a kick");
    }
    this.#seen = submitted;
  }

  /** Publishes, and sleeps. */
  publish(): void {
    if (this.#queue.publish()) this.#notified = true;
    this.#seen = this.#sleep();
  }

  /** What was used, which the driver must have been told of. */
  reap(): Completion[] {
    const driver = this.#driver;
    if (driver.usedPending && !this.#notified) {
      throw new Error("The driver was not notified of used buffers");
    }
    const completions = driver.reap();
    this.#notified = driver.enableInterrupt();
    return completions;
  }

  #sleep(): number {
    const again = this.#queue.enableNotification();
    return again || this.#queue.available ? -1 : this.#driver.submitted;
  }
}
