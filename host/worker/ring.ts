/**
 * A ring that runs in a data loop: the queue, its notification descriptors,
 * and where it stands in the loop's schedule.
 *
 * @module
 */

import { signalEventFd } from "../../sys/eventfd.ts";
import { isNonblocking } from "../../sys/fd.ts";
import type { RunningQueue } from "../../virtqueue/queue.ts";
import type { RingSetup } from "../../vhost/data_plane.ts";
import type { RingStatus } from "./messages.ts";
import type { Waiter } from "./waiter.ts";

/** Chains that one ring may take in one turn, unless the device says else. */
export const BUDGET = 8;

/** What signals descriptors that never block. */
interface Signaller {
  /** The one of now. */
  readonly waiter: Waiter;
}

/** A queue with its descriptors and its place in the schedule. */
export class Ring {
  /** The loop looks at it in each turn. */
  active = false;
  /** The device cannot go on with it until it says so. */
  parked = false;
  #errorsSeen = 0;
  #brokenSeen = false;

  /** Available-buffer notifications; -1: the ring is polled. */
  readonly kickFd: number;
  /** Signalled when the ring meets an error; -1: nobody listens. */
  errorFd: number;
  /** Guest address at which the used ring is logged; -1: it is not. */
  usedLog: number;
  /** The memory in which its requests are tracked, for as long as it runs. */
  tracked: ArrayBuffer | null = null;
  /** Number of the watch of {@linkcode kickFd} in the loop. */
  kickToken = -1;
  readonly #signaller: Signaller;
  #callFd = -1;
  /** The call descriptor never blocks: the waiter may signal it. */
  #quick = false;

  /**
   * @param queue what is served
   * @param setup has the descriptors
   * @param signaller signals them
   */
  constructor(
    readonly queue: RunningQueue & { rebind(): void },
    setup: RingSetup,
    signaller: Signaller,
  ) {
    this.kickFd = setup.kickFd;
    this.callFd = setup.callFd;
    this.errorFd = setup.errorFd;
    this.usedLog = setup.usedLog ?? -1;
    this.#signaller = signaller;
  }

  /** Used-buffer notifications; -1: nobody listens. */
  get callFd(): number {
    return this.#callFd;
  }

  set callFd(fd: number) {
    this.#callFd = fd;
    this.#quick = fd >= 0 && isNonblocking(fd);
  }

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
    if (this.#quick) this.#signaller.waiter.signal(this.#callFd);
    else if (this.#callFd >= 0) signalEventFd(this.#callFd);
  }

  /** What the ring looks like from outside. */
  status(): RingStatus {
    const { index, size, position, inFlight, broken, lastError, counters } =
      this.queue;
    return { index, size, position, inFlight, broken, lastError, ...counters };
  }
}
