/**
 * Timers as descriptors: for threads that sleep in a system call, where timers
 * of the runtime do not fire.
 *
 * @module
 */

import { check, Errno, errno, systemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";

const CLOCK_MONOTONIC = 1;
const TFD_NONBLOCK = 0o4000;
const TFD_CLOEXEC = 0o2000000;

/**
 * An owned timerfd, close-on-exec and nonblocking: it becomes readable each time
 * it expires.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using timer = TimerFd.create();
 * timer.set(60_000);
 * assertEquals(timer.drain(), 0);
 * ```
 */
export class TimerFd extends OwnedFd {
  /**
   * A timer that is off.
   *
   * C: `int timerfd_create(int clockid, int flags);`
   */
  static create(): TimerFd {
    const flags = TFD_CLOEXEC | TFD_NONBLOCK;
    const fd = libc().timerfd_create(CLOCK_MONOTONIC, flags);
    return new TimerFd(check(fd, "timerfd_create"));
  }

  /**
   * Lets the timer expire once in so many milliseconds, the first time after as
   * many; 0 turns it off.
   *
   * C: `int timerfd_settime(int fd, int flags, const struct itimerspec
   * *new_value, struct itimerspec *old_value);`
   *
   * @throws {SystemError} kind `EINVAL` if that is less than 0
   */
  set(milliseconds: number): void {
    const seconds = BigInt(Math.floor(milliseconds / 1000));
    const rest = BigInt(Math.round(milliseconds % 1000 * 1e6));
    // it_interval and it_value: seconds, nanoseconds.
    const setting = new BigInt64Array([seconds, rest, seconds, rest]);
    const result = libc().timerfd_settime(this.fd, 0, setting, null);
    check(result, "timerfd_settime", `fd ${this.fd}`);
  }

  /**
   * Takes the number of times that the timer expired since the last call.
   *
   * C: `ssize_t read(int fd, void *buf, size_t count);`
   */
  drain(): number {
    const count = new BigUint64Array(1);
    while (libc().read(this.fd, count, 8n) < 0) {
      const n = errno();
      if (n === Errno.EAGAIN) return 0;
      if (n !== Errno.EINTR) throw systemError(n, "read", `fd ${this.fd}`);
    }
    return Number(count[0]);
  }
}
