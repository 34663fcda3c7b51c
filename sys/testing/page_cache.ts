/**
 * What the kernel holds of a file in memory.
 *
 * @module
 */

import { Errno, errno, systemError } from "../errno.ts";
import { openPath } from "./odd_descriptors.ts";

const SYS_CACHESTAT = 451n;

const SYMBOLS = {
  // int cachestat(unsigned int fd, struct cachestat_range *cstat_range,
  //               struct cachestat *cstat, unsigned int flags);
  cachestat: {
    name: "syscall",
    parameters: ["i64", "i32", "buffer", "buffer", "u32"],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

let library: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

/**
 * Pages of a file that are not on its medium yet: those that are dirty, and
 * those that are being written.
 *
 * @returns `null` where the kernel does not tell (before Linux 6.5)
 */
export function dirtyPages(path: string): number | null {
  using file = openPath(path);
  library ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  // { __u64 off, len; }: a length of 0 is the whole file.
  const range = new BigUint64Array(2);
  // { __u64 nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted; }
  const stat = new BigUint64Array(5);
  if (library.cachestat(SYS_CACHESTAT, file.fd, range, stat, 0) < 0) {
    const e = errno();
    if (e === Errno.ENOSYS || e === Errno.EOPNOTSUPP) return null;
    throw systemError(e, "cachestat", path);
  }
  return Number(stat[1] + stat[2]);
}
