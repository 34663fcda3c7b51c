/**
 * Event counters: how vhost-user passes kicks and calls, and how threads of
 * this process wake each other.
 *
 * @module
 */

import { check, Errno, errno, systemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";

const EFD_SEMAPHORE = 1;
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

/** Options of {@linkcode EventFd.create}. */
export interface EventFdOptions {
  /** Reading takes 1 instead of the whole counter. Default false. */
  semaphore?: boolean;
  /** Reading an empty counter does not block. Default true. */
  nonblocking?: boolean;
}

const counter = new Uint32Array(2);

/**
 * Adds 1 to the counter of an eventfd. For the path of every request: it
 * allocates nothing and does not throw.
 *
 * C: `int eventfd_write(int fd, eventfd_t value);`
 *
 * @returns false if `fd` is not an eventfd that can be written to; a full
 * counter (EAGAIN) is a signal that is already there: true
 */
export function signalEventFd(fd: number): boolean {
  while (libc().eventfd_write(fd, 1n) < 0) {
    const n = errno();
    if (n === Errno.EAGAIN) return true;
    if (n !== Errno.EINTR) return false;
  }
  return true;
}

/**
 * Takes what is in the counter of an eventfd and clears it. On an eventfd that
 * blocks it waits for a signal.
 *
 * C: `int eventfd_read(int fd, eventfd_t *value);`
 *
 * @returns the number of signals; 0 if there was none
 * @throws {SystemError} if `fd` is not an eventfd
 */
export function drainEventFd(fd: number): number {
  while (libc().eventfd_read(fd, counter) < 0) {
    const n = errno();
    if (n === Errno.EAGAIN) return 0;
    if (n !== Errno.EINTR) throw systemError(n, "eventfd_read", `fd ${fd}`);
  }
  return counter[0] + counter[1] * 4294967296;
}

/**
 * An owned eventfd, close-on-exec.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using event = EventFd.create();
 * event.signal();
 * event.signal();
 * assertEquals(event.drain(), 2);
 * assertEquals(event.drain(), 0);
 * ```
 */
export class EventFd extends OwnedFd {
  /**
   * A new counter, at 0.
   *
   * C: `int eventfd(unsigned int initval, int flags);`
   */
  static create(options: EventFdOptions = {}): EventFd {
    const flags = EFD_CLOEXEC |
      (options.semaphore ? EFD_SEMAPHORE : 0) |
      (options.nonblocking === false ? 0 : EFD_NONBLOCK);
    return new EventFd(check(libc().eventfd(0, flags), "eventfd"));
  }

  /**
   * Adds 1; a counter that is full stays so.
   *
   * @throws {SystemError} if the descriptor is closed
   */
  signal(): void {
    const fd = this.fd;
    if (!signalEventFd(fd)) throw systemError(errno(), "eventfd", `fd ${fd}`);
  }

  /** Takes all signals and returns their number; 0 if there was none. */
  drain(): number {
    return drainEventFd(this.fd);
  }
}
