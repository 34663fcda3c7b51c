/**
 * The name of a listening socket in the file system.
 *
 * Theory of operation: the permissions of a new socket file are those of the
 * socket's own inode, less the umask. So `fchmod` on the socket before `bind`
 * makes the file private from its first instant, without touching the umask,
 * which belongs to the whole process. Then the group is set, then the mode.
 *
 * A stale file is recognised by a connection that is refused. Between that
 * test and the removal, and between `bind` and `listen`, another server must
 * not make the same test: an advisory lock on the directory keeps them apart.
 * Somebody who holds that lock for long is not waited for: it would let anyone
 * who can read the directory keep a server from starting.
 *
 * @module
 */

import {
  check,
  Errno,
  errno,
  errnoName,
  errnoText,
  SystemError,
  systemError,
} from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { cString, libc } from "./libc.ts";
import { groupName } from "./process.ts";
import { encodeAddress } from "./sockaddr.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  FileType,
  type Metadata,
  statAt,
  statFd,
} from "./statx.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_FLAGS = 0o2000000 | 0o4000;
const O_CLOEXEC = 0o2000000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_PATH = 0o10000000;
const LOCK_EX = 2;
const LOCK_NB = 4;
const PRIVATE_MODE = 0o600;

const LOCK_TRIES = 100;
const LOCK_PAUSE_MS = 5;

/** A socket file that this process made. */
export class BoundName {
  readonly #directory: OwnedFd;
  readonly #base: string;
  #lock: OwnedFd | undefined;
  #metadata: Metadata | undefined;

  /** Takes over the descriptor of a directory and the lock on it. */
  constructor(directory: OwnedFd, base: string, lock: OwnedFd | undefined) {
    this.#directory = directory;
    this.#base = base;
    this.#lock = lock;
  }

  /**
   * Sets group and mode of the file that `bind` has just made.
   *
   * C: `int openat(int dirfd, const char *pathname, int flags, mode_t mode);`
   * `int fchownat(int dirfd, const char *pathname, uid_t owner, gid_t group,
   * int flags);` `int chmod(const char *pathname, mode_t mode);`
   */
  claim(path: string, mode: number, group: number | undefined): void {
    const flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    const name = cString(this.#base);
    using file = new OwnedFd(
      check(libc().openat(this.#directory.fd, name, flags, 0), "open", path),
    );
    this.#metadata = statFd(file.fd);
    if (group !== undefined) {
      const empty = cString("");
      const flags = AT_EMPTY_PATH;
      if (libc().fchownat(file.fd, empty, 0xffff_ffff, group, flags) < 0) {
        const e = errno();
        throw new SystemError(
          e,
          "chown",
          `Cannot give ${JSON.stringify(path)} to group ${groupName(group)}: ${
            errnoText(e)
          } (${errnoName(e)})` +
            (e === Errno.EPERM
              ? "; only root may give it to a group that it is not in"
              : ""),
        );
      }
    }
    if (mode !== this.#metadata.mode) {
      // An O_PATH descriptor takes no fchmod; its name in /proc does.
      const alias = cString(`/proc/self/fd/${file.fd}`);
      check(libc().chmod(alias, mode), "chmod", path);
    }
  }

  /** Lets other servers make sockets in this directory again. */
  unlock(): void {
    this.#lock?.close();
    this.#lock = undefined;
  }

  /**
   * Removes the file if it is still the one that was made here.
   *
   * C: `int unlinkat(int dirfd, const char *pathname, int flags);`
   */
  remove(): void {
    if (this.#directory.closed) return;
    try {
      const made = this.#metadata;
      const now = made && statAt(this.#directory.fd, this.#base);
      if (now && now.ino === made.ino && now.dev === made.dev) {
        libc().unlinkat(this.#directory.fd, cString(this.#base), 0);
      }
    } finally {
      this.unlock();
      this.#directory.close();
    }
  }
}

/**
 * Opens the directory that a socket is to be in.
 *
 * C: `int open(const char *pathname, int flags, mode_t mode);`
 */
function openDirectory(path: string, parent: string, flags: number): OwnedFd {
  const fd = libc().open(cString(parent), flags, 0);
  if (fd >= 0) return new OwnedFd(fd);
  const e = errno();
  const why = e === Errno.ENOENT
    ? `there is no directory ${JSON.stringify(parent)}`
    : e === Errno.ENOTDIR
    ? `${JSON.stringify(parent)} is no directory`
    : systemError(e, "open", parent).message;
  throw new SystemError(
    e,
    "open",
    `Cannot listen on ${JSON.stringify(path)}: ${why}`,
  );
}

/**
 * Binds a socket to `path` with permissions `mode` and group `group`. The
 * directory stays locked until `unlock`, to be called after `listen`.
 *
 * C: `int fchmod(int fd, mode_t mode);` `int bind(int sockfd, const struct
 * sockaddr *addr, socklen_t addrlen);`
 */
export function bindPrivately(
  fd: number,
  path: string,
  mode: number,
  group: number | undefined,
): BoundName {
  const address = encodeAddress(path);
  const slash = path.lastIndexOf("/");
  const parent = slash < 0 ? "." : path.slice(0, slash + 1);
  const base = path.slice(slash + 1);
  if (base === "" || base === "." || base === "..") {
    throw new SystemError(
      Errno.EISDIR,
      "bind",
      `Cannot listen on ${JSON.stringify(path)}: ` +
        "the name is that of a directory",
    );
  }
  const flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  const directory = openDirectory(path, parent, flags);
  const name = new BoundName(directory, base, lockDirectory(parent));
  try {
    check(libc().fchmod(fd, PRIVATE_MODE), "fchmod", `fd ${fd}`);
    removeStale(directory.fd, base, path, address);
    if (libc().bind(fd, address, address.length) < 0) {
      throw cannotListen(errno(), "bind", path);
    }
    name.claim(path, mode, group);
    return name;
  } catch (error) {
    name.remove();
    throw error;
  }
}

function cannotListen(e: number, call: string, path: string): SystemError {
  const why = call === "bind"
    ? "the socket cannot be made"
    : call === "connect"
    ? "a socket of somebody else is there"
    : "the socket that is there cannot be removed";
  return new SystemError(
    e,
    call,
    `Cannot listen on ${JSON.stringify(path)}: ${why}: ${errnoText(e)} (${
      errnoName(e)
    })`,
  );
}

/**
 * An exclusive lock on a directory; none if it cannot be had in half a second.
 *
 * C: `int openat(int dirfd, const char *pathname, int flags, mode_t mode);`
 * `int flock(int fd, int operation);`
 */
function lockDirectory(parent: string): OwnedFd | undefined {
  const flags = O_DIRECTORY | O_CLOEXEC;
  const fd = libc().openat(AT_FDCWD, cString(parent), flags, 0);
  if (fd < 0) return undefined;
  const owner = new OwnedFd(fd);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < LOCK_TRIES; i++) {
    if (libc().flock(fd, LOCK_EX | LOCK_NB) >= 0) return owner;
    Atomics.wait(pause, 0, 0, LOCK_PAUSE_MS);
  }
  owner.close();
  return undefined;
}

/**
 * Removes a socket file that nobody listens on.
 *
 * C: `int socket(int domain, int type, int protocol);` `int connect(int sockfd,
 * const struct sockaddr *addr, socklen_t addrlen);` `int unlinkat(int dirfd,
 * const char *pathname, int flags);`
 */
function removeStale(
  directory: number,
  base: string,
  path: string,
  address: Uint8Array<ArrayBuffer>,
): void {
  const found = statAt(directory, base);
  if (found === null) return;
  if (found.type !== FileType.SOCKET) {
    throw new SystemError(
      Errno.ENOTSOCK,
      "bind",
      `Cannot listen on ${JSON.stringify(path)}: ` +
        "the name is that of something else than a socket",
    );
  }
  using probe = new OwnedFd(
    check(libc().socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0), "socket"),
  );
  const result = libc().connect(probe.fd, address, address.length);
  const e = result < 0 ? errno() : 0;
  if (e === Errno.ENOENT) return;
  if (e === Errno.ECONNREFUSED) {
    if (libc().unlinkat(directory, cString(base), 0) < 0) {
      const n = errno();
      if (n !== Errno.ENOENT) throw cannotListen(n, "unlink", path);
    }
    return;
  }
  if (e === Errno.EACCES || e === Errno.EPERM) {
    throw cannotListen(e, "connect", path);
  }
  throw new SystemError(
    Errno.EADDRINUSE,
    "bind",
    `Cannot listen on ${JSON.stringify(path)}: ` +
      "another server listens there already",
  );
}
