/**
 * Sleeping in io_uring_enter(2), together with the I/O of the device.
 *
 * Theory of operation. Each watched descriptor has a multishot poll request; its
 * completions arrive among those of the device's reads and writes, in one queue,
 * so that one system call submits requests, notifies drivers and sleeps. The
 * completion of a poll request only notes its token. Tokens can be noted
 * whenever the device takes completions off the ring; those noted since the last
 * {@linkcode UringWaiter.wait} are what the next one returns, without sleeping.
 *
 * @module
 */

import { Epoll, EPOLLIN } from "../../sys/epoll.ts";
import { systemError } from "../../sys/errno.ts";
import { signalEventFd } from "../../sys/eventfd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import type { Waiter } from "./waiter.ts";

/** Completions delivered at a time. */
const BATCH = 1024;

/** Sleeps in an io_uring. */
export class UringWaiter implements Waiter {
  readonly ring: IoUring = new IoUring();
  readonly #source: number;
  readonly #watches = new Map<number, number>();
  #noted: number[] = [];
  #notedCount = 0;
  #returned: number[] = [];

  /** @throws {SystemError} where io_uring is missing or forbidden */
  constructor() {
    this.#source = this.ring.register((token, result) => {
      if (result < 0) throw systemError(-result, "poll", `token ${token}`);
      this.#noted[this.#notedCount++] = token;
    });
  }

  get ready(): boolean {
    return this.#notedCount > 0 || this.ring.ready;
  }

  add(fd: number, token: number): void {
    requirePollable(fd);
    this.#watches.set(fd, this.ring.watch(fd, this.#source, token));
  }

  remove(fd: number): void {
    const watch = this.#watches.get(fd);
    if (watch === undefined) return;
    this.#watches.delete(fd);
    this.ring.unwatch(watch);
    // Now: the owner of the descriptor is about to close it.
    this.flush();
  }

  wait(timeoutMs: number): number {
    const ring = this.ring;
    if (this.#notedCount === 0 && timeoutMs !== 0) ring.wait(timeoutMs);
    else if (ring.pending > 0) ring.submit();
    ring.reap(BATCH);
    const count = this.#notedCount;
    const returned = this.#noted;
    this.#noted = this.#returned;
    this.#returned = returned;
    this.#notedCount = 0;
    return count;
  }

  token(i: number): number {
    return this.#returned[i];
  }

  signal(fd: number): void {
    // In company it costs no system call of its own.
    if (this.ring.pending > 0) this.ring.signal(fd);
    else signalEventFd(fd);
  }

  flush(): void {
    const ring = this.ring;
    while (ring.pending > 0) {
      if (ring.submit() > 0) continue;
      // The kernel is short of memory, or of room for completions.
      ring.reap(BATCH);
      ring.wait(1);
    }
  }

  [Symbol.dispose](): void {
    this.ring.close();
  }
}

/**
 * Refuses what is always ready, as a regular file: a poll request on it would
 * never rest.
 *
 * @throws {SystemError} kind `EPERM`
 */
function requirePollable(fd: number): void {
  using epoll = new Epoll();
  epoll.add(fd, EPOLLIN, 0);
}
