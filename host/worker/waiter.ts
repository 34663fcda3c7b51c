/**
 * Where a data loop sleeps, and what wakes it.
 *
 * @module
 */

import { Epoll, EPOLLET, EPOLLIN } from "../../sys/epoll.ts";
import { signalEventFd } from "../../sys/eventfd.ts";
import type { IoUring } from "../../sys/io_uring/io_uring.ts";

/**
 * One place to sleep in. Descriptors are watched for becoming readable and are
 * never read: each write to an eventfd wakes once more.
 */
export interface Waiter extends Disposable {
  /** The io_uring that requests may share, where there is one. */
  readonly ring: IoUring | null;
  /** True when something finished that {@linkcode wait} would deliver at once. */
  readonly ready: boolean;

  /**
   * Reports `token` whenever `fd` becomes readable, and once if it is so now.
   *
   * @throws {SystemError} when a descriptor of this kind cannot be watched
   */
  add(fd: number, token: number): void;
  /** Stops watching. */
  remove(fd: number): void;
  /**
   * Sleeps until something is to be done.
   *
   * @param timeoutMs at most so long; -1: for ever; 0: not at all
   * @returns the number of tokens
   */
  wait(timeoutMs: number): number;
  /** A token of the last {@linkcode wait}. */
  token(i: number): number;
  /**
   * Adds one to an eventfd, at the latest in the next `wait` or `flush`.
   *
   * @param fd one that does not block (`EFD_NONBLOCK`)
   */
  signal(fd: number): void;
  /** Does at once what was put off: afterwards no signalled descriptor is used. */
  flush(): void;
}

/** Sleeps in epoll_wait(2). */
export class EpollWaiter implements Waiter {
  readonly ring = null;
  readonly ready = false;
  readonly #epoll = new Epoll();

  add(fd: number, token: number): void {
    this.#epoll.add(fd, EPOLLIN | EPOLLET, token);
  }

  remove(fd: number): void {
    this.#epoll.remove(fd);
  }

  wait(timeoutMs: number): number {
    return this.#epoll.wait(timeoutMs);
  }

  token(i: number): number {
    return this.#epoll.token(i);
  }

  signal(fd: number): void {
    signalEventFd(fd);
  }

  flush(): void {}

  [Symbol.dispose](): void {
    this.#epoll[Symbol.dispose]();
  }
}
