/**
 * An io_uring for the data plane: what it needs beside reads and writes.
 *
 * Theory of operation: {@linkcode Ring} moves requests and completions. Two
 * sources of requests are the ring's own: what nobody waits for (signals and
 * cancellations), and watches, whose tokens are their numbers. A watch is a
 * multishot poll, which reports each change of an eventfd without ever reading
 * it; where the kernel gives one up it is started again before its handler is
 * called, so that no signal is missed.
 *
 * @module
 */

import { Arena } from "../arena.ts";
import { Errno, SystemError } from "../errno.ts";
import {
  IORING_CQE_F_MORE,
  IORING_FEAT_CQE_SKIP,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_POLL_ADD,
  IORING_OP_WRITE,
  IORING_POLL_ADD_MULTI,
  IOSQE_CQE_SKIP_SUCCESS,
  POLLERR,
  POLLHUP,
  POLLIN,
} from "./constants.ts";
import { RegisteredFiles } from "./files.ts";
import { type Operations, probeOperations } from "./probe.ts";
import { limitWorkers } from "./register.ts";
import { Ring, SOURCE_IGNORED } from "./ring.ts";
import { Watches } from "./watches.ts";

const TWO_32 = 4294967296;
/** Threads that may wait for others than files: for signals, that is. */
const SIGNALLING_WORKERS = 4;
/** How long `close` waits for requests in flight, in milliseconds. */
const CLOSE_TIMEOUT = 10_000;

/** Options of {@linkcode IoUring}. */
export interface IoUringOptions {
  /**
   * Submissions that can be prepared before the ring submits by itself.
   * Rounded up to a power of two; default 256.
   */
  entries?: number;
  /**
   * Completions that the ring holds. Rounded up to a power of two; default
   * four times `entries`.
   */
  completions?: number;
  /**
   * `IORING_SETUP_*` to set up with, where the kernel takes them. With
   * `DEFER_TASKRUN`, give `TASKRUN_FLAG` too: `ready` sees no completions
   * otherwise. Default: the best that the kernel has.
   */
  flags?: number;
  /** Files that can be registered; default 64. */
  files?: number;
}

/**
 * A ring of one thread.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { IORING_OP_NOP } from "./constants.ts";
 *
 * if (IoUring.supported()) {
 *   using ring = new IoUring();
 *   const tokens: number[] = [];
 *   const source = ring.register((token) => tokens.push(token));
 *   ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, 7);
 *   ring.wait(-1);
 *   assertEquals(ring.reap(8), 1);
 *   assertEquals(tokens, [7]);
 * }
 * ```
 */
export class IoUring extends Ring implements Disposable {
  static #refusal: SystemError | null | undefined;

  /** The operations that the kernel knows. */
  readonly operations: Operations;
  readonly #arena: Arena;
  readonly #oneLow: number;
  readonly #oneHigh: number;
  readonly #signalFlags: number;
  readonly #signals: number;
  readonly #polls: number;
  readonly #files: RegisteredFiles;
  readonly #watches = new Watches();
  #failedSignals = 0;

  /**
   * Sets a ring up. It belongs to the thread that makes it.
   *
   * C: `int io_uring_setup(u32 entries, struct io_uring_params *p);`
   *
   * @throws {SystemError} kind `ENOSYS` where the kernel has no io_uring or
   * one older than that of Linux 5.13, `EPERM` where it is forbidden
   */
  constructor(options: IoUringOptions = {}) {
    const entries = powerOfTwo("entries", options.entries ?? 256);
    const completions = powerOfTwo(
      "completions",
      options.completions ?? 4 * entries,
    );
    super({
      entries,
      completions: Math.max(entries, completions),
      flags: options.flags,
    });
    this.#signalFlags = (this.features & IORING_FEAT_CQE_SKIP) !== 0
      ? IOSQE_CQE_SKIP_SUCCESS
      : 0;
    this.#arena = new Arena(8);
    this.#arena.u32[0] = 1;
    this.#oneLow = this.#arena.address | 0;
    this.#oneHigh = Math.floor(this.#arena.address / TWO_32);
    this.#files = new RegisteredFiles(this.fd, options.files ?? 64);
    this.#signals = this.register((_token, result) => this.#onSignal(result));
    this.#polls = this.register((watch, result, flags) =>
      this.#onPoll(watch, result, flags)
    );
    limitWorkers(this.fd, 0, SIGNALLING_WORKERS);
    try {
      this.operations = probeOperations(this.fd);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether rings can be set up here; asks the kernel once. */
  static supported(): boolean {
    return IoUring.refusal() === null;
  }

  /** Why rings cannot be set up here; null if they can. */
  static refusal(): SystemError | null {
    if (IoUring.#refusal === undefined) {
      try {
        new IoUring({ entries: 1 }).close();
        IoUring.#refusal = null;
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        IoUring.#refusal = error;
      }
    }
    return IoUring.#refusal;
  }

  /** Signals that could not be given, because of a wrong descriptor. */
  get failedSignals(): number {
    return this.#failedSignals;
  }

  /**
   * Asks the kernel to end a request, with the next submission. Its handler is
   * told in any case: of `-ECANCELED`, or of how it ended before.
   *
   * @param source of the request
   * @param token of the request
   */
  cancel(source: number, token: number): void {
    const at = this.claim(
      IORING_OP_ASYNC_CANCEL,
      0,
      -1,
      0,
      0,
      SOURCE_IGNORED,
      0,
    );
    this.sqes[at + 4] = token;
    this.sqes[at + 5] = source;
  }

  /**
   * Adds 1 to an eventfd, with the next submission. Nobody is told.
   *
   * @param fd an eventfd with O_NONBLOCK. On one that blocks, a signal takes a
   * worker thread of the kernel, of which there are four, and waits there for as
   * long as the counter is full
   */
  signal(fd: number): void {
    const { sqes } = this;
    const flags = this.#signalFlags;
    const at = this.claim(IORING_OP_WRITE, flags, fd, 8, 0, this.#signals, 0);
    // No position.
    sqes[at + 2] = -1;
    sqes[at + 3] = -1;
    sqes[at + 4] = this.#oneLow;
    sqes[at + 5] = this.#oneHigh;
  }

  #onSignal(result: number): void {
    // A full counter is a signal that is already there.
    if (result < 0 && result !== -Errno.EAGAIN) this.#failedSignals++;
  }

  /**
   * Watches an eventfd, from the next submission on: the handler of `source` is
   * told at least once after each time that it was written to, and at first if
   * it is readable. It need not be read. Nothing more is told after
   * `unwatch`, or once it was told of a negative errno, `POLLERR` or `POLLHUP`.
   *
   * Closing the descriptor does not end the watch: the kernel keeps the file.
   *
   * @param fd an eventfd
   * @param source number from `register`
   * @param token given to the handler; 0 to 2^32-1
   * @returns the number of the watch: no other one gets it before `unwatch`
   */
  watch(fd: number, source: number, token: number): number {
    const watch = this.#watches.add(fd, source, token);
    this.#arm(watch);
    return watch;
  }

  #arm(watch: number): void {
    this.claim(
      IORING_OP_POLL_ADD,
      0,
      this.#watches.fds[watch],
      IORING_POLL_ADD_MULTI,
      POLLIN,
      this.#polls,
      watch,
    );
  }

  /**
   * Ends a watch: its handler is not called any more. The kernel lets go of
   * the descriptor with the next submission.
   */
  unwatch(watch: number): void {
    if (this.#watches.end(watch)) this.cancel(this.#polls, watch);
  }

  #onPoll(watch: number, result: number, flags: number): void {
    const watches = this.#watches;
    const live = watches.isLive(watch);
    const source = watches.sources[watch], token = watches.tokens[watch];
    if ((flags & IORING_CQE_F_MORE) === 0) {
      // The kernel gives up a poll now and then, as when its completion did
      // not fit into the ring.
      if (live && result >= 0 && (result & (POLLERR | POLLHUP)) === 0) {
        this.#arm(watch);
      } else watches.over(watch);
    }
    if (live) this.deliver(source, token, result, flags);
  }

  /**
   * Registers a file, so that requests can name it by index, with
   * `IOSQE_FIXED_FILE`. The ring keeps the file open.
   *
   * C: as {@linkcode RegisteredFiles.add}.
   *
   * @returns the index; -1 if the table is full
   * @throws {SystemError} kind `EBADF` if `fd` is not open
   */
  registerFile(fd: number): number {
    this.requireOpen();
    return this.#files.add(fd);
  }

  /**
   * Unregisters a file. Requests in flight keep it until they have ended.
   *
   * C: as {@linkcode RegisteredFiles.add}.
   */
  unregisterFile(index: number): void {
    this.requireOpen();
    this.#files.remove(index);
  }

  /**
   * Ends the ring. Requests that are pending are dropped. Requests in flight
   * are cancelled where the kernel can do so, and waited for: after `close` the
   * kernel touches no memory that a request named. Their handlers are not
   * called. To be called by the thread that made the ring; does nothing the
   * second time.
   *
   * Requests with `CQE_SKIP_SUCCESS` are not waited for: they must not name
   * memory that goes away.
   *
   * @param timeoutMs how long to wait for them
   * @throws {SystemError} kind `ETIMEDOUT` if some have not ended in time: the
   * ring is closed then, but their memory must stay mapped
   */
  close(timeoutMs: number = CLOSE_TIMEOUT): void {
    if (this.closed) return;
    let left = -1;
    try {
      left = this.endRequests(timeoutMs);
    } finally {
      // Files of requests that go on are left to the kernel, which gives them
      // back after the last one: that is how others know of it.
      if (left === 0) this.#files.close();
      this.release();
      this.#arena[Symbol.dispose]();
    }
    if (left > 0) {
      throw new SystemError(
        Errno.ETIMEDOUT,
        "io_uring",
        `Cannot end ${left} requests within ${timeoutMs} ms: ` +
          "the kernel may still use their memory",
      );
    }
  }

  /** Kernels before 5.19 cannot cancel all: ends at least what never ends. */
  protected override cancelAll(): void {
    for (const watch of this.#watches.numbers()) {
      this.cancel(this.#polls, watch);
    }
    super.cancelAll();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** `value` or the next power of two above it. */
function powerOfTwo(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1 || value > 2 ** 20) {
    throw new RangeError(
      `Cannot set up an io_uring: ${name} is ${value}, not from 1 to 1048576`,
    );
  }
  return 2 ** Math.ceil(Math.log2(value));
}
