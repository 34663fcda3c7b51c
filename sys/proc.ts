/**
 * The few names of /proc that this folder reads, through the C library: no
 * read permission is needed for them.
 *
 * @module
 */

import { check, Errno, errno } from "./errno.ts";
import { cString, libc } from "./libc.ts";

const O_CLOEXEC = 0o2000000;
const O_DIRECTORY = 0o200000;

/**
 * A whole small file as text; for files of /proc and /etc.
 *
 * C: `int open(const char *pathname, int flags, mode_t mode);` `ssize_t
 * read(int fd, void *buf, size_t count);` `int close(int fd);`
 */
export function readTextFile(path: string): string {
  const fd = check(libc().open(cString(path), O_CLOEXEC, 0), "open", path);
  try {
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(65536);
    let text = "";
    for (;;) {
      const n = libc().read(fd, chunk, BigInt(chunk.length));
      if (n < 0 && errno() === Errno.EINTR) continue;
      if (check(n, "read", path) === 0) return text + decoder.decode();
      text += decoder.decode(chunk.subarray(0, n), { stream: true });
    }
  } finally {
    libc().close(fd);
  }
}

/**
 * The target of a symbolic link.
 *
 * C: `ssize_t readlink(const char *pathname, char *buf, size_t bufsiz);`
 */
export function readLink(path: string): string {
  const buffer = new Uint8Array(4096);
  const n = check(
    libc().readlink(cString(path), buffer, BigInt(buffer.length)),
    "readlink",
    path,
  );
  return new TextDecoder().decode(buffer.subarray(0, n));
}

const SYS_GETDENTS64 = 217n;

/**
 * The open descriptors of this process, all threads, in no order, without the
 * one that reads them.
 *
 * C: `ssize_t getdents64(int fd, void *dirp, size_t count);`
 */
export function openFds(): number[] {
  const path = "/proc/self/fd";
  const flags = O_CLOEXEC | O_DIRECTORY;
  const fd = check(libc().open(cString(path), flags, 0), "open", path);
  try {
    const buffer = new Uint8Array(32768);
    const view = new DataView(buffer.buffer);
    const decoder = new TextDecoder();
    const fds: number[] = [];
    for (;;) {
      const n = check(
        libc().getdents64(SYS_GETDENTS64, fd, buffer, BigInt(buffer.length)),
        "getdents64",
        path,
      );
      if (n === 0) return fds;
      for (let at = 0; at < n; at += view.getUint16(at + 16, true)) {
        const start = at + 19;
        const end = buffer.indexOf(0, start);
        // Besides the numbers there are "." and "..".
        const number = Number(decoder.decode(buffer.subarray(start, end)));
        if (Number.isInteger(number) && number !== fd) fds.push(number);
      }
    }
  } finally {
    libc().close(fd);
  }
}

/**
 * How many descriptors {@linkcode openFds} finds.
 *
 * C: as {@linkcode openFds}.
 */
export function countOpenFds(): number {
  return openFds().length;
}
