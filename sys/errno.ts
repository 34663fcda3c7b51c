/**
 * `errno` of the calling thread, and errors made from it.
 *
 * The address of `errno` is asked for once in each thread (a Worker is one
 * thread for all its life). Read it straight after the call that failed.
 *
 * Between that call and the reading, the runtime may have waited for a lock of
 * its own, which leaves EAGAIN: seen once in 600 million failed calls, in a
 * process of many threads. Whoever decides by an error number therefore takes
 * EAGAIN as "ask again", so that the call itself tells the truth the next time.
 *
 * @module
 */

import { ERRNO_TABLE } from "./errno_table.ts";
import { libc } from "./libc.ts";

/** The error numbers that the code of this project names. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ELOOP: 40,
  ETIME: 62,
  EPROTO: 71,
  EOVERFLOW: 75,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ETOOMANYREFS: 109,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EDQUOT: 122,
  ECANCELED: 125,
} as const;

let location: Int32Array<ArrayBuffer> | undefined;

/**
 * The error number of the last call of this thread that failed.
 *
 * C: `errno`, which is `*__errno_location()`.
 */
export function errno(): number {
  return (location ?? locate())[0];
}

/** C: `int *__errno_location(void);` */
function locate(): Int32Array<ArrayBuffer> {
  const pointer = libc().__errno_location();
  if (pointer === null) throw new Error("Cannot locate errno");
  location = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(pointer, 4));
  return location;
}

const names = new Map(ERRNO_TABLE.map(([n, name]) => [n, name]));
const texts = new Map(ERRNO_TABLE.map(([n, , text]) => [n, text]));

/**
 * The symbolic name of an error number.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(errnoName(2), "ENOENT");
 * assertEquals(errnoName(9999), "E9999");
 * ```
 */
export function errnoName(n: number): string {
  return names.get(n) ?? `E${n}`;
}

/**
 * The text of an error number, as `strerror(3)` gives it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(errnoText(2), "No such file or directory");
 * ```
 */
export function errnoText(n: number): string {
  return texts.get(n) ?? `Unknown error ${n}`;
}

/** A system call that failed, or that would have to fail. */
export class SystemError extends Error {
  /** Stable name: that of the error number, as `"ENOENT"`. */
  readonly kind: string;
  /** The error number. */
  readonly errno: number;
  /** The system call or the function of this layer. */
  readonly syscall: string;

  /**
   * An error with the name and, if no message is given, the text of `errno`.
   *
   * @param errno error number, see {@linkcode Errno}
   * @param syscall the system call or the function of this layer
   * @param message the whole text; made from `errno` and `syscall` if left out
   */
  constructor(errno: number, syscall: string, message?: string) {
    super(message ?? `${syscall}: ${errnoText(errno)} (${errnoName(errno)})`);
    this.name = "SystemError";
    this.kind = errnoName(errno);
    this.errno = errno;
    this.syscall = syscall;
  }
}

/**
 * Passes the result of a system call on, or throws what `errno` says if it is
 * negative.
 *
 * @param what what the call was about, as a path or `fd 7`; named in the error
 * @throws {SystemError} as `open "x.img": No such file or directory (ENOENT)`
 */
export function check(result: number, syscall: string, what?: string): number {
  if (result < 0) throw systemError(errno(), syscall, what);
  return result;
}

/** The error that {@linkcode check} throws, for a known error number. */
export function systemError(
  n: number,
  syscall: string,
  what?: string,
): SystemError {
  const about = what === undefined ? "" : ` ${JSON.stringify(what)}`;
  return new SystemError(
    n,
    syscall,
    `${syscall}${about}: ${errnoText(n)} (${errnoName(n)})`,
  );
}
