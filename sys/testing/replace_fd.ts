/**
 * Another file behind a descriptor that somebody uses.
 *
 * @module
 */

import { closeFd } from "../fd.ts";
import { libc } from "../libc.ts";

const F_DUPFD_CLOEXEC = 1030;

/**
 * Makes a descriptor one of the file that another one is of. What is watched
 * goes on for the file that it was of, as long as somebody has that open.
 *
 * @throws {Error} when another thread took the number meanwhile
 */
export function replaceFd(fd: number, source: number): void {
  closeFd(fd);
  const got = libc().fcntl(source, F_DUPFD_CLOEXEC, fd);
  if (got !== fd) throw new Error(`fd ${fd} became fd ${got}`);
}
