/**
 * The io_uring of a test: what the data loop has for an engine.
 *
 * @module
 */

import { IoUring } from "../../../sys/io_uring/io_uring.ts";

/** Milliseconds that a test waits for a completion. */
const PATIENCE = 10_000;

/** A ring that is made when it is asked for. */
export class TestRing implements Disposable {
  #ring: IoUring | null = null;

  /** Gives the ring; `null` where the kernel has none, as the loop does. */
  readonly get = (): IoUring | null =>
    this.#ring ??= IoUring.supported() ? new IoUring() : null;

  /**
   * Waits for the next completion, when there is one to come.
   *
   * @returns whether there is one to take
   */
  wait(): boolean {
    const ring = this.#ring;
    if (ring === null || ring.inFlight === 0) return false;
    ring.wait(PATIENCE);
    return ring.ready;
  }

  /** Closes the ring. */
  [Symbol.dispose](): void {
    this.#ring?.close();
  }
}
