/**
 * Facts about block devices and file systems.
 *
 * @module
 */

import { check } from "./errno.ts";
import { libc } from "./libc.ts";

const BLKSSZGET = 0x1268n;
const BLKGETSIZE64 = 0x80081272n;

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
