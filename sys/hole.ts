/**
 * Giving pages of a shared file back to the system, by a descriptor that
 * somebody else owns.
 *
 * @module
 */

import { Errno, errno } from "./errno.ts";
import { libc } from "./libc.ts";

const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const TWO_32 = 4294967296;

/** 64-bit arguments: offset, length. */
const wide = new BigInt64Array(2);
const words = new Uint32Array(wide.buffer);

/**
 * Gives the space of a range of a file back; it reads as zeros afterwards, also
 * through every mapping. For the path of every request: it allocates nothing
 * and does not throw.
 *
 * C: `int fallocate(int fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
 * off_t offset, off_t len);`
 *
 * @returns 0, or a negative errno: `-EOPNOTSUPP` or `-ENODEV` where there is
 * nothing to give back, `-EPERM` where a seal forbids it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mapFile } from "./mapping.ts";
 * import { createMemfd } from "./memfd.ts";
 * import { statFd } from "./statx.ts";
 *
 * using memfd = createMemfd("example", 8192);
 * using mapping = mapFile(memfd.fd, { size: 8192 });
 * new Uint8Array(mapping.buffer).fill(1);
 * assertEquals(punchHole(memfd.fd, 4096, 4096), 0);
 * assertEquals(statFd(memfd.fd).blocks, 8);
 * ```
 */
export function punchHole(fd: number, offset: number, length: number): number {
  for (;;) {
    words[0] = offset;
    words[1] = offset / TWO_32;
    words[2] = length;
    words[3] = length / TWO_32;
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (libc().fallocate(fd, mode, wide[0], wide[1]) >= 0) return 0;
    const n = errno();
    if (n !== Errno.EINTR) return -n;
  }
}
