/**
 * Waiting for many descriptors.
 *
 * Theory of operation: the interest list lives in the kernel; the events of
 * one `wait` lie in an arena until the next. `wait` blocks the thread and is
 * for Workers. `waitAsync` is for the main thread: a `poll` on the epoll
 * descriptor runs on a thread of the runtime's pool, then a `wait` that does not
 * block fetches the events. The pool's thread uses arena memory, so `close`
 * during a `waitAsync` wakes it first and frees memory and descriptors when it
 * has returned.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { OwnedFd } from "./fd.ts";
import { libc, pointerTo } from "./libc.ts";

/** Reading is possible. */
export const EPOLLIN = 0x1;
/** Writing is possible. */
export const EPOLLOUT = 0x4;
/** An error; always reported. */
export const EPOLLERR = 0x8;
/** The other side is gone; always reported. */
export const EPOLLHUP = 0x10;
/** The other side will send no more. */
export const EPOLLRDHUP = 0x2000;
/** Report once, then only after `modify`. */
export const EPOLLONESHOT = 0x4000_0000;
/** Report changes only. */
export const EPOLLET = 0x8000_0000;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

/** `struct epoll_event` is packed on x86-64: u32 events, u64 data. */
const EVENT_WORDS = 3;
/** The most events of one `wait`. */
const CAPACITY = 256;
const POLLIN = 1;

/**
 * An epoll instance.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { EventFd } from "./eventfd.ts";
 *
 * using epoll = new Epoll();
 * using event = EventFd.create();
 * epoll.add(event.fd, EPOLLIN, 7);
 * assertEquals(epoll.wait(0), 0);
 * event.signal();
 * assertEquals(epoll.wait(-1), 1);
 * assertEquals(epoll.token(0), 7);
 * ```
 */
export class Epoll implements Disposable {
  readonly #owner: OwnedFd;
  readonly #fd: number;
  readonly #arena: Arena;
  readonly #words: Uint32Array;
  readonly #list: Deno.PointerObject;
  readonly #change: Deno.PointerObject;
  readonly #changeWord: number;
  readonly #polls: Deno.PointerObject;
  readonly #pollWord: number;
  #waker: EventFd | undefined;
  #waiting = false;
  #closed = false;

  /** C: `int epoll_create1(int flags);` */
  constructor() {
    this.#owner = new OwnedFd(
      check(libc().epoll_create1(EPOLL_CLOEXEC), "epoll_create1"),
    );
    this.#fd = this.#owner.fd;
    try {
      this.#arena = new Arena(CAPACITY * EVENT_WORDS * 4 + 256);
    } catch (error) {
      this.#owner.close();
      throw error;
    }
    this.#words = this.#arena.u32;
    const list = this.#arena.alloc(CAPACITY * EVENT_WORDS * 4);
    this.#list = pointerTo(list.address);
    const change = this.#arena.alloc(EVENT_WORDS * 4);
    this.#change = pointerTo(change.address);
    this.#changeWord = change.offset / 4;
    const polls = this.#arena.alloc(2 * 8);
    this.#polls = pointerTo(polls.address);
    this.#pollWord = polls.offset / 4;
  }

  /**
   * The descriptor of the instance itself.
   *
   * @throws {SystemError} kind `EBADF` after `close`
   */
  get fd(): number {
    this.#requireOpen();
    return this.#fd;
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Adds a descriptor.
   *
   * C: `int epoll_ctl(int epfd, EPOLL_CTL_ADD, int fd,
   * struct epoll_event *event);`
   *
   * @param token reported with its events; 0 to 2^32-1
   * @throws {SystemError} kind `EEXIST` if it is there already, `EPERM` for
   * what cannot be waited for, as a regular file
   */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, "epoll_ctl(ADD)", fd, events, token);
  }

  /**
   * Changes the events and the token of a descriptor.
   *
   * C: as {@linkcode Epoll.add}, with `EPOLL_CTL_MOD`.
   */
  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, "epoll_ctl(MOD)", fd, events, token);
  }

  /**
   * Removes a descriptor. Do so before closing it: while a duplicate is open
   * somewhere it goes on to report.
   *
   * C: as {@linkcode Epoll.add}, with `EPOLL_CTL_DEL`.
   */
  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, "epoll_ctl(DEL)", fd, 0, 0);
  }

  /**
   * C: `int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);`
   */
  #control(
    operation: number,
    name: string,
    fd: number,
    events: number,
    token: number,
  ): void {
    this.#requireOpen();
    const at = this.#changeWord;
    this.#words[at] = events;
    this.#words[at + 1] = token;
    this.#words[at + 2] = 0;
    const result = libc().epoll_ctl(this.#fd, operation, fd, this.#change);
    check(result, name, `fd ${fd}`);
  }

  /**
   * Blocks this thread until something happens; allocates nothing.
   *
   * C: `int epoll_wait(int epfd, struct epoll_event *events, int maxevents,
   * int timeout);`
   *
   * @param timeoutMs milliseconds; 0 does not wait, -1 waits for ever
   * @returns the number of events, 0 after the time
   */
  wait(timeoutMs: number): number {
    this.#requireOpen();
    for (;;) {
      const n = libc().epoll_wait(this.#fd, this.#list, CAPACITY, timeoutMs);
      if (n >= 0) return n;
      const e = errno();
      if (e !== Errno.EINTR) throw systemError(e, "epoll_wait");
      if (timeoutMs > 0) return this.#waitUntil(performance.now() + timeoutMs);
    }
  }

  /** C: as {@linkcode Epoll.wait}. */
  #waitUntil(deadline: number): number {
    for (;;) {
      const left = Math.max(0, Math.ceil(deadline - performance.now()));
      const n = libc().epoll_wait(this.#fd, this.#list, CAPACITY, left);
      if (n >= 0) return n;
      const e = errno();
      if (e !== Errno.EINTR) throw systemError(e, "epoll_wait");
    }
  }

  /**
   * As `wait`, without blocking this thread. One at a time.
   *
   * C: `int poll(struct pollfd *fds, nfds_t nfds, int timeout);` on another
   * thread, then `epoll_wait` with timeout 0.
   *
   * @returns the number of events; 0 after the time, after `interrupt`, after
   * `close`, and now and then earlier, as when a signal arrives
   * @throws {SystemError} kind `EBUSY` if one is under way
   */
  async waitAsync(timeoutMs: number): Promise<number> {
    this.#requireOpen();
    if (this.#waiting) {
      throw new SystemError(
        Errno.EBUSY,
        "waitAsync",
        "Cannot wait for this epoll instance twice at a time",
      );
    }
    this.#waker ??= EventFd.create();
    const at = this.#pollWord;
    // struct pollfd { int fd; short events; short revents; }
    this.#words[at] = this.#fd;
    this.#words[at + 1] = POLLIN;
    this.#words[at + 2] = this.#waker.fd;
    this.#words[at + 3] = POLLIN;
    this.#waiting = true;
    try {
      await libc().poll_async(this.#polls, 2n, timeoutMs);
    } finally {
      this.#waiting = false;
      if (this.#closed) this.#free();
    }
    if (this.#closed) return 0;
    // revents, in the upper half.
    if (this.#words[at + 3] >>> 16 !== 0) this.#waker.drain();
    return this.wait(0);
  }

  /** Ends a `waitAsync` that is under way, or the next one. */
  interrupt(): void {
    this.#waker?.signal();
  }

  /** The token of event `i` of the last wait. */
  token(i: number): number {
    return this.#words[i * EVENT_WORDS + 1];
  }

  /** The events of event `i` of the last wait. */
  events(i: number): number {
    return this.#words[i * EVENT_WORDS];
  }

  /** Closes the instance; a `waitAsync` under way resolves to 0. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#waiting) this.#waker?.signal();
    else this.#free();
  }

  #free(): void {
    this.#waker?.close();
    this.#owner.close();
    this.#arena[Symbol.dispose]();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #requireOpen(): void {
    if (this.#closed) {
      throw new SystemError(
        Errno.EBADF,
        "epoll",
        "Cannot use an epoll instance after it was closed",
      );
    }
  }
}
