/**
 * Descriptors of every kind that a peer may send where another is expected.
 *
 * @module
 */

import { check } from "../errno.ts";
import { Epoll } from "../epoll.ts";
import { EventFd } from "../eventfd.ts";
import { OwnedFd, setNonblocking } from "../fd.ts";
import { cString, libc } from "../libc.ts";
import { createMemfd } from "../memfd.ts";
import { createPipe } from "../spawn.ts";
import { UnixListener, UnixSocket } from "../unix_socket.ts";

const O_RDONLY = 0;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const CLOCK_MONOTONIC = 1;

const SYMBOLS = {
  // int timerfd_create(int clockid, int flags);
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  // int timerfd_settime(int fd, int flags, const struct itimerspec *new_value,
  //                     struct itimerspec *old_value);
  timerfd_settime: {
    parameters: ["i32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  // int inotify_init1(int flags);
  inotify_init1: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let table: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function symbols(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  return table ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
}

/** A descriptor of what is at `path`, whatever it is. */
export function openPath(path: string, flags: number = O_RDONLY): OwnedFd {
  const fd = libc().open(cString(path), flags | O_CLOEXEC, 0o600);
  return new OwnedFd(check(fd, "open", path));
}

/** A timer that expires every millisecond from now on. */
function openTimer(): OwnedFd {
  const fd = symbols().timerfd_create(CLOCK_MONOTONIC, O_CLOEXEC);
  const owner = new OwnedFd(check(fd, "timerfd_create"));
  // it_interval and it_value: seconds, nanoseconds.
  const every = new BigInt64Array([0n, 1_000_000n, 0n, 1_000_000n]);
  check(
    symbols().timerfd_settime(fd, 0, every, new Uint8Array(32)),
    "timerfd_settime",
  );
  return owner;
}

function fillPipe(write: OwnedFd): void {
  const chunk = new Uint8Array(65536);
  setNonblocking(write.fd, true);
  while (libc().write(write.fd, chunk, BigInt(chunk.length)) > 0);
  setNonblocking(write.fd, false);
}

/** An eventfd whose counter is full: adding to it blocks, or is in vain. */
export function createFullEventFd(nonblocking: boolean): EventFd {
  const event = EventFd.create({ nonblocking });
  const result = libc().eventfd_write(event.fd, 0xffff_ffff_ffff_fffen);
  check(result, "eventfd_write");
  return event;
}

/** Descriptors by name, open until disposed. */
export class OddDescriptors implements Disposable {
  /** Name of the kind, and the descriptor's number. */
  readonly entries: readonly (readonly [string, number])[];
  readonly #stack = new DisposableStack();

  /**
   * Opens one of each kind.
   *
   * @param directory an empty one, for those that have a name
   */
  constructor(directory: string) {
    const own = <Type extends Disposable>(owner: Type): Type =>
      this.#stack.use(owner);
    const [read, write] = createPipe().map(own);
    const [readOfFull, full] = createPipe().map(own);
    fillPipe(full);
    const [gone, broken] = createPipe();
    gone.close();
    own(broken);
    const [left, right] = UnixSocket.pair().map(own);
    const [hungUp, peer] = UnixSocket.pair();
    peer.close();
    own(hungUp);
    const open = (path: string, flags?: number): number =>
      own(openPath(path, flags)).fd;
    this.entries = [
      ["a regular file", open(`${directory}/file`, O_RDWR | O_CREAT)],
      ["a directory", open(directory, O_DIRECTORY)],
      ["a path without access", open(directory, O_PATH)],
      ["the end of a pipe to read", read.fd],
      ["the end of a pipe to write", write.fd],
      ["the end of a full pipe to read", readOfFull.fd],
      ["the end of a full pipe to write", full.fd],
      ["a pipe that nobody reads", broken.fd],
      ["a connected socket", left.fd],
      ["its other end", right.fd],
      ["a socket that was hung up", hungUp.fd],
      ["a listening socket", own(UnixListener.listen(`${directory}/l`)).fd],
      ["/dev/null", open("/dev/null", O_RDWR)],
      ["/dev/zero", open("/dev/zero", O_RDWR)],
      ["/dev/full", open("/dev/full", O_RDWR)],
      ["a file of /proc", open("/proc/self/mem", O_RDWR)],
      ["a timer", own(openTimer()).fd],
      ["an epoll instance", own(new Epoll()).fd],
      [
        "an inotify instance",
        own(new OwnedFd(symbols().inotify_init1(O_CLOEXEC))).fd,
      ],
      ["a memfd", own(createMemfd("odd", 4096)).fd],
      ["an eventfd", own(EventFd.create()).fd],
    ];
  }

  /** Closes them all. */
  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
