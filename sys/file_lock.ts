/**
 * Advisory locks on ranges of an open file (OFD locks).
 *
 * Source: fcntl(2), "Open file description locks".
 *
 * @module
 */

import { check, Errno, errno, systemError } from "./errno.ts";
import { libc } from "./libc.ts";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const LOCK_TYPES = { read: 0, write: 1, none: 2 } as const;
const F_UNLCK = 2;

/** Which lock {@linkcode tryLock} takes. */
export type LockKind = "read" | "write" | "none";

/**
 * Takes, changes or (`"none"`) gives up a lock on a range.
 *
 * C: `int fcntl(int fd, F_OFD_SETLK, struct flock *lock);`
 *
 * @param path for messages
 * @param length bytes; 0 is up to the end of the file, however it grows
 * @returns false if somebody else holds a lock that conflicts
 */
export function tryLock(
  fd: number,
  path: string,
  kind: LockKind,
  start: number,
  length: number,
): boolean {
  const flock = encodeLock(kind, start, length);
  for (;;) {
    if (libc().fcntl_lock(fd, F_OFD_SETLK, flock) >= 0) return true;
    const e = errno();
    if (e === Errno.EAGAIN || e === Errno.EACCES) return false;
    if (e !== Errno.EINTR) throw systemError(e, "fcntl(F_OFD_SETLK)", path);
  }
}

/**
 * Whether {@linkcode tryLock} would succeed now.
 *
 * C: `int fcntl(int fd, F_OFD_GETLK, struct flock *lock);`
 */
export function testLock(
  fd: number,
  path: string,
  kind: LockKind,
  start: number,
  length: number,
): boolean {
  if (kind === "none") return true;
  const flock = encodeLock(kind, start, length);
  check(libc().fcntl_lock(fd, F_OFD_GETLK, flock), "fcntl(F_OFD_GETLK)", path);
  return new DataView(flock.buffer).getInt16(0, true) === F_UNLCK;
}

/**
 * `struct flock { short l_type; short l_whence; off_t l_start; off_t l_len;
 * pid_t l_pid; }`; `l_pid` has to be 0.
 */
function encodeLock(
  kind: LockKind,
  start: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const flock = new Uint8Array(32);
  const view = new DataView(flock.buffer);
  view.setInt16(0, LOCK_TYPES[kind], true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return flock;
}
