/**
 * A ring that runs in a data loop: the queue, its notification descriptors,
 * and where it stands in the loop's schedule.
 *
 * @module
 */

import { signalEventFd } from "../../sys/eventfd.ts";
import type { RunningQueue } from "../../virtqueue/queue.ts";
import type { RingStatus } from "./messages.ts";

/** A queue with its descriptors and its place in the schedule. */
export class Ring {
  /** The loop looks at it in each turn. */
  active = false;
  /** The device cannot go on with it until it says so. */
  parked = false;
  #errorsSeen = 0;
  #brokenSeen = false;

  /**
   * @param queue what is served
   * @param kickFd available-buffer notifications; -1: the ring is polled
   * @param callFd used-buffer notifications; -1: nobody listens
   * @param errorFd signalled when the ring meets an error; -1: nobody listens
   */
  constructor(
    readonly queue: RunningQueue & { rebind(): void },
    readonly kickFd: number,
    public callFd: number,
    public errorFd: number,
  ) {}

  /** Publishes completions and notifies whoever wants to know. */
  publish(): void {
    const queue = this.queue;
    if (queue.publish()) this.notify();
    if (
      queue.counters.badChains !== this.#errorsSeen ||
      (queue.broken !== null) !== this.#brokenSeen
    ) {
      this.#errorsSeen = queue.counters.badChains;
      this.#brokenSeen = queue.broken !== null;
      if (this.errorFd >= 0) signalEventFd(this.errorFd);
    }
  }

  /** Notifies the driver. */
  notify(): void {
    if (this.callFd >= 0) signalEventFd(this.callFd);
  }

  /** What the ring looks like from outside. */
  status(): RingStatus {
    const { index, size, position, inFlight, broken, lastError, counters } =
      this.queue;
    return { index, size, position, inFlight, broken, lastError, ...counters };
  }
}
