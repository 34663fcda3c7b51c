/**
 * Events of descriptors as callbacks, for the main thread.
 *
 * Theory of operation: all watched descriptors are in one {@linkcode Epoll}.
 * While there are any, one `waitAsync` is outstanding; when it returns, the
 * callbacks of the events are called one after the other and the next one
 * starts. When the last watch is closed, the outstanding one is ended, so a
 * reactor without watches does not keep the process alive. Reporting is by
 * level: a callback that leaves its descriptor readable is called again at
 * once, unless it asked for EPOLLONESHOT or EPOLLET.
 *
 * @module
 */

import { Epoll, EPOLLIN } from "./epoll.ts";
import { Errno, SystemError } from "./errno.ts";

/** What is called with the events of a descriptor. */
export type WatchCallback = (events: number) => void;

/** Options of {@linkcode Reactor.readable}. */
export interface ReadableOptions {
  /** Ends the wait: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** A descriptor that a {@linkcode Reactor} watches. */
export class Watch implements Disposable {
  /** The descriptor; the reactor does not own it. */
  readonly fd: number;
  readonly #epoll: Epoll;
  readonly #token: number;
  readonly #forget: (token: number) => void;
  #closed = false;

  /** Made by {@linkcode Reactor.watch}. */
  constructor(
    epoll: Epoll,
    fd: number,
    token: number,
    forget: (token: number) => void,
  ) {
    this.#epoll = epoll;
    this.fd = fd;
    this.#token = token;
    this.#forget = forget;
  }

  /** Whether `close` was called, or the reactor was closed. */
  get closed(): boolean {
    return this.#closed || this.#epoll.closed;
  }

  /**
   * Changes the events that are waited for. EPOLLERR and EPOLLHUP are reported
   * also where `events` is 0.
   */
  modify(events: number): void {
    if (this.closed) {
      throw new SystemError(
        Errno.EBADF,
        "Watch",
        `Cannot modify the watch of fd ${this.fd} after it was closed`,
      );
    }
    this.#epoll.modify(this.fd, events, this.#token);
  }

  /**
   * Ends the watch: the callback is not called any more, also not for events
   * that were fetched already. Call it before closing the descriptor.
   */
  close(): void {
    if (this.closed) return;
    this.#closed = true;
    try {
      this.#epoll.remove(this.fd);
    } finally {
      this.#forget(this.#token);
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Calls back when descriptors have events.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { EPOLLIN } from "./epoll.ts";
 * import { EventFd } from "./eventfd.ts";
 *
 * using event = EventFd.create();
 * using reactor = new Reactor();
 * const seen = Promise.withResolvers<number>();
 * using _watch = reactor.watch(
 *   event.fd,
 *   EPOLLIN,
 *   () => seen.resolve(event.drain()),
 * );
 * event.signal();
 * assertEquals(await seen.promise, 1);
 * ```
 */
export class Reactor implements Disposable {
  readonly #epoll = new Epoll();
  readonly #callbacks = new Map<number, WatchCallback>();
  readonly #forget = (token: number): void => {
    this.#callbacks.delete(token);
    if (this.#callbacks.size === 0) this.#epoll.interrupt();
  };
  readonly #aborts = new Set<(reason: unknown) => void>();
  #nextToken = 0;
  #running = false;
  #closed = false;

  /** The number of watches. */
  get size(): number {
    return this.#callbacks.size;
  }

  /**
   * Calls `callback` whenever `fd` has one of `events` (EPOLLIN, EPOLLOUT …),
   * or EPOLLERR or EPOLLHUP. An error that it throws is reported as uncaught.
   *
   * @throws {SystemError} kind `EEXIST` if this reactor watches `fd` already
   */
  watch(fd: number, events: number, callback: WatchCallback): Watch {
    if (this.#closed) {
      throw new SystemError(
        Errno.EBADF,
        "Reactor",
        `Cannot watch fd ${fd}: the reactor is closed`,
      );
    }
    while (this.#callbacks.has(this.#nextToken)) this.#step();
    const token = this.#nextToken;
    this.#step();
    this.#epoll.add(fd, events, token);
    this.#callbacks.set(token, callback);
    if (!this.#running) this.#run();
    return new Watch(this.#epoll, fd, token, this.#forget);
  }

  #step(): void {
    this.#nextToken = (this.#nextToken + 1) >>> 0;
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (this.#callbacks.size > 0 && !this.#closed) {
        const n = await this.#epoll.waitAsync(-1);
        for (let i = 0; i < n && !this.#closed; i++) {
          // A callback may close the watch of a later event.
          const callback = this.#callbacks.get(this.#epoll.token(i));
          if (callback !== undefined) this.#call(callback, i);
        }
      }
    } catch (error) {
      reportError(error);
    } finally {
      this.#running = false;
    }
  }

  #call(callback: WatchCallback, i: number): void {
    try {
      callback(this.#epoll.events(i));
    } catch (error) {
      reportError(error);
    }
  }

  /**
   * Resolves when `fd` can be read from, or has an error or lost its peer.
   *
   * @throws {SystemError} kind `ECANCELED` if the reactor is closed meanwhile
   */
  readable(fd: number, options: ReadableOptions = {}): Promise<void> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let watch: Watch;
    try {
      watch = this.watch(fd, EPOLLIN, () => finish(resolve));
    } catch (error) {
      return Promise.reject(error);
    }
    const onAbort = (): void => finish(() => reject(signal?.reason));
    const onClose = (reason: unknown): void => finish(() => reject(reason));
    const finish = (settle: () => void): void => {
      watch.close();
      signal?.removeEventListener("abort", onAbort);
      this.#aborts.delete(onClose);
      settle();
    };
    signal?.addEventListener("abort", onAbort);
    this.#aborts.add(onClose);
    return promise;
  }

  /**
   * Ends all watches. Callbacks are not called any more; promises of `readable`
   * reject.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const reason = new SystemError(
      Errno.ECANCELED,
      "Reactor",
      "The reactor was closed",
    );
    for (const abort of [...this.#aborts]) abort(reason);
    this.#callbacks.clear();
    this.#epoll.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

let shared: Reactor | undefined;

/**
 * Resolves when `fd` can be read from, with a reactor that all callers of this
 * thread share. The reactor stays, with two descriptors and one mapping.
 */
export function readable(
  fd: number,
  options: ReadableOptions = {},
): Promise<void> {
  shared ??= new Reactor();
  return shared.readable(fd, options);
}
