/**
 * The system call by which a ring submits and waits.
 *
 * @module
 */

import { Arena } from "../arena.ts";
import { Errno, errno, systemError } from "../errno.ts";
import { libc, pointerTo } from "../libc.ts";
import { IORING_ENTER_EXT_ARG, IORING_ENTER_GETEVENTS } from "./constants.ts";

const SYS_IO_URING_ENTER = 426;
const TWO_32 = 4294967296;

/**
 * Submits and waits.
 *
 * C: `int io_uring_enter(unsigned int fd, unsigned int to_submit,
 * unsigned int min_complete, unsigned int flags, NULL, 0);`
 *
 * @param ring descriptor of the ring; or, with `IORING_ENTER_REGISTERED_RING` in
 * `flags`, its index in the calling thread
 * @returns how many submissions the kernel took; 0 also where it could do
 * nothing now: a signal arrived (EINTR), it has no memory for requests (EAGAIN),
 * completions have to be reaped first (EBUSY)
 * @throws {SystemError} for all other errors
 */
export function enter(
  ring: number,
  submit: number,
  complete: number,
  flags: number,
): number {
  const result = libc().io_uring_enter(
    SYS_IO_URING_ENTER,
    ring,
    submit,
    complete,
    flags,
    null,
    0n,
  );
  return result >= 0 ? result : nothing();
}

function nothing(): number {
  const e = errno();
  switch (e) {
    case Errno.EINTR:
    case Errno.EAGAIN:
    case Errno.EBUSY:
    case Errno.ETIME:
      return 0;
  }
  throw systemError(e, "io_uring_enter");
}

/** Waits for at most some time. */
export class TimedEnter implements Disposable {
  readonly #arena = new Arena(128);
  readonly #argument: Deno.PointerObject;
  readonly #words: Uint32Array;
  readonly #time: number;

  /** Takes memory for the arguments of the call. */
  constructor() {
    // struct io_uring_getevents_arg { u64 sigmask; u32 sigmask_sz; u32 pad;
    // u64 ts; } and struct __kernel_timespec { s64 tv_sec; s64 tv_nsec; }
    const argument = this.#arena.alloc(24);
    const time = this.#arena.alloc(16);
    this.#words = this.#arena.u32;
    this.#words[argument.offset / 4 + 4] = time.address;
    this.#words[argument.offset / 4 + 5] = time.address / TWO_32;
    this.#argument = pointerTo(argument.address);
    this.#time = time.offset / 4;
  }

  /**
   * Submits, and waits for one completion.
   *
   * C: as {@linkcode enter}, with `IORING_ENTER_GETEVENTS`,
   * `IORING_ENTER_EXT_ARG` and a `struct io_uring_getevents_arg`.
   *
   * @param ms milliseconds, also parts of one
   * @param flags more flags
   * @returns as {@linkcode enter}; 0 also after the time
   */
  enter(ring: number, submit: number, ms: number, flags: number): number {
    const words = this.#words, at = this.#time;
    const seconds = Math.floor(ms / 1000);
    words[at] = seconds;
    words[at + 1] = seconds / TWO_32;
    words[at + 2] = (ms - seconds * 1000) * 1_000_000;
    const result = libc().io_uring_enter(
      SYS_IO_URING_ENTER,
      ring,
      submit,
      1,
      flags | IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
      this.#argument,
      24n,
    );
    return result >= 0 ? result : nothing();
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#arena[Symbol.dispose]();
  }
}
