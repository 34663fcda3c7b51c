/**
 * Waits for locks that a predecessor is about to let go of.
 *
 * Theory of operation. A process that was killed while io_uring worked for it is
 * gone before its requests are: the kernel ends them afterwards, and keeps their
 * files open until then, locks and all. That is as it should be, since a write of
 * the predecessor must not come after one of ours; but whoever starts at once, as
 * a supervisor does, meets the lock of the dead. So the first attempt goes on for
 * a while. Once a wait was in vain, somebody alive holds the lock, and whoever
 * asks is told at once, until an attempt succeeds.
 *
 * @module
 */

import { DeviceError } from "./worker/channel.ts";

/** How long (ms) a lock is waited for: a disk may be slow, a machine busy. */
export const LOCK_PATIENCE = 5_000;

/** Pauses (ms) between attempts: the first one, and the longest. */
const FIRST_PAUSE = 2, LONGEST_PAUSE = 50;

/** Waits for locks, each time that a device begins to serve. */
export class LockPatience {
  readonly #limit: number;
  readonly #waits: (reason: string) => void;
  readonly #ended: PromiseWithResolvers<void> = Promise.withResolvers();
  #left: number;

  /**
   * @param limit milliseconds until a lock is that of somebody alive
   * @param waits told why a wait begins
   */
  constructor(limit: number, waits: (reason: string) => void) {
    this.#limit = limit;
    this.#left = limit;
    this.#waits = waits;
  }

  /**
   * Does something that takes locks; again while it fails for one.
   *
   * @param attempt may be repeated after it failed
   * @throws what the last attempt threw
   */
  async outlast(attempt: () => Promise<void>): Promise<void> {
    const begin = performance.now();
    for (let pause = FIRST_PAUSE;; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        await attempt();
        this.#left = this.#limit;
        return;
      } catch (error) {
        if (!(error instanceof DeviceError) || error.kind !== "locked") {
          throw error;
        }
        if (performance.now() - begin >= this.#left) {
          this.#left = 0;
          throw error;
        }
        if (pause === FIRST_PAUSE) this.#waits(error.message);
      }
      await this.#pause(pause);
    }
  }

  /** Waits no more, from now on. */
  end(): void {
    this.#left = 0;
    this.#ended.resolve();
  }

  async #pause(milliseconds: number): Promise<void> {
    const over = Promise.withResolvers<void>();
    const timer = setTimeout(over.resolve, milliseconds);
    await Promise.race([over.promise, this.#ended.promise]);
    clearTimeout(timer);
  }
}
