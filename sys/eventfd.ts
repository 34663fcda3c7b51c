/**
 * Event counters: how vhost-user passes kicks and calls, and how threads of
 * this process wake each other.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { check, Errno, errno, systemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { IovecTable } from "./iovec.ts";
import { libc } from "./libc.ts";
import { readTextFile } from "./proc.ts";

/** Largest value of a counter: nothing can be added to it. */
const FULL = 0xffff_ffff_ffff_fffen;
const RWF_NOWAIT = 8;
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
 * Empties an eventfd whose counter is so full that adding to it blocks, which
 * only somebody who means harm brings about; leaves any other alone. It never
 * blocks, whatever others do with the eventfd meanwhile.
 *
 * C: `ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t offset,
 * int flags);` and the line `eventfd-count` of /proc/self/fdinfo.
 *
 * @returns whether it was full
 * @throws {SystemError} kind `ENOENT` if `fd` is not open
 */
export function relieveEventFd(fd: number): boolean {
  const info = readTextFile(`/proc/self/fdinfo/${fd}`);
  const count = /^eventfd-count:\s*([\da-f]+)$/m.exec(info)?.[1];
  if (count === undefined || BigInt(`0x${count}`) < FULL) return false;
  using arena = new Arena(4096);
  using iovecs = new IovecTable(1, 1);
  const { address } = arena.alloc(8);
  iovecs.words[0] = address;
  iovecs.words[1] = address / 4294967296;
  iovecs.words[2] = 8;
  return libc().preadv2(fd, BigInt(iovecs.address(0)), 1, -1n, RWF_NOWAIT) ===
    8;
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
   * C: as {@linkcode signalEventFd}.
   *
   * @throws {SystemError} if the descriptor is closed
   */
  signal(): void {
    const fd = this.fd;
    if (!signalEventFd(fd)) throw systemError(errno(), "eventfd", `fd ${fd}`);
  }

  /**
   * Takes all signals and returns their number; 0 if there was none.
   *
   * C: as {@linkcode drainEventFd}.
   */
  drain(): number {
    return drainEventFd(this.fd);
  }
}
