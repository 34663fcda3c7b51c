/**
 * What becomes of storage operations that fail.
 *
 * Theory of operation. Each failure is logged, but a disk that is full fails
 * thousands of times in a second: of failures with the same cause, one is logged
 * in {@linkcode PAUSE} ms, with the number of those before it.
 *
 * With `on-error=stop`, requests whose reads, writes or ranges failed are held
 * instead of answered, and no new ones are taken, until somebody has mended the
 * cause and resumes the device: the guest sees a disk that takes long. A flush
 * that failed is always answered: the kernel tells of the loss of a page once, and
 * a second flush would succeed without it.
 *
 * A queue that is being drained takes requests all the same: those that a
 * predecessor left in it are in no ring, and must be answered before it stops.
 *
 * @module
 */

import { errnoName, errnoText } from "../../sys/errno.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import type { DeviceContext, VirtQueue } from "../../virtqueue/device.ts";

/** How long failures of one cause are only counted after one was logged, in ms. */
const PAUSE = 10_000;

/** Logs failures of a device's storage, and keeps the requests that wait. */
export class Failures {
  readonly #context: Pick<DeviceContext, "log" | "resume">;
  readonly #now: () => number;
  #last = { what: "", errno: 0, at: -Infinity };
  #unsaid = 0;
  #held: DescriptorChain[] = [];
  readonly #waiting = new Set<VirtQueue>();
  /** The queue that is being drained, or was last. */
  #draining: VirtQueue | null = null;

  /** @param now the time in ms, for tests */
  constructor(
    context: Pick<DeviceContext, "log" | "resume">,
    now: () => number = () => performance.now(),
  ) {
    this.#context = context;
    this.#now = now;
  }

  /** Requests that wait for {@linkcode Failures.release}. */
  get held(): number {
    return this.#held.length;
  }

  /**
   * An operation failed.
   *
   * @param what it was: `write`, `flush`, …
   */
  failed(what: string, errno: number, offset: number, length: number): void {
    const last = this.#last, now = this.#now();
    const known = last.what === what && last.errno === errno;
    if (known && now - last.at < PAUSE) {
      this.#unsaid++;
      return;
    }
    const where = length > 0 ? ` of ${length} bytes at ${offset}` : "";
    const before = known && this.#unsaid > 0
      ? `; ${this.#unsaid} more like it before`
      : "";
    this.#last = { what, errno, at: now };
    this.#unsaid = 0;
    this.#context.log(
      "error",
      `${what}${where} failed: ${errnoText(errno)} (${
        errnoName(errno)
      })${before}`,
    );
  }

  /** Holds a request. */
  hold(chain: DescriptorChain): void {
    if (this.#held.length === 0) {
      this.#context.log(
        "error",
        "the disk is stopped; `ctl resume` has it go on",
      );
    }
    this.#held.push(chain);
  }

  /** A queue is about to run. */
  begin(queue: VirtQueue): void {
    if (this.#draining === queue) this.#draining = null;
  }

  /** Whether a queue has to wait for {@linkcode Failures.release}; remembers it. */
  stops(queue: VirtQueue): boolean {
    if (this.#held.length === 0 || queue === this.#draining) return false;
    this.#waiting.add(queue);
    return true;
  }

  /** Gives up all requests and queues that wait. */
  release(): { chains: DescriptorChain[]; queues: VirtQueue[] } {
    const chains = this.#held;
    if (chains.length > 0) {
      this.#context.log(
        "info",
        `the disk goes on: ${chains.length} requests were held`,
      );
    }
    const queues = [...this.#waiting];
    this.#held = [];
    this.#waiting.clear();
    return { chains, queues };
  }

  /**
   * Gives up the requests of one queue, which is to stop. Where they were the last
   * ones, the others go on.
   */
  releaseOf(queue: VirtQueue): DescriptorChain[] {
    this.#draining = queue;
    this.#waiting.delete(queue);
    const chains = this.#held.filter((chain) => chain.queue === queue);
    this.#held = this.#held.filter((chain) => chain.queue !== queue);
    if (this.#held.length === 0) {
      for (const other of this.#waiting) this.#context.resume(other);
      this.#waiting.clear();
    }
    return chains;
  }
}
