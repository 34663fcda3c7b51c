/**
 * Waits for locks that a predecessor is about to let go of.
 *
 * Theory of operation. A process that was killed while io_uring worked for it is
 * gone before its requests are: the kernel ends them afterwards, and keeps their
 * files open until then, locks and all. That is as it should be, since a write of
 * the predecessor must not come after one of ours; but whoever starts at once, as
 * a supervisor does, meets the lock of the dead. So the first attempt goes on for
 * a while. Once a wait was in vain, somebody alive holds the lock, and whoever
 * asks is told at once, for as long as that may still be so: a front-end that
 * tries again and again is not to be kept waiting again and again.
 *
 * @module
 */

import { DeviceError } from "./worker/channel.ts";

/** How long (ms) a lock is waited for: a disk may be slow, a machine busy. */
export const LOCK_PATIENCE = 5_000;

/** For so many times the limit nobody waits after a wait in vain. */
const IMPATIENCE = 12;
/** Pauses (ms) between attempts: the first one, and the longest. */
const FIRST_PAUSE = 2, LONGEST_PAUSE = 50;

/** Waits for locks, each time that a device begins to serve. */
export class LockPatience {
  readonly #limit: number;
  readonly #waits: (reason: string) => void;
  readonly #now: () => number;
  readonly #over: PromiseWithResolvers<void> = Promise.withResolvers();
  #ended = false;
  /** When a wait was in vain last. */
  #failed = -Infinity;

  /**
   * @param limit milliseconds until a lock is that of somebody alive
   * @param waits told why a wait begins
   * @param now the time, in milliseconds
   */
  constructor(
    limit: number,
    waits: (reason: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#limit = limit;
    this.#waits = waits;
    this.#now = now;
  }

  /**
   * Does something that takes locks; again while it fails for one.
   *
   * @param attempt may be repeated after it failed
   * @param wanted whether somebody still wants it
   * @throws what the last attempt threw
   */
  async outlast(
    attempt: () => Promise<void>,
    wanted: () => boolean = () => true,
  ): Promise<void> {
    const begin = this.#now();
    const limit = begin - this.#failed < IMPATIENCE * this.#limit
      ? 0
      : this.#limit;
    for (let pause = FIRST_PAUSE;; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        await attempt();
        this.#failed = -Infinity;
        return;
      } catch (error) {
        if (!(error instanceof DeviceError) || error.kind !== "locked") {
          throw error;
        }
        if (this.#ended || !wanted()) throw error;
        const now = this.#now();
        if (now - begin >= limit) {
          if (limit > 0) this.#failed = now;
          throw error;
        }
        if (pause === FIRST_PAUSE) this.#waits(error.message);
      }
      await this.#pause(pause);
    }
  }

  /** Waits no more, from now on. */
  end(): void {
    this.#ended = true;
    this.#over.resolve();
  }

  async #pause(milliseconds: number): Promise<void> {
    const passed = Promise.withResolvers<void>();
    const timer = setTimeout(passed.resolve, milliseconds);
    await Promise.race([passed.promise, this.#over.promise]);
    clearTimeout(timer);
  }
}
