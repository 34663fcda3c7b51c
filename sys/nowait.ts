/**
 * Whether a file can be read and written without waiting.
 *
 * An io_uring tries each request with RWF_NOWAIT at once and gives it to a
 * worker thread of the kernel only if it would wait. File systems differ: some
 * have no such reads and writes at all (tmpfs), some have them in one direction
 * (ext4 through the page cache: reads alone). There every request goes to a
 * worker thread, and plain `preadv` or `pwritev` is faster.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { Errno, errno, systemError } from "./errno.ts";
import type { DataFile } from "./file.ts";
import { libc } from "./libc.ts";

const RWF_NOWAIT = 8;
const PROT_NONE = 0;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const PAGE_SIZE = 4096;
const TWO_32 = 4294967296;

/** See {@linkcode probeNowait}. */
export interface NowaitSupport {
  /** Reads can be tried without waiting. */
  read: boolean;
  /** Writes can be tried without waiting. */
  write: boolean;
}

/**
 * Asks the kernel whether reads and writes of a file, as it was opened, can be
 * tried without waiting.
 *
 * Reading: one block from the start of the file. The kernel refuses with
 * `EOPNOTSUPP` where it cannot; data, the end of the file and `EAGAIN` (it would
 * have had to wait) say that it can.
 *
 * Writing: one block to the start of the file, out of memory that cannot be
 * read. The kernel refuses with `EOPNOTSUPP` before it looks at the memory, or
 * fails with `EFAULT` when it does, or would have to wait (`EAGAIN`). Not one byte
 * can be copied, so neither the contents nor the size of the file change, and no
 * other writer is disturbed. A write of no bytes would be safe too, but tells
 * nothing: the kernel ends it before it asks the file system.
 *
 * Files opened for reading only cannot be written: `write` is false. So is what
 * fails in any other way.
 *
 * C: `ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t
 * offset, int flags);` and `ssize_t pwritev2(int fd, const struct iovec *iov,
 * int iovcnt, off_t offset, int flags);` with `RWF_NOWAIT`, and `int
 * munmap(void *addr, size_t length);`
 *
 * @throws {SystemError} kind `EBADF` if the file was closed
 */
export function probeNowait(file: DataFile): NowaitSupport {
  const fd = file.fd;
  const block = file.logicalBlockSize;
  using arena = new Arena(block + 64);
  const data = arena.alloc(block, PAGE_SIZE);
  const iovec = arena.alloc(16);
  const words = arena.u32.subarray(iovec.offset / 4);
  words[0] = data.address;
  words[1] = data.address / TWO_32;
  words[2] = block;
  const iov = BigInt(iovec.address);
  const read = outcome(libc().preadv2(fd, iov, 1, 0n, RWF_NOWAIT));
  if (file.readOnly) return { read: can(read), write: false };
  const hole = mapNothing(block);
  words[0] = hole;
  words[1] = hole / TWO_32;
  const write = outcome(libc().pwritev2(fd, iov, 1, 0n, RWF_NOWAIT));
  libc().munmap(BigInt(hole), BigInt(block));
  return { read: can(read), write: can(write) };
}

/** 0, or the error number. */
function outcome(result: number): number {
  return result < 0 ? errno() : 0;
}

function can(n: number): boolean {
  return n === 0 || n === Errno.EAGAIN || n === Errno.EFAULT;
}

/**
 * Address space that cannot be read, and that nobody else can get.
 *
 * C: `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t
 * offset);`
 */
function mapNothing(size: number): number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const address = libc().mmap(0n, BigInt(size), PROT_NONE, flags, -1, 0n);
  if (address === MAP_FAILED) throw systemError(errno(), "mmap");
  return Number(address);
}
