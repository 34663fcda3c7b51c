/**
 * When requests of the control queue are served, and when they are answered.
 *
 * Theory of operation. A driver takes the answer to a task management function
 * for the end of all commands that it sent before: it forgets them, or sends them
 * again. So a function is served when the device has all of those, and answered
 * when the driver sees their ends.
 *
 * - Before a function all commands are taken that are available: queues are
 *   served one after the other. Where a queue has no chain object left for that,
 *   the function is given back, and comes again when commands have ended; until
 *   the queue was seen empty, or has given as many chains as its ring has room
 *   for: the rest came later.
 * - Rings start, and stop, one after the other. A function waits until those of
 *   all request queues run, or for {@linkcode PATIENCE} after the last one that
 *   did: a driver need not have all of them. What a ring begins with, because a
 *   predecessor had taken it, is taken first.
 * - An answer is handed back at the end of the second {@linkcode VirtioDevice.poll}
 *   after it was given. In between, all that ended before it was published, on
 *   whatever ring. With VIRTIO_F_IN_ORDER a command that ended may have to wait for
 *   others: then the answer waits as well.
 *
 * Source: virtio 1.4, section 5.6.6.2.
 *
 * @module
 */

import { TimerFd } from "../../sys/timer.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import type { DeviceContext, VirtQueue } from "../../virtqueue/device.ts";
import { CONTROL_QUEUE, FIRST_REQUEST_QUEUE } from "./protocol.ts";

/** How long rings are waited for that do not run, after one began or ended, in ms. */
export const PATIENCE = 1000;

/** What the commands and the functions are handed to. */
export interface ControlTaker {
  /** Commands that have ended so far. */
  ended(): number;
  /** A chain of a request queue. */
  begin(chain: DescriptorChain): void;
  /** A chain of the control queue. */
  control(chain: DescriptorChain): void;
}

/** An answer that the driver must not see yet. */
interface Answer {
  readonly chain: DescriptorChain;
  readonly bytes: Uint8Array;
  /**
   * What `taken` was of each queue in which commands that ended wait for others;
   * `null`: there is none.
   */
  readonly taken: Float64Array | null;
  /** It was there in a poll: what came before it was published since. */
  polled: boolean;
}

/** {@linkcode ControlQueue.serve}: the commands of a queue were all taken. */
const ALL = -1;

/** The control queue, with what it has to know of the request queues. */
export class ControlQueue {
  /** Chains taken from each queue, whoever took them. */
  readonly taken: Float64Array<ArrayBuffer>;
  readonly #context: DeviceContext;
  readonly #taker: ControlTaker;
  /** The queues that run; those of events are left out. */
  readonly #queues: (VirtQueue | null)[];
  /**
   * For the function that waits: what `taken` of each queue is when it has given
   * all that came before; 0: not known yet; {@linkcode ALL}.
   */
  readonly #goals: Float64Array<ArrayBuffer>;
  readonly #answers: Answer[] = [];
  /** Is set while rings are waited for. */
  #timer: TimerFd | null = null;
  /** No ring is waited for. */
  #settled = true;
  /** A function waits for commands that cannot be taken yet. */
  #held = false;
  /** Commands that had ended when it was looked at. */
  #ended = 0;

  /** Makes a control queue of a device that has so many queues. */
  constructor(context: DeviceContext, queues: number, taker: ControlTaker) {
    this.#context = context;
    this.#taker = taker;
    this.taken = new Float64Array(queues);
    this.#goals = new Float64Array(queues);
    this.#queues = new Array(queues).fill(null);
  }

  /**
   * Rings are going to run.
   *
   * @throws {SystemError} when there is no timer to be had
   */
  activate(): void {
    if (this.#timer !== null) return;
    const timer = this.#timer = TimerFd.create();
    this.#context.watch(timer.fd, () => {
      if (timer.drain() === 0) return;
      timer.set(0);
      this.#settled = true;
      this.#resume();
    });
  }

  /** No ring runs any more. */
  deactivate(): void {
    if (this.#timer === null) return;
    this.#context.watch(this.#timer.fd, null);
    this.#timer.close();
    this.#timer = null;
  }

  /** A ring is about to run. */
  start(queue: VirtQueue): void {
    this.#queues[queue.index] = queue;
    this.#goals[queue.index] = 0;
    this.#reconsider();
  }

  /** A ring is about to stop. */
  quiesce(queue: VirtQueue): void {
    this.#queues[queue.index] = null;
    if (queue.index === CONTROL_QUEUE) this.#release();
    this.#reconsider();
  }

  /** See {@linkcode VirtioDevice.serve}. */
  serve(queue: VirtQueue, budget: number): boolean {
    for (let i = 0; i < budget; i++) {
      const chain = queue.take();
      if (chain === null) break;
      // After it was taken: the driver may go on meanwhile.
      if (!this.#takeEarlier()) {
        queue.untake(chain);
        this.#held = true;
        this.#ended = this.#taker.ended();
        return false;
      }
      this.#release();
      this.#taker.control(chain);
    }
    return true;
  }

  /** Hands a chain back with an answer when the driver has seen what ended before. */
  answer(chain: DescriptorChain, bytes: Uint8Array): void {
    const waits = this.#queues.some((queue) =>
      queue !== null && queue.unanswered > queue.inFlight
    );
    const taken = waits ? this.taken.slice() : null;
    this.#answers.push({ chain, bytes, taken, polled: false });
  }

  /**
   * Called at the end of each {@linkcode VirtioDevice.poll}: hands back what may be.
   *
   * @returns the answers that are due: above 0, there is to be another turn
   */
  poll(): number {
    if (this.#held && this.#taker.ended() !== this.#ended) this.#resume();
    const answers = this.#answers;
    if (answers.length === 0) return 0;
    let due = 0;
    for (const answer of answers.splice(0)) {
      const { chain, bytes } = answer;
      if (answer.polled) {
        chain.queue.complete(chain, chain.write(0, bytes, 0, bytes.length));
      } else {
        answer.polled = this.#visible(answer);
        answers.push(answer);
      }
      if (answer.polled) due++;
    }
    return due;
  }

  /** Whether all that ended before an answer is visible when this turn is published. */
  #visible({ taken }: Answer): boolean {
    return taken === null ||
      this.#queues.every((queue, i) =>
        queue === null || i < FIRST_REQUEST_QUEUE ||
        queue.unanswered === queue.inFlight ||
        this.taken[i] - queue.unanswered >= taken[i]
      );
  }

  /** Takes what may have come before a function; false: there is more. */
  #takeEarlier(): boolean {
    if (!this.#settled) return false;
    let all = true;
    for (let i = FIRST_REQUEST_QUEUE; i < this.#queues.length; i++) {
      const queue = this.#queues[i];
      if (queue !== null && !this.#takeFrom(queue)) all = false;
    }
    return all;
  }

  #takeFrom(queue: VirtQueue): boolean {
    const { taken } = this, goals = this.#goals, { index } = queue;
    if (goals[index] === ALL) return true;
    if (goals[index] === 0) goals[index] = taken[index] + queue.size;
    const before = taken[index];
    let chain: DescriptorChain | null = null;
    while (taken[index] < goals[index] && (chain = queue.take()) !== null) {
      taken[index]++;
      this.#taker.begin(chain);
    }
    if (taken[index] > before) this.#context.resume(queue);
    const { inFlight, size } = queue, { slotsPerQueue } = this.#context;
    // Is nothing available, or is there no object for it?
    if (
      taken[index] < goals[index] && inFlight >= slotsPerQueue &&
      inFlight < size
    ) return false;
    goals[index] = ALL;
    return true;
  }

  /** No function waits. */
  #release(): void {
    this.#held = false;
    this.#goals.fill(0);
  }

  /** Rings began or ended. */
  #reconsider(): void {
    const queues = this.#queues;
    const missing = queues[CONTROL_QUEUE] !== null &&
      queues.some((queue, i) => queue === null && i >= FIRST_REQUEST_QUEUE);
    this.#timer?.set(missing ? PATIENCE : 0);
    this.#settled = !missing;
    if (!missing) this.#resume();
  }

  /** Has the function looked at again that waits. */
  #resume(): void {
    const queue = this.#queues[CONTROL_QUEUE];
    if (this.#held && queue !== null) this.#context.resume(queue);
  }
}
