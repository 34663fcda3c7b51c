/**
 * Owned file descriptors.
 *
 * Theory of operation: a descriptor that this process opened or received has
 * exactly one owner, an {@linkcode OwnedFd}, from the call that made it until
 * it is closed or released. Every descriptor is close-on-exec from its first
 * instant. Code that only uses a descriptor takes its number.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { libc } from "./libc.ts";
import { countOpenFds, readLink } from "./proc.ts";
import { FileType, statFd } from "./statx.ts";

const F_GETFD = 1;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0o4000;

/** The first number that is not one of the standard streams. */
const FIRST_FREE_FD = 3;

/**
 * A file descriptor with one owner.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { EventFd } from "./eventfd.ts";
 *
 * let copy: OwnedFd;
 * {
 *   using event = EventFd.create();
 *   copy = event.dup();
 * }
 * assert(!copy.closed);
 * copy.close();
 * assert(copy.closed);
 * ```
 */
export class OwnedFd implements Disposable {
  #fd: number;

  /** Takes over an open descriptor: the new object closes it. */
  constructor(fd: number) {
    if (!Number.isInteger(fd) || fd < 0) {
      throw new SystemError(
        Errno.EBADF,
        "OwnedFd",
        `Cannot own file descriptor ${fd}: it is not a number from 0 up`,
      );
    }
    this.#fd = fd;
  }

  /**
   * The descriptor's number; it stays owned by this object.
   *
   * @throws {SystemError} kind `EBADF` after `close` or `release`
   */
  get fd(): number {
    if (this.#fd < 0) {
      throw new SystemError(
        Errno.EBADF,
        "OwnedFd",
        "Cannot use a file descriptor after it was closed or released",
      );
    }
    return this.#fd;
  }

  /** Whether the descriptor was closed or released. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /**
   * Closes the descriptor; does nothing the second time.
   *
   * C: `int close(int fd);`
   *
   * @throws {SystemError} kind `EBADF` if somebody else closed the number
   */
  close(): void {
    const fd = this.#fd;
    if (fd < 0) return;
    this.#fd = -1;
    closeFd(fd);
  }

  /** Gives the descriptor away: the caller owns the number now. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /**
   * Another descriptor of the same open file description, close-on-exec.
   *
   * C: `int fcntl(int fd, F_DUPFD_CLOEXEC, int min);`
   */
  dup(): OwnedFd {
    return new OwnedFd(dupFd(this.fd));
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Closes a descriptor number that nobody else owns. Linux frees the number
 * also when it reports `EINTR` or `EIO`, so there is nothing to repeat.
 *
 * C: `int close(int fd);`
 */
export function closeFd(fd: number): void {
  if (libc().close(fd) < 0) {
    const n = errno();
    if (n === Errno.EBADF) throw systemError(n, "close", `fd ${fd}`);
  }
}

/**
 * Duplicates a descriptor that somebody else owns, close-on-exec.
 *
 * C: `int fcntl(int fd, F_DUPFD_CLOEXEC, int min);`
 *
 * @returns the number, owned by the caller
 */
export function dupFd(fd: number): number {
  return check(
    libc().fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD),
    "fcntl(F_DUPFD_CLOEXEC)",
    `fd ${fd}`,
  );
}

/**
 * Sets or clears O_NONBLOCK. The flag belongs to the open file description: all
 * duplicates and the processes that share it see the change.
 *
 * C: `int fcntl(int fd, F_SETFL, int flags);`
 */
export function setNonblocking(fd: number, on: boolean): void {
  const what = `fd ${fd}`;
  const old = check(libc().fcntl(fd, F_GETFL, 0), "fcntl(F_GETFL)", what);
  const flags = on ? old | O_NONBLOCK : old & ~O_NONBLOCK;
  if (flags === old) return;
  check(libc().fcntl(fd, F_SETFL, flags), "fcntl(F_SETFL)", what);
}

/** Whether O_NONBLOCK is set. C: `int fcntl(int fd, F_GETFL);` */
export function isNonblocking(fd: number): boolean {
  const flags = libc().fcntl(fd, F_GETFL, 0);
  return (check(flags, "fcntl(F_GETFL)", `fd ${fd}`) & O_NONBLOCK) !== 0;
}

/**
 * Sets or clears close-on-exec: cleared, children inherit the descriptor.
 *
 * C: `int fcntl(int fd, F_SETFD, int flags);`
 */
export function setCloexec(fd: number, on: boolean): void {
  const flags = on ? FD_CLOEXEC : 0;
  check(libc().fcntl(fd, F_SETFD, flags), "fcntl(F_SETFD)", `fd ${fd}`);
}

/** Whether close-on-exec is set. C: `int fcntl(int fd, F_GETFD);` */
export function isCloexec(fd: number): boolean {
  const flags = libc().fcntl(fd, F_GETFD, 0);
  return (check(flags, "fcntl(F_GETFD)", `fd ${fd}`) & FD_CLOEXEC) !== 0;
}

/**
 * How many descriptors this process has open, all threads, from
 * /proc/self/fd. For leak tests and counters.
 *
 * C: as {@linkcode countOpenFds}.
 */
export function openFdCount(): number {
  return countOpenFds();
}

/** What a descriptor refers to, see {@linkcode fdKind}. */
export type FdKind =
  | "eventfd"
  | "epoll"
  | "socket"
  | "memfd"
  | "file"
  | "directory"
  | "block"
  | "character"
  | "pipe"
  | "other";

/**
 * What a descriptor refers to, from its inode's type and from the name that
 * /proc/self/fd shows for it.
 *
 * C: `int statx(int dirfd, const char *pathname, int flags, unsigned int mask,
 * struct statx *statxbuf);` and `ssize_t readlink(const char *pathname, char
 * *buf, size_t bufsiz);`
 *
 * @throws {SystemError} kind `EBADF` if `fd` is not open
 */
export function fdKind(fd: number): FdKind {
  const metadata = statFd(fd);
  switch (metadata.type) {
    case FileType.SOCKET:
      return "socket";
    case FileType.DIRECTORY:
      return "directory";
    case FileType.BLOCK:
      return "block";
    case FileType.CHARACTER:
      return "character";
    case FileType.FIFO:
      return "pipe";
  }
  const link = fdName(fd);
  if (link === "anon_inode:[eventfd]") return "eventfd";
  if (link === "anon_inode:[eventpoll]") return "epoll";
  if (metadata.type !== FileType.REGULAR) return "other";
  // A file may have such a name too, but a memfd has none in any directory.
  const memfd = metadata.nlink === 0 && link.startsWith("/memfd:");
  return memfd ? "memfd" : "file";
}

/**
 * Reads what there is.
 *
 * C: `ssize_t read(int fd, void *buf, size_t count);`
 *
 * @returns bytes; 0 at the end; -1 if `fd` is nonblocking and it would block
 */
export function readFd(fd: number, into: Uint8Array<ArrayBuffer>): number {
  for (;;) {
    const n = libc().read(fd, into, BigInt(into.length));
    if (n >= 0) return n;
    const e = errno();
    if (e === Errno.EAGAIN) return -1;
    if (e !== Errno.EINTR) throw systemError(e, "read", `fd ${fd}`);
  }
}

/**
 * Writes all of `data`, in one piece where the file takes it.
 *
 * C: `ssize_t write(int fd, const void *buf, size_t count);`
 *
 * @throws {SystemError} kind `EAGAIN` if `fd` is nonblocking and has no room
 */
export function writeFd(fd: number, data: Uint8Array<ArrayBuffer>): void {
  let rest = data;
  while (rest.length > 0) {
    const n = libc().write(fd, rest, BigInt(rest.length));
    if (n >= 0) rest = rest.subarray(n);
    else if (errno() !== Errno.EINTR) {
      throw systemError(errno(), "write", `fd ${fd}`);
    }
  }
}

/**
 * What /proc/self/fd shows for a descriptor: a path, `pipe:[7]`, `socket:[8]`,
 * `anon_inode:[eventfd]` … Unlike {@linkcode fdKind} it asks nothing of the file,
 * which may belong to a file system that does not answer.
 *
 * C: `ssize_t readlink(const char *pathname, char *buf, size_t bufsiz);`
 *
 * @throws {SystemError} kind `ENOENT` if `fd` is not open
 */
export function fdName(fd: number): string {
  return readLink(`/proc/self/fd/${fd}`);
}

/** Whether a descriptor is an eventfd. C: as {@linkcode fdName}. */
export function isEventFd(fd: number): boolean {
  // Names of files begin with a slash, so none is this.
  return fdName(fd) === "anon_inode:[eventfd]";
}
