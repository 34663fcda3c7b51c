/**
 * File metadata by descriptor or by name.
 *
 * `statx` rather than `stat`: its layout is the same with every C library, and
 * it tells the alignment of direct I/O.
 *
 * @module
 */

import { check, Errno, errno } from "./errno.ts";
import { cString, libc } from "./libc.ts";

/** File types of `Metadata.type`: `st_mode & S_IFMT`. */
export const FileType = {
  FIFO: 0o010000,
  CHARACTER: 0o020000,
  DIRECTORY: 0o040000,
  BLOCK: 0o060000,
  REGULAR: 0o100000,
  SYMLINK: 0o120000,
  SOCKET: 0o140000,
} as const;

/** What `statx(2)` tells about a file. */
export interface Metadata {
  /** One of {@linkcode FileType}; 0 for anonymous inodes as an eventfd. */
  type: number;
  /** Permission bits, `st_mode & 0o7777`. */
  mode: number;
  /** Number of names; 0 for a deleted file and for a memfd. */
  nlink: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Device that holds the inode: major number × 2^32 + minor number. */
  dev: bigint;
  /** Inode number. */
  ino: bigint;
  /** For device nodes: the device itself, as `dev`. */
  rdev: bigint;
  /** Size in bytes. */
  size: number;
  /** Allocated units of 512 bytes. */
  blocks: number;
  /** Direct I/O: alignment of memory in bytes; 0 where not known. */
  directMemoryAlign: number;
  /** Direct I/O: alignment of offsets and lengths in bytes; 0 where not known. */
  directOffsetAlign: number;
}

/** `dirfd` that stands for the working directory. */
export const AT_FDCWD: number = -100;
/** The descriptor itself is meant, the name is empty. */
export const AT_EMPTY_PATH = 0x1000;
/** A symbolic link itself is meant. */
export const AT_SYMLINK_NOFOLLOW = 0x100;

const STATX_BASIC_STATS = 0x7ff;
const STATX_DIOALIGN = 0x2000;
const STATX_SIZE = 256;

const EMPTY = cString("");

function decode(buffer: Uint8Array<ArrayBuffer>): Metadata {
  const view = new DataView(buffer.buffer);
  const mask = view.getUint32(0, true);
  const mode = view.getUint16(28, true);
  const device = (offset: number): bigint =>
    (BigInt(view.getUint32(offset, true)) << 32n) |
    BigInt(view.getUint32(offset + 4, true));
  const aligned = (mask & STATX_DIOALIGN) !== 0;
  return {
    type: mode & 0o170000,
    mode: mode & 0o7777,
    nlink: view.getUint32(16, true),
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    ino: view.getBigUint64(32, true),
    size: Number(view.getBigUint64(40, true)),
    blocks: Number(view.getBigUint64(48, true)),
    rdev: device(128),
    dev: device(136),
    directMemoryAlign: aligned ? view.getUint32(152, true) : 0,
    directOffsetAlign: aligned ? view.getUint32(156, true) : 0,
  };
}

/**
 * Metadata of an open descriptor.
 *
 * C: `int statx(int dirfd, const char *pathname, int flags, unsigned int mask,
 * struct statx *statxbuf);`
 *
 * @throws {SystemError} kind `EBADF` if `fd` is not open
 */
export function statFd(fd: number): Metadata {
  const buffer = new Uint8Array(STATX_SIZE);
  const mask = STATX_BASIC_STATS | STATX_DIOALIGN;
  check(
    libc().statx(fd, EMPTY, AT_EMPTY_PATH, mask, buffer),
    "statx",
    `fd ${fd}`,
  );
  return decode(buffer);
}

/**
 * Metadata of a name, relative to the directory `dirfd`; of a symbolic link,
 * the link's own. `null` if there is no such name.
 *
 * C: as {@linkcode statFd}.
 */
export function statAt(dirfd: number, name: string): Metadata | null {
  const buffer = new Uint8Array(STATX_SIZE);
  const flags = AT_SYMLINK_NOFOLLOW;
  const path = cString(name);
  const result = libc().statx(dirfd, path, flags, STATX_BASIC_STATS, buffer);
  if (result < 0 && errno() === Errno.ENOENT) return null;
  check(result, "statx", name);
  return decode(buffer);
}
