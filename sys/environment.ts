/**
 * The environment of this process, through the C library: no permission is needed
 * to read it.
 *
 * @module
 */

import { cString, libc } from "./libc.ts";
import { OwnedFd } from "./fd.ts";
import { FileType, statFd } from "./statx.ts";

const X_OK = 1;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;

/**
 * The value of a variable; `null` if it is not set.
 *
 * C: `char *getenv(const char *name);`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(environmentVariable("VHOSTD_NO_SUCH_VARIABLE"), null);
 * ```
 */
export function environmentVariable(name: string): string | null {
  const value = libc().getenv(cString(name));
  return value === null ? null : Deno.UnsafePointerView.getCString(value);
}

/**
 * The path of a program that can be run.
 *
 * C: `int access(const char *pathname, int mode);`
 *
 * @param program a path if it has a slash, else a name that is looked for in PATH
 * @returns `null` when there is none
 */
export function findProgram(program: string): string | null {
  if (program.includes("/")) return isProgram(program) ? program : null;
  const path = environmentVariable("PATH") ?? "";
  for (const directory of path.split(":")) {
    const candidate = `${directory || "."}/${program}`;
    if (isProgram(candidate)) return candidate;
  }
  return null;
}

/**
 * C: `int access(const char *pathname, int mode);` and `int open(const char
 * *pathname, int flags, mode_t mode);`
 */
function isProgram(path: string): boolean {
  const name = cString(path);
  if (libc().access(name, X_OK) !== 0) return false;
  const fd = libc().open(name, O_PATH | O_CLOEXEC, 0);
  if (fd < 0) return false;
  using owned = new OwnedFd(fd);
  return statFd(owned.fd).type === FileType.REGULAR;
}
