/**
 * Reading, writing, zeroing and discarding with the operands of a slot ({@linkcode IoTable}):
 * nothing is allocated, wherever these functions are called from.
 *
 * A single piece of memory is read into, and written from, without a list, which
 * the kernel would have to fetch and to check: that is a twentieth of the time of
 * a read of 4 KiB from the page cache.
 *
 * @module
 */

import { Errno, errno } from "./errno.ts";
import type { IoTable } from "./io_table.ts";
import { libc } from "./libc.ts";

const TWO_32 = 4294967296;

const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;
const BLKDISCARD = 0x1277n;

/** 64-bit arguments: address of the iovecs, offset in the file, length there. */
const wide = new BigInt64Array(3);
const words = new Uint32Array(wide.buffer);
/** Operand of BLKDISCARD: first byte and bytes, two words each. */
const range = new Uint32Array(4);

function placeOffset(table: IoTable, slot: number): void {
  const offset = table.offsets[slot];
  words[2] = offset;
  words[3] = Math.floor(offset / TWO_32);
}

function placeIovecs({ iovecs }: IoTable, slot: number): void {
  const address = iovecs.address(slot);
  words[0] = address;
  words[1] = address / TWO_32;
}

/** Moves what a slot says: bytes moved, or a negative errno. */
function transfer(
  fd: number,
  table: IoTable,
  slot: number,
  writing: boolean,
): number {
  const count = table.counts[slot], { longs } = table.iovecs;
  for (;;) {
    let n: number;
    placeOffset(table, slot);
    if (count === 1) {
      const at = table.iovecs.longOffset(slot);
      n = writing
        ? libc().pwriteFrom(fd, longs[at], longs[at + 1], wide[1])
        : libc().preadTo(fd, longs[at], longs[at + 1], wide[1]);
    } else {
      placeIovecs(table, slot);
      n = writing
        ? libc().pwritev(fd, wide[0], count, wide[1])
        : libc().preadv(fd, wide[0], count, wide[1]);
    }
    if (n >= 0) return n;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/**
 * Reads into the memory of a slot.
 *
 * C: `ssize_t preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset);`
 * or `ssize_t pread(int fd, void *buf, size_t count, off_t offset);`
 *
 * @param table has `offsets`, `counts` and `iovecs` of the slot
 * @returns bytes read, fewer at the end of the file; or a negative errno
 */
export function readSlot(fd: number, table: IoTable, slot: number): number {
  return transfer(fd, table, slot, false);
}

/**
 * Writes from the memory of a slot.
 *
 * C: `ssize_t pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset);`
 * or `ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset);`
 *
 * @param table has `offsets`, `counts` and `iovecs` of the slot
 * @returns bytes written, which can be fewer; or a negative errno
 */
export function writeSlot(fd: number, table: IoTable, slot: number): number {
  return transfer(fd, table, slot, true);
}

/** Does with a range what the mode says: 0, or a negative errno. */
function allocate(
  fd: number,
  table: IoTable,
  slot: number,
  mode: number,
): number {
  for (;;) {
    placeOffset(table, slot);
    const length = table.lengths[slot];
    words[4] = length;
    words[5] = Math.floor(length / TWO_32);
    if (libc().fallocate(fd, mode, wide[1], wide[2]) >= 0) return 0;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/**
 * Gives the space of a slot's range back; it reads as zeros then.
 *
 * C: `int fallocate(int fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
 * off_t offset, off_t len);`
 *
 * @param table has `offsets` and `lengths` of the slot
 * @returns 0, or a negative errno: `-EOPNOTSUPP` where it cannot be done
 */
export function punchSlot(fd: number, table: IoTable, slot: number): number {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return allocate(fd, table, slot, mode);
}

/**
 * Makes a slot's range read as zeros without writing them, with its space; a file
 * that is shorter becomes as long, as it does by writing.
 *
 * C: `int fallocate(int fd, FALLOC_FL_ZERO_RANGE, off_t offset, off_t len);`
 *
 * @param table has `offsets` and `lengths` of the slot
 * @returns 0, or a negative errno: `-EOPNOTSUPP` where zeros have to be written
 */
export function zeroSlot(fd: number, table: IoTable, slot: number): number {
  return allocate(fd, table, slot, FALLOC_FL_ZERO_RANGE);
}

/**
 * Tells a block device that the whole blocks of a slot's range are in use no more,
 * so that it may free them. What is read there afterwards is up to the device. The
 * page cache forgets them.
 *
 * C: `int ioctl(int fd, BLKDISCARD, uint64_t range[2]);`
 *
 * @param table has `offsets` and `lengths` of the slot
 * @param block bytes of a logical block of the device
 * @returns 0, or a negative errno: `-EOPNOTSUPP` where the device frees nothing,
 * `-EINVAL` for a range without a whole block or beyond the end, `-ENOTTY` for
 * what is no block device
 */
export function discardSlot(
  fd: number,
  table: IoTable,
  slot: number,
  block: number,
): number {
  const offset = table.offsets[slot];
  const start = Math.ceil(offset / block) * block;
  const past = Math.floor((offset + table.lengths[slot]) / block) * block;
  const length = past - start;
  if (length <= 0) return -Errno.EINVAL;
  for (;;) {
    range[0] = start;
    range[1] = Math.floor(start / TWO_32);
    range[2] = length;
    range[3] = Math.floor(length / TWO_32);
    if (libc().ioctl(fd, BLKDISCARD, range) >= 0) return 0;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}
