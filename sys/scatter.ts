/**
 * Reads, writes and copies of scattered memory, for streams of packets.
 *
 * Theory of operation: a scatter list is an {@linkcode IovecTable} of one slot,
 * or any array of words in its layout. Its addresses reach the C library as
 * elements of a BigInt64Array, unboxed; nothing here allocates, and nothing
 * throws for what the system answers.
 *
 * Whoever calls this answers for the addresses: they were checked where the
 * lists were made.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { Errno, errno } from "./errno.ts";
import type { IovecTable } from "./iovec.ts";
import { libc, pointerTo } from "./libc.ts";

const TWO_32 = 4294967296;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** 32-bit words of a `struct iovec`. */
const IOVEC_WORDS = 4;

/** Destination, source and length of a copy; address of a list. */
const wide = new BigInt64Array(3);
const words = new Uint32Array(wide.buffer);

function placeAddress(list: IovecTable, first: number): void {
  const address = list.address(0) + first * 16;
  words[0] = address;
  words[1] = address / TWO_32;
}

/**
 * Reads into scattered memory.
 *
 * C: `ssize_t readv(int fd, const struct iovec *iov, int iovcnt);`
 *
 * @param list has one slot
 * @param first index of its first element that is used
 * @param count number of elements, 1 to 1024
 * @returns bytes read, 0 at the end; or a negative errno
 */
export function readScattered(
  fd: number,
  list: IovecTable,
  first: number,
  count: number,
): number {
  for (;;) {
    placeAddress(list, first);
    const n = libc().readv(fd, wide[0], count);
    if (n >= 0) return n;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/**
 * Writes scattered memory.
 *
 * C: `ssize_t writev(int fd, const struct iovec *iov, int iovcnt);`
 *
 * @returns bytes written, which can be fewer; or a negative errno
 */
export function writeScattered(
  fd: number,
  list: IovecTable,
  first: number,
  count: number,
): number {
  for (;;) {
    placeAddress(list, first);
    const n = libc().writev(fd, wide[0], count);
    if (n >= 0) return n;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/** Words of a `struct msghdr` on x86-64 that change: iov and iovlen. */
const MSG_IOV = 4;
const MSG_IOVLEN = 6;
const MSGHDR_BYTES = 56;

let header: { arena: Arena; pointer: Deno.PointerObject } | undefined;

function messageHeader(): { arena: Arena; pointer: Deno.PointerObject } {
  const arena = new Arena(MSGHDR_BYTES);
  const { address } = arena.alloc(MSGHDR_BYTES);
  header = { arena, pointer: pointerTo(address) };
  return header;
}

/**
 * Sends scattered memory on a connected socket; neither waits nor signals.
 *
 * C: `ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags);`
 *
 * @returns bytes sent, which can be fewer; or a negative errno: `-EAGAIN` when
 * there is no room
 */
export function sendScattered(
  fd: number,
  list: IovecTable,
  first: number,
  count: number,
): number {
  const { arena, pointer } = header ?? messageHeader();
  const address = list.address(0) + first * 16;
  arena.u32[MSG_IOV] = address;
  arena.u32[MSG_IOV + 1] = address / TWO_32;
  arena.u32[MSG_IOVLEN] = count;
  for (;;) {
    const n = libc().sendmsg(fd, pointer, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return n;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/**
 * Copies bytes from one scatter list to another; the memory must not overlap.
 *
 * C: `void *memcpy(void *dest, const void *src, size_t n);`
 *
 * @param to words of the list to copy to, from index `toAt` on
 * @param from words of the list to copy from, from index `fromAt` on
 * @param skip bytes of `from` to leave out
 * @throws {RangeError} when a list ends before `length` bytes
 */
export function copyScattered(
  to: Uint32Array,
  toAt: number,
  from: Uint32Array,
  fromAt: number,
  skip: number,
  length: number,
): void {
  if (length <= 0) return;
  while (skip >= from[fromAt + 2]) {
    skip -= from[fromAt + 2];
    fromAt += IOVEC_WORDS;
  }
  // One piece, as a rule.
  if (skip === 0 && length <= to[toAt + 2] && length <= from[fromAt + 2]) {
    words[0] = to[toAt];
    words[1] = to[toAt + 1];
    words[2] = from[fromAt];
    words[3] = from[fromAt + 1];
    words[4] = length;
    words[5] = 0;
    libc().memcpy(wide[0], wide[1], wide[2]);
    return;
  }
  let target = to[toAt] + to[toAt + 1] * TWO_32;
  let room = to[toAt + 2];
  let source = from[fromAt] + from[fromAt + 1] * TWO_32 + skip;
  let left = from[fromAt + 2] - skip;
  for (;;) {
    let piece = length;
    if (room < piece) piece = room;
    if (left < piece) piece = left;
    // Beyond the end of a list there are no numbers.
    if (!(room >= piece && left >= piece)) {
      throw new RangeError("A scatter list is too short");
    }
    words[0] = target;
    words[1] = target / TWO_32;
    words[2] = source;
    words[3] = source / TWO_32;
    words[4] = piece;
    words[5] = 0;
    libc().memcpy(wide[0], wide[1], wide[2]);
    length -= piece;
    if (length === 0) return;
    target += piece;
    room -= piece;
    source += piece;
    left -= piece;
    if (room === 0) {
      toAt += IOVEC_WORDS;
      target = to[toAt] + to[toAt + 1] * TWO_32;
      room = to[toAt + 2];
    }
    if (left === 0) {
      fromAt += IOVEC_WORDS;
      source = from[fromAt] + from[fromAt + 1] * TWO_32;
      left = from[fromAt + 2];
    }
  }
}
