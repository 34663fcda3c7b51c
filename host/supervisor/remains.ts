/**
 * What the kernel still does for a process that has ended.
 *
 * Theory of operation. A process that is killed is gone before its requests to
 * io_uring are: the kernel ends them afterwards, and until then they read and
 * write the image and the guest's memory. A successor that started meanwhile
 * would do the same requests again, answer them, and have a late one come on top
 * of what the guest did since. So nothing starts until the requests have ended.
 *
 * That is seen by a pipe that nobody writes into. The process has its other end,
 * and registers it with each of its rings. A ring gives its files back when its
 * last request has ended, so that is when the pipe comes to its end.
 *
 * @module
 */

import { SystemError } from "../../sys/errno.ts";
import type { OwnedFd } from "../../sys/fd.ts";
import type { Reactor } from "../../sys/reactor.ts";

/** What is left of a process. */
export class Remains implements Disposable {
  /** Resolves when nothing is left, or nobody wants to know any more. */
  readonly gone: Promise<void>;
  readonly #over = new AbortController();

  /**
   * Begins to look.
   *
   * @param pipe the end to read; it is taken over
   */
  constructor(pipe: OwnedFd, reactor: Reactor) {
    this.gone = reactor.readable(pipe.fd, { signal: this.#over.signal })
      .catch((error) => {
        const closed = error instanceof SystemError &&
          error.kind === "ECANCELED";
        if (!closed && !this.#over.signal.aborted) throw error;
      })
      .finally(() => pipe.close());
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    this.#over.abort();
  }
}
