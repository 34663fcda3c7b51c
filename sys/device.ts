/**
 * Facts about block devices and file systems.
 *
 * @module
 */

import { check, Errno, errno } from "./errno.ts";
import { libc } from "./libc.ts";

const BLKSSZGET = 0x1268n;
const BLKGETSIZE64 = 0x80081272n;
const BLKDISCARD = 0x1277n;

const TWO_32 = 4294967296;

/** Operand of BLKDISCARD: first byte and bytes, two words each. */
const range = new Uint32Array(4);

/** Magic numbers of file systems (`linux/magic.h`, `statfs(2)`). */
const FILESYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x0000ef53, "ext4"],
  [0x01021994, "tmpfs"],
  [0x01021997, "9p"],
  [0x00006969, "nfs"],
  [0x2fc12fc1, "zfs"],
  [0x58465342, "xfs"],
  [0x65735546, "fuse"],
  [0x794c7630, "overlay"],
  [0x858458f6, "ramfs"],
  [0x9123683e, "btrfs"],
  [0x958458f6, "hugetlbfs"],
  [0xca451a4e, "bcachefs"],
  [0xf2f52010, "f2fs"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
]);

/**
 * The size of a block device in bytes.
 *
 * C: `int ioctl(int fd, BLKGETSIZE64, uint64_t *size);`
 */
export function ioctlSize(fd: number, path: string): number {
  const size = new BigUint64Array(1);
  check(libc().ioctl(fd, BLKGETSIZE64, size), "ioctl(BLKGETSIZE64)", path);
  return Number(size[0]);
}

/**
 * The logical block size of a block device in bytes.
 *
 * C: `int ioctl(int fd, BLKSSZGET, int *size);`
 */
export function logicalBlockSizeOf(fd: number, path: string): number {
  const size = new Int32Array(1);
  check(libc().ioctl(fd, BLKSSZGET, size), "ioctl(BLKSSZGET)", path);
  return size[0];
}

/**
 * Tells a block device that a range is in use no more, so that it may free it.
 * What is read there afterwards is up to the device. The page cache forgets the
 * range. Allocates nothing.
 *
 * C: `int ioctl(int fd, BLKDISCARD, uint64_t range[2]);`
 *
 * @param offset first byte; a multiple of the logical block size, as `length`
 * @returns 0, or a negative errno: `-EOPNOTSUPP` where the device frees nothing,
 * `-EINVAL` for a range of no whole blocks or beyond the end, `-ENOTTY` for what
 * is no block device
 */
export function discardRange(
  fd: number,
  offset: number,
  length: number,
): number {
  for (;;) {
    range[0] = offset;
    range[1] = Math.floor(offset / TWO_32);
    range[2] = length;
    range[3] = Math.floor(length / TWO_32);
    if (libc().ioctl(fd, BLKDISCARD, range) >= 0) return 0;
    const e = errno();
    if (e !== Errno.EINTR) return -e;
  }
}

/**
 * The name of the file system that holds an open file, or its magic number in
 * hexadecimal.
 *
 * C: `int fstatfs(int fd, struct statfs *buf);`
 */
export function filesystemName(fd: number): string {
  const buffer = new Uint8Array(120);
  check(libc().fstatfs(fd, buffer), "fstatfs", `fd ${fd}`);
  const magic = new DataView(buffer.buffer).getUint32(0, true);
  return FILESYSTEMS.get(magic) ?? `0x${magic.toString(16)}`;
}
