/**
 * Small files that a device keeps beside its image: written whole, replaced as
 * one, appended to. Through the C library, because the process of a device has no
 * permission to read or write files.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { OwnedFd, writeFd } from "./fd.ts";
import { cString, libc } from "./libc.ts";
import { readLink, readTextFile } from "./proc.ts";

const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;

/** A file that is written from its start to its end. */
export class OutputFile implements Disposable {
  readonly #fd: OwnedFd;

  /**
   * Makes a file, or empties it.
   *
   * C: `int open(const char *pathname, int flags, mode_t mode);`
   *
   * @param mode permission bits of a new file
   */
  constructor(path: string, mode: number = 0o600) {
    const flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    const fd = libc().open(cString(path), flags, mode);
    this.#fd = new OwnedFd(check(fd, "open", path));
  }

  /**
   * Appends bytes.
   *
   * C: `ssize_t write(int fd, const void *buf, size_t count);`
   */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    writeFd(this.#fd.fd, bytes);
  }

  /** Makes everything durable. C: `int fsync(int fd);` */
  sync(): void {
    check(libc().fsync(this.#fd.fd), "fsync");
  }

  /** Closes the file. */
  close(): void {
    this.#fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A whole file as text; `null` if there is none.
 *
 * C: as {@linkcode readTextFile}.
 *
 * @throws {SystemError} where it cannot be read
 */
export function readIfThere(path: string): string | null {
  try {
    return readTextFile(path);
  } catch (error) {
    if (error instanceof SystemError && error.kind === "ENOENT") return null;
    throw error;
  }
}

/**
 * The path of a file without symbolic links.
 *
 * C: `open(2)` with O_PATH, and `readlink(2)` of /proc/self/fd.
 *
 * @throws {SystemError} kind `ENOENT` if there is no such file
 */
export function realPath(path: string): string {
  const fd = libc().open(cString(path), O_PATH | O_CLOEXEC, 0);
  using owned = new OwnedFd(check(fd, "open", path));
  return readLink(`/proc/self/fd/${owned.fd}`);
}

/**
 * Gives a file a new content in such a way that a crash leaves the old one or the
 * new one: a file beside it (`PATH.new`) is written, made durable and renamed, then
 * the directory is made durable.
 *
 * C: as {@linkcode OutputFile} and {@linkcode renameFile}.
 */
export function replaceFile(path: string, text: string): void {
  const next = `${path}.new`;
  {
    using file = new OutputFile(next);
    file.write(new TextEncoder().encode(text));
    file.sync();
  }
  renameFile(next, path);
  syncDirectoryOf(path);
}

/**
 * Gives a file another name, in place of whatever has it.
 *
 * C: `int rename(const char *oldpath, const char *newpath);`
 */
export function renameFile(from: string, to: string): void {
  check(libc().rename(cString(from), cString(to)), "rename", from);
}

/**
 * Removes a file, for good; does nothing where there is none.
 *
 * C: `int unlinkat(int dirfd, const char *pathname, int flags);`
 */
export function removeFile(path: string): void {
  if (libc().unlinkat(AT_FDCWD, cString(path), 0) < 0) {
    const e = errno();
    if (e === Errno.ENOENT) return;
    throw systemError(e, "unlinkat", path);
  }
  syncDirectoryOf(path);
}

/**
 * C: `int open(const char *pathname, int flags, mode_t mode);` `int fsync(int
 * fd);`
 */
function syncDirectoryOf(path: string): void {
  const end = path.lastIndexOf("/");
  const directory = end < 0 ? "." : path.slice(0, Math.max(end, 1));
  const flags = O_DIRECTORY | O_CLOEXEC;
  const fd = libc().open(cString(directory), flags, 0);
  using owned = new OwnedFd(check(fd, "open", directory));
  check(libc().fsync(owned.fd), "fsync", directory);
}
