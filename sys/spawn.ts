/**
 * Child processes that get exactly the descriptors they are meant to have.
 *
 * Theory of operation: `Deno.Command` hands on three descriptors, needs a
 * further permission, and leaves a child in our process group, where Ctrl-C
 * reaches it. `posix_spawn(3)` duplicates each descriptor to its number in the
 * child between `fork` and `exec`, so nothing is inheritable in this process at
 * any time, and two children that are started at the same time cannot get each
 * other's. A child leads a process group of its own.
 *
 * A `pidfd` tells the end of the child: it becomes readable, and then
 * {@linkcode SpawnedProcess.reap} has the status. The child's number stays its
 * own until that call. Where whoever started us had SIGCHLD ignored, the kernel
 * would keep no status: it is not ignored any more when the first child starts.
 *
 * The functions are in a table of their own: few threads ever start a process.
 *
 * @module
 */

import { Arena } from "./arena.ts";
import { check, errno, SystemError, systemError } from "./errno.ts";
import { closeFd, OwnedFd, setCloexec } from "./fd.ts";
import { cString, libc, pointerTo } from "./libc.ts";
import { openFds } from "./proc.ts";

const SYMBOLS = {
  // char **environ; the address of the variable, not what it holds.
  environ: { type: "pointer" },
  // int posix_spawn(pid_t *pid, const char *path,
  //                 const posix_spawn_file_actions_t *file_actions,
  //                 const posix_spawnattr_t *attrp,
  //                 char *const argv[], char *const envp[]);
  posix_spawn: {
    parameters: [
      "pointer",
      "pointer",
      "pointer",
      "pointer",
      "pointer",
      "pointer",
    ],
    result: "i32",
  },
  // int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions);
  posix_spawn_file_actions_init: { parameters: ["pointer"], result: "i32" },
  // int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions);
  posix_spawn_file_actions_destroy: { parameters: ["pointer"], result: "i32" },
  // int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions,
  //                                      int fildes, int newfildes);
  posix_spawn_file_actions_adddup2: {
    parameters: ["pointer", "i32", "i32"],
    result: "i32",
  },
  // int posix_spawnattr_init(posix_spawnattr_t *attr);
  posix_spawnattr_init: { parameters: ["pointer"], result: "i32" },
  // int posix_spawnattr_destroy(posix_spawnattr_t *attr);
  posix_spawnattr_destroy: { parameters: ["pointer"], result: "i32" },
  // int posix_spawnattr_setflags(posix_spawnattr_t *attr, short flags);
  posix_spawnattr_setflags: { parameters: ["pointer", "i16"], result: "i32" },
  // int posix_spawnattr_setpgroup(posix_spawnattr_t *attr, pid_t pgroup);
  posix_spawnattr_setpgroup: { parameters: ["pointer", "i32"], result: "i32" },
  // int posix_spawnattr_setsigmask(posix_spawnattr_t *attr,
  //                                const sigset_t *sigmask);
  posix_spawnattr_setsigmask: {
    parameters: ["pointer", "buffer"],
    result: "i32",
  },
  // int syscall(SYS_pidfd_open, pid_t pid, unsigned int flags);
  pidfd_open: {
    name: "syscall",
    parameters: ["i64", "i32", "u32"],
    result: "i32",
  },
  // int sigaction(int signum, const struct sigaction *act,
  //               struct sigaction *oldact);
  sigaction: { parameters: ["i32", "pointer", "buffer"], result: "i32" },
  // int kill(pid_t pid, int sig);
  kill: { parameters: ["i32", "i32"], result: "i32" },
  // pid_t waitpid(pid_t pid, int *wstatus, int options);
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // int pipe2(int pipefd[2], int flags);
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const SYS_PIDFD_OPEN = 434n;
const POSIX_SPAWN_SETPGROUP = 0x02;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const F_DUPFD_CLOEXEC = 1030;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
const WNOHANG = 1;
const SIGCHLD = 17;
const SIG_DFL = 0n;
const SIG_IGN = 1n;
/** Of `struct sigaction`, whose first member is the handler. */
const SIGACTION_BYTES = 152;
/** More than `posix_spawn_file_actions_t` and `posix_spawnattr_t` have. */
const OPAQUE_BYTES = 1024;
const SIGSET_BYTES = 128;

let table: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function spawnLibc(): NonNullable<typeof table> {
  return table ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
}

/** How a process ended: one of the two is a number. */
export interface ExitStatus {
  /** Exit code. */
  readonly code: number | null;
  /** Number of the signal that killed it. */
  readonly signal: number | null;
}

/**
 * A child process.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Reactor } from "./reactor.ts";
 *
 * using reactor = new Reactor();
 * using child = SpawnedProcess.start("/bin/sh", ["sh", "-c", "exit 3"], []);
 * await reactor.readable(child.fd);
 * assertEquals(child.reap(), { code: 3, signal: null });
 * ```
 */
export class SpawnedProcess implements Disposable {
  /** The process ID, and that of its process group. */
  readonly pid: number;
  readonly #pidfd: OwnedFd;
  #status: ExitStatus | null = null;

  private constructor(pid: number, pidfd: OwnedFd) {
    this.pid = pid;
    this.#pidfd = pidfd;
  }

  /**
   * Starts a program, with our environment and working directory.
   *
   * C: `int posix_spawn(pid_t *pid, const char *path, const
   * posix_spawn_file_actions_t *file_actions, const posix_spawnattr_t *attrp,
   * char *const argv[], char *const envp[]);` and `int pidfd_open(pid_t pid,
   * unsigned int flags);`
   *
   * @param path of the program
   * @param args its arguments, from `argv[0]` on
   * @param fds what is to be its descriptor 0, 1, 2 …; `null` and missing
   * standard streams are /dev/null. They stay the caller's. Others are not
   * handed on as far as they are close-on-exec.
   * @throws {SystemError} kind `ENOENT`, `EACCES`, `EAGAIN` …
   */
  static start(
    path: string,
    args: readonly string[],
    fds: readonly (number | null)[],
  ): SpawnedProcess {
    heedChildren();
    const pid = spawn(path, args, fds);
    const pidfd = spawnLibc().pidfd_open(SYS_PIDFD_OPEN, pid, 0);
    if (pidfd >= 0) return new SpawnedProcess(pid, new OwnedFd(pidfd));
    const error = systemError(errno(), "pidfd_open", path);
    spawnLibc().kill(pid, 9);
    spawnLibc().waitpid(pid, new Int32Array(1), 0);
    throw error;
  }

  /** A descriptor that is readable when the process has ended. */
  get fd(): number {
    return this.#pidfd.fd;
  }

  /**
   * How the process ended, or `null` while it runs.
   *
   * C: `pid_t waitpid(pid_t pid, int *wstatus, int options);`
   */
  reap(): ExitStatus | null {
    if (this.#status !== null) return this.#status;
    const word = new Int32Array(1);
    const pid = spawnLibc().waitpid(this.pid, word, WNOHANG);
    if (check(pid, "waitpid", String(this.pid)) === 0) return null;
    const signal = word[0] & 0x7f;
    this.#status = signal === 0
      ? { code: (word[0] >> 8) & 0xff, signal: null }
      : { code: null, signal };
    return this.#status;
  }

  /**
   * Sends a signal, by number; does nothing after {@linkcode reap} had the
   * status.
   *
   * C: `int kill(pid_t pid, int sig);`
   */
  signal(signal: number): void {
    if (this.#status !== null) return;
    check(spawnLibc().kill(this.pid, signal), "kill", String(this.pid));
  }

  /** Closes the descriptor; the process goes on. */
  [Symbol.dispose](): void {
    this.#pidfd.close();
  }
}

/**
 * Calls `posix_spawn`; the ID of the new process.
 *
 * C: `int posix_spawn(pid_t *pid, const char *path, const
 * posix_spawn_file_actions_t *file_actions, const posix_spawnattr_t *attrp,
 * char *const argv[], char *const envp[]);` with `int
 * posix_spawnattr_setflags(posix_spawnattr_t *attr, short flags);` `int
 * posix_spawnattr_setpgroup(posix_spawnattr_t *attr, pid_t pgroup);` `int
 * posix_spawnattr_setsigmask(posix_spawnattr_t *attr, const sigset_t
 * *sigmask);` `int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t
 * *actions, int fildes, int newfildes);`
 */
function spawn(
  path: string,
  args: readonly string[],
  fds: readonly (number | null)[],
): number {
  const strings = [path, ...args].map(cString);
  const bytes = strings.reduce((sum, string) => sum + string.length, 0);
  using arena = new Arena(
    bytes + 8 * (args.length + 2) + 2 * OPAQUE_BYTES + 256,
  );
  const pid = arena.alloc(4);
  const argv = arena.alloc(8 * (args.length + 1));
  const addresses = strings.map((string) => {
    const { offset, address } = arena.alloc(string.length, 1);
    arena.u8.set(string, offset);
    return address;
  });
  addresses.slice(1).forEach((address, i) =>
    arena.view.setBigUint64(argv.offset + 8 * i, BigInt(address), true)
  );
  const actions = pointerTo(arena.alloc(OPAQUE_BYTES).address);
  const attributes = pointerTo(arena.alloc(OPAQUE_BYTES).address);
  const { environ, ...calls } = spawnLibc();
  const must = (result: number, call: string): void => {
    if (result !== 0) throw systemError(result, call, path);
  };
  using sources = new DisposableStack();
  must(calls.posix_spawnattr_init(attributes), "posix_spawnattr_init");
  sources.defer(() => calls.posix_spawnattr_destroy(attributes));
  const flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK;
  calls.posix_spawnattr_setflags(attributes, flags);
  calls.posix_spawnattr_setpgroup(attributes, 0);
  calls.posix_spawnattr_setsigmask(attributes, new Uint8Array(SIGSET_BYTES));
  must(calls.posix_spawn_file_actions_init(actions), "posix_spawn");
  sources.defer(() => calls.posix_spawn_file_actions_destroy(actions));
  if (environ === null) throw new Error("The C library has no environ");
  // Asked for each time: setenv() moves it.
  const variables = new Deno.UnsafePointerView(environ).getPointer();
  const count = Math.max(fds.length, 3);
  for (let i = 0; i < count; i++) {
    // A source must not lie where an earlier target overwrites it.
    const source = duplicateAbove(fds[i] ?? null, count);
    sources.defer(() => closeFd(source));
    const added = calls.posix_spawn_file_actions_adddup2(actions, source, i);
    must(added, "posix_spawn_file_actions_adddup2");
  }
  const result = calls.posix_spawn(
    pointerTo(pid.address),
    pointerTo(addresses[0]),
    actions,
    attributes,
    pointerTo(argv.address),
    variables,
  );
  must(result, "posix_spawn");
  return arena.view.getInt32(pid.offset, true);
}

/**
 * Makes the kernel keep the status of children that end. A handler that somebody
 * has is left alone.
 *
 * C: `int sigaction(int signum, const struct sigaction *act, struct sigaction
 * *oldact);` and `sighandler_t signal(int signum, sighandler_t handler);`
 */
function heedChildren(): void {
  const old = new BigUint64Array(SIGACTION_BYTES / 8);
  check(spawnLibc().sigaction(SIGCHLD, null, old), "sigaction", "SIGCHLD");
  if (old[0] === SIG_IGN) libc().signal(SIGCHLD, SIG_DFL);
}

/**
 * A duplicate, or /dev/null, at `minimum` or above; close-on-exec.
 *
 * C: `int fcntl(int fd, F_DUPFD_CLOEXEC, int min);` or `int open(const char
 * *pathname, int flags, mode_t mode);`
 */
function duplicateAbove(fd: number | null, minimum: number): number {
  if (fd !== null) {
    const copy = libc().fcntl(fd, F_DUPFD_CLOEXEC, minimum);
    return check(copy, "fcntl(F_DUPFD_CLOEXEC)", `fd ${fd}`);
  }
  const path = "/dev/null";
  const opened = libc().open(cString(path), O_RDWR | O_CLOEXEC, 0);
  using owner = new OwnedFd(check(opened, "open", path));
  return duplicateAbove(owner.fd, minimum);
}

/**
 * A pipe, both ends close-on-exec and blocking.
 *
 * C: `int pipe2(int pipefd[2], int flags);`
 *
 * @returns the end to read, the end to write
 */
export function createPipe(): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  check(spawnLibc().pipe2(fds, O_CLOEXEC), "pipe2");
  return [new OwnedFd(fds[0]), new OwnedFd(fds[1])];
}

/**
 * Makes every descriptor but the standard streams close-on-exec: also those
 * that this process inherited, whose origin it does not know.
 *
 * C: `int fcntl(int fd, F_SETFD, int flags);` as {@linkcode setCloexec}.
 */
export function closeAllOnExec(): void {
  for (const fd of openFds()) {
    if (fd <= 2) continue;
    try {
      setCloexec(fd, true);
    } catch (error) {
      // Another thread of the runtime may have closed it meanwhile.
      if (!(error instanceof SystemError) || error.kind !== "EBADF") {
        throw error;
      }
    }
  }
}
