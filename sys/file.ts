/**
 * Disk images: regular files and block devices.
 *
 * Theory of operation: `readv`, `writev`, `datasync`, `punchHole` and what takes a
 * slot are called for each request of a guest. They return a negative
 * error number instead of throwing and allocate nothing: addresses and offsets
 * go through the small table `wide`, whose 64-bit elements reach the call
 * unboxed. All other functions throw.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { OwnedFd, setNonblocking } from "./fd.ts";
import { filesystemName, ioctlSize, logicalBlockSizeOf } from "./device.ts";
import { cString, libc } from "./libc.ts";
import type { IoTable } from "./io_table.ts";
import { type LockKind, testLock, tryLock } from "./file_lock.ts";
import { punchHole } from "./hole.ts";
import { mapAnonymous } from "./mapping.ts";
import {
  discardSlot,
  punchSlot,
  readSlot,
  writeSlot,
  zeroSlot,
} from "./slot_io.ts";
import { FileType, type Metadata, statFd } from "./statx.ts";

const O_RDONLY = 0;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_NONBLOCK = 0o4000;
const O_DIRECT = 0o40000;
const O_CLOEXEC = 0o2000000;

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const TWO_32 = 4294967296;
/** Bytes of one step of `read` and `write` on a file opened for direct I/O. */
const BOUNCE_BYTES = 65536;
/** Bytes of one step of `read` and `write` otherwise. */
const STEP_BYTES = 0x4000_0000;

/** 64-bit arguments: address of the iovec, offset. */
const wide = new BigInt64Array(2);
const words = new Uint32Array(wide.buffer);

export type { LockKind } from "./file_lock.ts";

/** Options of {@linkcode DataFile.open}. */
export interface OpenOptions {
  /** Open for reading only. Default false. */
  readOnly?: boolean;
  /** Bypass the page cache (O_DIRECT). Default false. */
  direct?: boolean;
  /** Make an empty file if there is none. Default false. */
  create?: boolean;
  /**
   * Fail with EBUSY if the host uses the block device, for a mounted file system
   * say, and keep it from doing so (O_EXCL). Default false.
   */
  exclusive?: boolean;
}

/** What distinguishes one image from all others on this host. */
export interface FileIdentity {
  /** Device that holds the file; the device itself for a block device. */
  dev: bigint;
  /** Inode number; 0 for a block device. */
  ino: bigint;
}

/** An open regular file or block device. */
export class DataFile implements Disposable {
  /** The name it was opened by. */
  readonly path: string;
  /** What it is. */
  readonly kind: "file" | "block";
  /** Whether it was opened for reading only. */
  readonly readOnly: boolean;
  /** Whether it bypasses the page cache. */
  readonly direct: boolean;
  /**
   * Bytes of the smallest unit that a device, or direct I/O on a file, reads
   * and writes; 512 where that is not known.
   */
  readonly logicalBlockSize: number;
  /** Bytes to which memory for direct I/O must be aligned. */
  readonly memoryAlign: number;
  readonly #owner: OwnedFd;
  #fd: number;

  private constructor(
    owner: OwnedFd,
    path: string,
    metadata: Metadata,
    options: OpenOptions,
  ) {
    this.#owner = owner;
    this.#fd = owner.fd;
    this.path = path;
    this.kind = metadata.type === FileType.BLOCK ? "block" : "file";
    this.readOnly = options.readOnly ?? false;
    this.direct = options.direct ?? false;
    this.logicalBlockSize = this.kind === "block"
      ? logicalBlockSizeOf(this.#fd, path)
      : metadata.directOffsetAlign || 512;
    this.memoryAlign = metadata.directMemoryAlign || this.logicalBlockSize;
  }

  /**
   * Opens an image.
   *
   * C: `int open(const char *pathname, int flags, mode_t mode);`
   *
   * @throws {SystemError} as `open` does, and of kind `EISDIR` or `EINVAL` for
   * anything that is neither a regular file nor a block device
   */
  static open(path: string, options: OpenOptions = {}): DataFile {
    // O_NONBLOCK: opening a pipe or a tape must not wait.
    const flags = (options.readOnly ? O_RDONLY : O_RDWR) |
      (options.direct ? O_DIRECT : 0) | (options.create ? O_CREAT : 0) |
      (options.exclusive && !options.create ? O_EXCL : 0) |
      O_CLOEXEC | O_NONBLOCK;
    const owner = new OwnedFd(
      check(libc().open(cString(path), flags, 0o666), "open", path),
    );
    try {
      const metadata = statFd(owner.fd);
      if (metadata.type === FileType.DIRECTORY) {
        throw systemError(Errno.EISDIR, "open", path);
      }
      if (
        metadata.type !== FileType.REGULAR && metadata.type !== FileType.BLOCK
      ) {
        throw new SystemError(
          Errno.EINVAL,
          "open",
          `Cannot open ${JSON.stringify(path)}: ` +
            "it is neither a regular file nor a block device",
        );
      }
      setNonblocking(owner.fd, false);
      return new DataFile(owner, path, metadata, options);
    } catch (error) {
      owner.close();
      throw error;
    }
  }

  /**
   * The descriptor's number; it stays owned by this object.
   *
   * @throws {SystemError} kind `EBADF` after `close`
   */
  get fd(): number {
    return this.#owner.fd;
  }

  /** Whether the file was closed. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /** The size now, in bytes. C: as {@linkcode statFd}, {@linkcode ioctlSize}. */
  size(): number {
    return this.kind === "block"
      ? ioctlSize(this.fd, this.path)
      : statFd(this.fd).size;
  }

  /** Bytes allocated on disk: `st_blocks` × 512. C: as {@linkcode statFd}. */
  blockBytes(): number {
    return statFd(this.fd).blocks * 512;
  }

  /**
   * Reads into the memory that an iovec array names.
   *
   * C: `ssize_t preadv(int fd, const struct iovec *iov, int iovcnt,
   * off_t offset);`
   *
   * @param iov address of the array
   * @param count number of its elements, 1 to 1024
   * @param offset first byte in the file
   * @returns bytes read, fewer at the end of the file; or a negative errno
   */
  readv(iov: number, count: number, offset: number): number {
    for (;;) {
      words[0] = iov;
      words[1] = iov / TWO_32;
      words[2] = offset;
      words[3] = Math.floor(offset / TWO_32);
      const n = libc().preadv(this.#fd, wide[0], count, wide[1]);
      if (n >= 0) return n;
      const e = errno();
      if (e !== Errno.EINTR) return -e;
    }
  }

  /**
   * Writes from the memory that an iovec array names.
   *
   * C: `ssize_t pwritev(int fd, const struct iovec *iov, int iovcnt,
   * off_t offset);`
   *
   * @param iov address of the array
   * @param count number of its elements, 1 to 1024
   * @param offset first byte in the file
   * @returns bytes written, which can be fewer; or a negative errno
   */
  writev(iov: number, count: number, offset: number): number {
    for (;;) {
      words[0] = iov;
      words[1] = iov / TWO_32;
      words[2] = offset;
      words[3] = Math.floor(offset / TWO_32);
      const n = libc().pwritev(this.#fd, wide[0], count, wide[1]);
      if (n >= 0) return n;
      const e = errno();
      if (e !== Errno.EINTR) return -e;
    }
  }

  /** As {@linkcode readSlot}. */
  readSlot(table: IoTable, slot: number): number {
    return readSlot(this.#fd, table, slot);
  }

  /** As {@linkcode writeSlot}. */
  writeSlot(table: IoTable, slot: number): number {
    return writeSlot(this.#fd, table, slot);
  }

  /** As {@linkcode punchSlot}. */
  punchSlot(table: IoTable, slot: number): number {
    return punchSlot(this.#fd, table, slot);
  }

  /** As {@linkcode zeroSlot}. */
  zeroSlot(table: IoTable, slot: number): number {
    return zeroSlot(this.#fd, table, slot);
  }

  /** As {@linkcode discardSlot}, of a block device. */
  discardSlot(table: IoTable, slot: number): number {
    return discardSlot(this.#fd, table, slot, this.logicalBlockSize);
  }

  /**
   * Makes all that was written durable, with the metadata needed to read it.
   *
   * C: `int fdatasync(int fd);`
   *
   * @returns 0, or a negative errno
   */
  datasync(): number {
    for (;;) {
      if (libc().fdatasync(this.#fd) >= 0) return 0;
      const e = errno();
      if (e !== Errno.EINTR) return -e;
    }
  }

  /** As {@linkcode punchHole}. */
  punchHole(offset: number, length: number): number {
    return punchHole(this.#fd, offset, length);
  }

  /**
   * The first byte at or after `offset` that is in a hole, or in data: where
   * the next change lies. The end of the file is a hole.
   *
   * C: `off_t lseek(int fd, off_t offset, SEEK_DATA or SEEK_HOLE);`
   *
   * @returns its offset, or a negative errno: `-ENXIO` when there is none,
   * `-EINVAL` where holes are not known
   */
  seek(what: "data" | "hole", offset: number): number {
    const whence = what === "data" ? SEEK_DATA : SEEK_HOLE;
    const at = Number(libc().lseek(this.#fd, BigInt(offset), whence));
    return at >= 0 ? at : -errno();
  }

  /**
   * Sets the size of a regular file.
   *
   * C: `int ftruncate(int fd, off_t length);`
   *
   * @returns 0, or a negative errno
   */
  truncate(size: number): number {
    for (;;) {
      if (libc().ftruncate(this.#fd, BigInt(size)) >= 0) return 0;
      const e = errno();
      if (e !== Errno.EINTR) return -e;
    }
  }

  /**
   * Reads until `into` is full or the file ends. Alignment does not matter,
   * also for direct I/O.
   *
   * C: `ssize_t pread(int fd, void *buf, size_t count, off_t offset);`
   *
   * @returns bytes read
   */
  read(into: Uint8Array, offset: number): number {
    if (this.direct) return this.#readDirect(into, offset);
    let done = 0;
    while (done < into.length) {
      const rest = into.subarray(done, done + STEP_BYTES);
      const n = this.#pread(rest, offset + done);
      if (n === 0) break;
      done += n;
    }
    return done;
  }

  #pread(into: Uint8Array, offset: number): number {
    for (;;) {
      const n = libc().pread(
        this.fd,
        into as Uint8Array<ArrayBuffer>,
        BigInt(into.length),
        BigInt(offset),
      );
      if (n < 0 && errno() === Errno.EINTR) continue;
      return check(n, "pread", this.path);
    }
  }

  #readDirect(into: Uint8Array, offset: number): number {
    using mapping = mapAnonymous(BOUNCE_BYTES);
    const bounce = new Uint8Array(mapping.buffer);
    let done = 0;
    while (done < into.length) {
      const skip = (offset + done) % this.logicalBlockSize;
      const n = this.#pread(bounce, offset + done - skip);
      if (n <= skip) break;
      const take = Math.min(n - skip, into.length - done);
      into.set(bounce.subarray(skip, skip + take), done);
      done += take;
    }
    return done;
  }

  /**
   * Writes all of `from`. With direct I/O the offset and the length must be
   * multiples of `logicalBlockSize`.
   *
   * C: `ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset);`
   *
   * @returns bytes written: all
   */
  write(from: Uint8Array, offset: number): number {
    using mapping = this.direct ? mapAnonymous(BOUNCE_BYTES) : undefined;
    const bounce = mapping && new Uint8Array(mapping.buffer);
    const step = bounce ? BOUNCE_BYTES : STEP_BYTES;
    let done = 0;
    while (done < from.length) {
      let part = from.subarray(done, done + step);
      if (bounce) {
        bounce.set(part);
        part = bounce.subarray(0, part.length);
      }
      const n = libc().pwrite(
        this.fd,
        part as Uint8Array<ArrayBuffer>,
        BigInt(part.length),
        BigInt(offset + done),
      );
      if (n < 0 && errno() === Errno.EINTR) continue;
      done += check(n, "pwrite", this.path);
    }
    return done;
  }

  /**
   * The name of the file system that holds the file, as `"ext4"`; `"block"` for
   * a block device; the magic number in hexadecimal if it has no known name.
   *
   * C: `int fstatfs(int fd, struct statfs *buf);`
   */
  filesystem(): string {
    return this.kind === "block" ? "block" : filesystemName(this.fd);
  }

  /**
   * Takes, changes or (`"none"`) gives up an advisory lock on a range, for this
   * open file: another `DataFile` of the same image conflicts with it, also in
   * the same process. A duplicate of the descriptor shares the lock.
   *
   * C: `int fcntl(int fd, F_OFD_SETLK, struct flock *lock);`
   *
   * @param length bytes; 0 is up to the end of the file, however it grows
   * @returns false if somebody else holds a lock that conflicts
   */
  tryLock(kind: LockKind, start: number, length: number): boolean {
    return tryLock(this.fd, this.path, kind, start, length);
  }

  /**
   * Whether `tryLock` would succeed now.
   *
   * C: `int fcntl(int fd, F_OFD_GETLK, struct flock *lock);`
   */
  testLock(kind: LockKind, start: number, length: number): boolean {
    return testLock(this.fd, this.path, kind, start, length);
  }

  /** What distinguishes this image from all others. C: as {@linkcode statFd}. */
  identity(): FileIdentity {
    const metadata = statFd(this.fd);
    return this.kind === "block"
      ? { dev: metadata.rdev, ino: 0n }
      : { dev: metadata.dev, ino: metadata.ino };
  }

  /** Closes the file and gives up its locks; does nothing the second time. */
  close(): void {
    this.#fd = -1;
    this.#owner.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
