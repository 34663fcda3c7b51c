/**
 * Limits and identities of this process.
 *
 * @module
 */

import { check, Errno, errno, SystemError, systemError } from "./errno.ts";
import { cString, libc } from "./libc.ts";
import { readTextFile } from "./proc.ts";

const RLIMIT_NOFILE = 7;
const SIGXFSZ = 25;
const O_NOCTTY = 0o400;
const O_CLOEXEC = 0o2000000;
const SIG_IGN = 1n;
const SIG_ERR = 0xffff_ffff_ffff_ffffn;
const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;
/** Of the one platform that is supported. */
const PAGE_SIZE = 4096;

/** Limits on the number of open descriptors; `Infinity` for none. */
export interface NofileLimit {
  /** What holds now. */
  soft: number;
  /** How far the process may raise it. */
  hard: number;
}

/**
 * Raises the soft limit on open descriptors to the hard limit.
 *
 * C: `int getrlimit(int resource, struct rlimit *rlim);`
 * `int setrlimit(int resource, const struct rlimit *rlim);`
 *
 * @returns the limits after that
 */
export function raiseNofileLimit(): NofileLimit {
  const limit = new BigUint64Array(2);
  check(libc().getrlimit(RLIMIT_NOFILE, limit), "getrlimit");
  if (limit[0] !== limit[1]) {
    limit[0] = limit[1];
    check(libc().setrlimit(RLIMIT_NOFILE, limit), "setrlimit");
  }
  const number = (n: bigint): number =>
    n === RLIM_INFINITY ? Infinity : Number(n);
  return { soft: number(limit[0]), hard: number(limit[1]) };
}

/**
 * The number of a group: of a name in /etc/group, or of a decimal number.
 *
 * C: as {@linkcode readTextFile}.
 *
 * @throws {SystemError} kind `ENOENT` for an unknown name
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(groupId("36"), 36);
 * assertEquals(groupId("root"), 0);
 * ```
 */
export function groupId(name: string): number {
  if (/^\d{1,10}$/.test(name) && Number(name) < 0xffff_ffff) {
    return Number(name);
  }
  const found = groups().find((group) => group.name === name);
  if (found !== undefined) return found.id;
  throw new SystemError(
    Errno.ENOENT,
    "groupId",
    `Cannot find group ${JSON.stringify(name)}: ` +
      "it is neither a number nor a name in /etc/group",
  );
}

/**
 * A group for people: its number, and its name if it has one in /etc/group.
 *
 * C: as {@linkcode readTextFile}.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(groupName(0), "0 (root)");
 * ```
 */
export function groupName(id: number): string {
  try {
    const found = groups().find((group) => group.id === id);
    return found === undefined ? String(id) : `${id} (${found.name})`;
  } catch {
    return String(id);
  }
}

function groups(): { name: string; id: number }[] {
  return readTextFile("/etc/group").split("\n")
    .map((line) => line.split(":"))
    .filter(([, , id]) => /^\d+$/.test(id ?? ""))
    .map(([name, , id]) => ({ name, id: Number(id) }));
}

/**
 * Makes a write beyond the limit on file sizes (`ulimit -f`) fail with EFBIG.
 * Otherwise a signal ends the process: a guest that writes to the end of its
 * disk could end it. Holds for the whole process, and for its children.
 *
 * C: `sighandler_t signal(int signum, sighandler_t handler);`
 */
export function ignoreFileSizeSignal(): void {
  if (libc().signal(SIGXFSZ, SIG_IGN) === SIG_ERR) {
    throw systemError(errno(), "signal", "SIGXFSZ");
  }
}

/**
 * Whether this process has a controlling terminal: one that was closed is none.
 *
 * C: `int open(const char *pathname, int flags, mode_t mode);` of /dev/tty, see
 * tty(4); `int close(int fd);`
 */
export function hasTerminal(): boolean {
  const fd = libc().open(cString("/dev/tty"), O_NOCTTY | O_CLOEXEC, 0);
  if (fd >= 0) libc().close(fd);
  return fd >= 0;
}

/**
 * Whether this process was started with SIGHUP ignored, as nohup(1) does; from
 * /proc/self/status. To be asked before anybody listens for that signal.
 *
 * C: as {@linkcode readTextFile}.
 */
export function ignoresHangup(): boolean {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(
    readTextFile("/proc/self/status"),
  )?.[1];
  return mask !== undefined && (BigInt(`0x${mask}`) & 1n) === 1n;
}

/** The kernel's number of the calling thread. C: `pid_t gettid(void);` */
export function currentThreadId(): number {
  return libc().gettid();
}

/**
 * Resident memory of a process in bytes, from /proc/PID/statm; `null` if there
 * is no such process.
 *
 * C: as {@linkcode readTextFile}.
 */
export function processMemory(pid: number): number | null {
  try {
    const [, resident] = readTextFile(`/proc/${pid}/statm`).split(" ");
    return Number(resident) * PAGE_SIZE;
  } catch (error) {
    if (error instanceof SystemError) return null;
    throw error;
  }
}

/**
 * The command line of the process that started this one, from
 * /proc/PID/cmdline; without arguments if it cannot be known.
 *
 * C: as {@linkcode readTextFile}.
 */
export function parentCommand(): string[] {
  try {
    const stat = readTextFile("/proc/self/stat");
    // "pid (name) state ppid …"; the name may contain anything.
    const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return readTextFile(`/proc/${parent}/cmdline`).split("\0").slice(0, -1);
  } catch (error) {
    if (error instanceof SystemError) return [];
    throw error;
  }
}
