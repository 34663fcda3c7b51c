/**
 * Memory with a file descriptor, and its seals.
 *
 * @module
 */

import { check } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { cString, libc } from "./libc.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/** No more seals may be added. */
export const F_SEAL_SEAL = 0x1;
/** The file cannot become smaller. */
export const F_SEAL_SHRINK = 0x2;
/** The file cannot become larger. */
export const F_SEAL_GROW = 0x4;
/** The file cannot be written to. */
export const F_SEAL_WRITE = 0x8;
/** Only mappings that exist can be written to. */
export const F_SEAL_FUTURE_WRITE = 0x10;

/** Options of {@linkcode createMemfd}. */
export interface MemfdOptions {
  /** Seals can be added. Default true. */
  seals?: boolean;
  /** Back the memory with huge pages of the system's default size. */
  hugetlb?: boolean;
}

/**
 * Makes a file that lives in memory, close-on-exec.
 *
 * C: `int memfd_create(const char *name, unsigned int flags);` and
 * `int ftruncate(int fd, off_t length);`
 *
 * @param name shown in /proc only
 * @param size bytes
 */
export function createMemfd(
  name: string,
  size: number,
  options: MemfdOptions = {},
): OwnedFd {
  const flags = MFD_CLOEXEC |
    (options.seals === false ? 0 : MFD_ALLOW_SEALING) |
    (options.hugetlb ? MFD_HUGETLB : 0);
  const owner = new OwnedFd(
    check(libc().memfd_create(cString(name), flags), "memfd_create", name),
  );
  try {
    check(libc().ftruncate(owner.fd, BigInt(size)), "ftruncate", name);
    return owner;
  } catch (error) {
    owner.close();
    throw error;
  }
}

/**
 * Takes memory for a range of a file in memory, which grows to hold it; what is
 * there stays.
 *
 * C: `int fallocate(int fd, int mode, off_t offset, off_t len);`
 *
 * @throws {SystemError} kind `ENOSPC` without memory
 */
export function allocateRange(fd: number, offset: number, size: number): void {
  const result = libc().fallocate(fd, 0, BigInt(offset), BigInt(size));
  check(result, "fallocate", `fd ${fd}`);
}

/**
 * The seals of a memfd.
 *
 * C: `int fcntl(int fd, F_GET_SEALS);`
 *
 * @throws {SystemError} kind `EINVAL` for files that cannot have seals
 */
export function getSeals(fd: number): number {
  const seals = libc().fcntl(fd, F_GET_SEALS, 0);
  return check(seals, "fcntl(F_GET_SEALS)", `fd ${fd}`);
}

/**
 * Adds seals to a memfd; they cannot be removed.
 *
 * C: `int fcntl(int fd, F_ADD_SEALS, int seals);`
 *
 * @throws {SystemError} kind `EPERM` if it is sealed against more seals
 */
export function addSeals(fd: number, seals: number): void {
  const result = libc().fcntl(fd, F_ADD_SEALS, seals);
  check(result, "fcntl(F_ADD_SEALS)", `fd ${fd}`);
}

/**
 * Keeps whoever else has a memfd from making it smaller, which would turn an
 * access to a mapping of it into SIGBUS, where its sealing is still open. Does
 * nothing for other files.
 *
 * C: as {@linkcode addSeals}.
 */
export function sealAgainstShrinking(fd: number): void {
  let seals: number;
  try {
    seals = getSeals(fd);
  } catch {
    return; // Not a memfd: it has no seals.
  }
  if (seals & (F_SEAL_SEAL | F_SEAL_SHRINK)) return;
  try {
    addSeals(fd, F_SEAL_SHRINK);
  } catch {
    // Sealed by somebody since, or opened read-only: we cannot do better.
  }
}
