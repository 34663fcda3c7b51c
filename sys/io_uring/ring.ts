/**
 * The two rings in shared memory between a thread and the kernel: requests one
 * way, their completions the other, without a promise or an object for any of
 * them.
 *
 * Theory of operation: one thread owns a ring. `claim` and `prepare` write a
 * submission entry, which the kernel does not see before `submit` or `wait`;
 * both are one system call for all that is pending. `reap` takes completions
 * off the other ring and calls the handler of the source that each belongs to:
 * the 64 bits of user data hold a token (low word) and the number of the source
 * (high word).
 *
 * All positions in the rings are 32-bit and wrap; they are kept as signed
 * numbers, which are never boxed. The kernel reads the submission ring during
 * system calls only, so plain stores are enough there; the tail of the
 * completion ring is loaded atomically, since completions arrive at any time.
 *
 * A full submission ring is emptied by submitting. A completion ring never loses
 * anything: what does not fit waits in the kernel, says so in the flags of the
 * ring, and is fetched when the ring was reaped empty. Kernels before 5.19 take no
 * submission while something waits so. Whoever needs a place in the submission
 * ring then is not one who can be told of completions: these are put aside, and
 * come first when the ring is reaped.
 *
 * @module
 */

import { Errno, SystemError } from "../errno.ts";
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_CQE_F_MORE,
  IORING_ENTER_GETEVENTS,
  IORING_ENTER_REGISTERED_RING,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_NOP,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_TASKRUN,
  IOSQE_CQE_SKIP_SUCCESS,
} from "./constants.ts";
import { Backlog } from "./backlog.ts";
import { enter, TimedEnter } from "./enter.ts";
import { registerRing, unregisterRing } from "./register.ts";
import { type RingMemory, type SetupOptions, setUpRing } from "./setup.ts";

const TWO_32 = 4294967296;

/** Words of a `struct io_uring_sqe` and of a `struct io_uring_cqe`, as shifts. */
const SQE_SHIFT = 4, CQE_SHIFT = 2;
/** In the high word of user data: succeeds without a completion. */
const UNCOUNTED = 0x8000_0000;
/** The kernel has something that arrives in a system call only. */
const SQ_FETCH = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;
/** How often a full submission ring is offered, 1 ms apart. */
const ATTEMPTS = 1000;
/** How often a ring that is closed asks the kernel to end requests, in ms. */
const CANCEL_INTERVAL = 50;

/**
 * Told of each completion.
 *
 * @param token as it was given with the request
 * @param result as the system call returns it, or a negative errno
 * @param flags `IORING_CQE_F_*`
 */
export type CompletionHandler = (
  token: number,
  result: number,
  flags: number,
) => void;

/** The source of requests whose completions nobody waits for. */
export const SOURCE_IGNORED = 0;

/** Submissions and completions of one thread. */
export class Ring {
  /** `IORING_FEAT_*` of the kernel. */
  readonly features: number;
  /** `IORING_SETUP_*` that the ring was set up with. */
  readonly flags: number;
  /** Size of the submission ring. */
  readonly entries: number;
  /** Size of the completion ring. */
  readonly completions: number;
  /** The submission entries, 16 words each; see {@linkcode Ring.claim}. */
  readonly sqes: Uint32Array<ArrayBuffer>;
  /** Descriptor of the ring. */
  protected readonly fd: number;
  readonly #memory: RingMemory;
  readonly #ring: Int32Array<ArrayBuffer>;
  readonly #sqTailWord: number;
  readonly #sqFlagsWord: number;
  readonly #cqHeadWord: number;
  readonly #cqTailWord: number;
  readonly #cqesWord: number;
  readonly #sqMask: number;
  readonly #cqMask: number;
  readonly #timed: TimedEnter;
  /** Index of the ring in this thread; -1 if it has none. */
  readonly #index: number;
  /** What the system call is given. */
  readonly #enterFd: number;
  readonly #enterFlags: number;
  readonly #handlers: CompletionHandler[] = [() => {}];
  readonly #backlog = new Backlog();
  #sqTail: number;
  #cqHead: number;
  #pending = 0;
  #inFlight = 0;
  #closed = false;

  /**
   * Sets a ring up. It belongs to the thread that makes it.
   *
   * C: `int io_uring_setup(u32 entries, struct io_uring_params *p);`
   *
   * @throws {SystemError} as {@linkcode setUpRing}
   */
  constructor(options: SetupOptions) {
    const memory = setUpRing(options);
    this.#memory = memory;
    this.features = memory.features;
    this.flags = memory.flags;
    this.entries = memory.entries;
    this.completions = memory.completions;
    this.fd = memory.fd.fd;
    this.#ring = new Int32Array(memory.rings.buffer);
    this.sqes = new Uint32Array(memory.sqes.buffer);
    this.#sqTailWord = memory.words.sqTail;
    this.#sqFlagsWord = memory.words.sqFlags;
    this.#cqHeadWord = memory.words.cqHead;
    this.#cqTailWord = memory.words.cqTail;
    this.#cqesWord = memory.words.cqes;
    this.#sqMask = this.entries - 1;
    this.#cqMask = this.completions - 1;
    this.#sqTail = this.#ring[this.#sqTailWord];
    this.#cqHead = this.#ring[this.#cqHeadWord];
    this.#timed = new TimedEnter();
    this.#index = registerRing(this.fd);
    this.#enterFd = this.#index < 0 ? this.fd : this.#index;
    this.#enterFlags = this.#index < 0 ? 0 : IORING_ENTER_REGISTERED_RING;
  }

  /** Requests that were prepared and not submitted. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Requests that have no last completion yet, pending ones and watches among
   * them; without those that have `CQE_SKIP_SUCCESS`.
   */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether the ring was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether `reap` would find something. */
  get ready(): boolean {
    if (this.#closed) return false;
    return this.arrived || (this.#ring[this.#sqFlagsWord] & SQ_FETCH) !== 0;
  }

  /** Whether `reap` would find something without a system call. */
  get arrived(): boolean {
    return !this.#closed && (this.#backlog.size !== 0 ||
      Atomics.load(this.#ring, this.#cqTailWord) !== this.#cqHead);
  }

  /**
   * Makes a source of requests.
   *
   * @param handler told of the completions, from `reap`; it may prepare, submit
   * and close
   * @returns the number of the source
   */
  register(handler: CompletionHandler): number {
    return this.#handlers.push(handler) - 1;
  }

  /**
   * Fills the next submission entry, as {@linkcode Ring.claim} does, with an
   * offset and an address.
   *
   * V8 boxes numbers above 2^31 in calls that it does not inline: where not
   * even that may be allocated, use `claim`.
   *
   * @param opcode `IORING_OP_*`
   * @param sqeFlags `IOSQE_*`
   * @param fd descriptor, or index of a registered file with `FIXED_FILE`
   * @param offset below 2^53; -1 is the position of the file
   * @param address of memory, which stays in place until the completion; or
   * what the operation has there
   * @param length of the memory in bytes, number of iovecs, or what the
   * operation has there
   * @param operationFlags flags of the operation: `rw_flags`, `fsync_flags` …
   * @param source number from `register`
   * @param token given to the handler; 0 to 2^32-1
   * @throws {SystemError} kind `EBUSY` if the ring is full and the kernel takes
   * nothing
   */
  prepare(
    opcode: number,
    sqeFlags: number,
    fd: number,
    offset: number,
    address: number,
    length: number,
    operationFlags: number,
    source: number,
    token: number,
  ): void {
    const sqes = this.sqes;
    const at = this.claim(
      opcode,
      sqeFlags,
      fd,
      length,
      operationFlags,
      source,
      token,
    );
    sqes[at + 2] = offset;
    sqes[at + 3] = Math.floor(offset / TWO_32);
    sqes[at + 4] = address;
    sqes[at + 5] = address / TWO_32;
  }

  /**
   * Fills the next submission entry but for four words of `sqes`, which the
   * caller writes at once: `at + 2` and `at + 3` are the low and the high word
   * of the offset, `at + 4` and `at + 5` those of the address. They are 0.
   * If the ring is full it submits first. That cuts a chain of linked requests
   * in two: submit before a chain that is longer than `entries - pending`.
   *
   * @returns `at`, the entry's first word in `sqes`
   */
  claim(
    opcode: number,
    sqeFlags: number,
    fd: number,
    length: number,
    operationFlags: number,
    source: number,
    token: number,
  ): number {
    if (this.#pending === this.entries || this.#closed) this.#makeRoom();
    const at = (this.#sqTail & this.#sqMask) << SQE_SHIFT;
    const counted = (sqeFlags & IOSQE_CQE_SKIP_SUCCESS) === 0;
    const sqes = this.sqes;
    // struct io_uring_sqe { u8 opcode; u8 flags; u16 ioprio; s32 fd; u64 off;
    // u64 addr; u32 len; u32 op_flags; u64 user_data; … } The rest stays 0.
    sqes[at] = opcode | (sqeFlags << 8);
    sqes[at + 1] = fd;
    sqes[at + 2] = 0;
    sqes[at + 3] = 0;
    sqes[at + 4] = 0;
    sqes[at + 5] = 0;
    sqes[at + 6] = length;
    sqes[at + 7] = operationFlags;
    sqes[at + 8] = token;
    sqes[at + 9] = counted ? source : source | UNCOUNTED;
    if (counted) this.#inFlight++;
    this.#sqTail = (this.#sqTail + 1) | 0;
    this.#pending++;
    return at;
  }

  /**
   * Has a request that was prepared and not submitted do nothing: it completes
   * with 0, whatever it was.
   *
   * @param source as it was given with the request
   * @param token as it was given with the request
   * @returns whether there was one
   */
  annul(source: number, token: number): boolean {
    for (let i = 1; i <= this.#pending; i++) {
      const at = ((this.#sqTail - i) & this.#sqMask) << SQE_SHIFT;
      if (this.sqes[at + 8] !== token || this.sqes[at + 9] !== source) continue;
      this.sqes[at] = IORING_OP_NOP;
      this.sqes.fill(0, at + 1, at + 8);
      return true;
    }
    return false;
  }

  #makeRoom(): void {
    for (let i = 0; i < ATTEMPTS; i++) {
      if (this.submit() > 0) return;
      this.#putAside();
      this.#enterFor(0, 1);
    }
    throw new SystemError(
      Errno.EBUSY,
      "io_uring_enter",
      `Cannot submit: the kernel takes none of ${this.#pending} requests`,
    );
  }

  /** Empties the completion ring without telling anybody. */
  #putAside(): void {
    const ring = this.#ring;
    const tail = Atomics.load(ring, this.#cqTailWord);
    for (; this.#cqHead !== tail; this.#cqHead = (this.#cqHead + 1) | 0) {
      const at = (this.#cqHead & this.#cqMask) << CQE_SHIFT;
      this.#backlog.add(ring, this.#cqesWord + at);
    }
    ring[this.#cqHeadWord] = tail;
  }

  /**
   * Gives all pending requests to the kernel and does not wait. What the
   * kernel has no memory for stays pending.
   *
   * C: `int io_uring_enter(unsigned int fd, unsigned int to_submit, 0, flags,
   * NULL, 0);`
   *
   * @returns how many requests the kernel took
   */
  submit(): number {
    this.requireOpen();
    let submitted = 0;
    for (;;) {
      const fetch = (this.#ring[this.#sqFlagsWord] & SQ_FETCH) !== 0;
      if (this.#pending === 0 && !fetch) return submitted;
      const taken = this.#enter(0, fetch ? IORING_ENTER_GETEVENTS : 0);
      submitted += taken;
      // Without SUBMIT_ALL the kernel stops behind a request that is wrong.
      if (this.#pending === 0 || taken === 0) return submitted;
    }
  }

  /**
   * Gives all pending requests to the kernel and waits until a completion can
   * be reaped. Returns at once if one can be already.
   *
   * C: as `submit`, with `min_complete` 1, `IORING_ENTER_GETEVENTS` and, for a
   * time, a `struct io_uring_getevents_arg`.
   *
   * @param timeoutMs milliseconds; 0 does not wait, -1 waits for ever
   */
  wait(timeoutMs: number): void {
    this.requireOpen();
    let deadline = 0;
    for (;;) {
      if (this.arrived) break;
      if (timeoutMs === 0) {
        this.#enter(0, IORING_ENTER_GETEVENTS);
        break;
      }
      const pending = this.#pending;
      if (timeoutMs < 0) {
        this.#enter(1, IORING_ENTER_GETEVENTS);
      } else {
        const now = performance.now();
        if (deadline === 0) deadline = now + timeoutMs;
        else if (now >= deadline) break;
        this.#enterFor(pending, deadline - now);
      }
      // The kernel is short of memory: give it a moment.
      if (pending !== 0 && this.#pending === pending) this.#enterFor(0, 1);
    }
    if (this.#pending !== 0) this.submit();
  }

  /** Submits what is pending; returns how much of it the kernel took. */
  #enter(complete: number, flags: number): number {
    this.#ring[this.#sqTailWord] = this.#sqTail;
    const all = flags | this.#enterFlags;
    const taken = enter(this.#enterFd, this.#pending, complete, all);
    this.#pending -= taken;
    return taken;
  }

  /** As `#enter`, all that is pending or nothing, and waits for some time. */
  #enterFor(pending: number, ms: number): void {
    this.#ring[this.#sqTailWord] = this.#sqTail;
    const flags = this.#enterFlags;
    this.#pending -= this.#timed.enter(this.#enterFd, pending, ms, flags);
  }

  /**
   * Calls the handlers of completions that have arrived.
   *
   * @param limit the most completions to take
   * @returns how many were taken
   */
  reap(limit: number): number {
    this.requireOpen();
    if (this.#backlog.size !== 0) return this.#reapBacklog(limit);
    const ring = this.#ring;
    let tail = Atomics.load(ring, this.#cqTailWord);
    if (tail === this.#cqHead) {
      if ((ring[this.#sqFlagsWord] & SQ_FETCH) === 0) return 0;
      const flags = IORING_ENTER_GETEVENTS | this.#enterFlags;
      enter(this.#enterFd, 0, 0, flags);
      tail = Atomics.load(ring, this.#cqTailWord);
    }
    let count = 0;
    // A handler may reap, too: the head can be past this tail.
    while (count < limit && ((tail - this.#cqHead) | 0) > 0) {
      count++;
      const at = this.#cqesWord + ((this.#cqHead & this.#cqMask) << CQE_SHIFT);
      // struct io_uring_cqe { u64 user_data; s32 res; u32 flags; }
      const token = ring[at] >>> 0;
      const source = ring[at + 1];
      const result = ring[at + 2];
      const flags = ring[at + 3];
      this.#cqHead = (this.#cqHead + 1) | 0;
      ring[this.#cqHeadWord] = this.#cqHead;
      if ((flags & IORING_CQE_F_MORE) === 0 && source >= 0) this.#inFlight--;
      this.#handlers[source & 0x7fff_ffff](token, result, flags);
      if (this.#closed) break;
    }
    return count;
  }

  /** As `reap`, for what was put aside. */
  #reapBacklog(limit: number): number {
    const backlog = this.#backlog;
    let count = 0;
    while (count < limit && backlog.size !== 0 && !this.#closed) {
      count++;
      const [token, source, result, flags] = backlog.take();
      if ((flags & IORING_CQE_F_MORE) === 0 && source >= 0) this.#inFlight--;
      this.#handlers[source & 0x7fff_ffff](token >>> 0, result, flags);
    }
    return count;
  }

  /** Calls the handler of a source. */
  protected deliver(
    source: number,
    token: number,
    result: number,
    flags: number,
  ): void {
    this.#handlers[source](token, result, flags);
  }

  /**
   * Drops what is pending, cancels what is in flight where the kernel can do so,
   * and waits for it, without calling handlers.
   *
   * @returns how many requests are still in flight after the time
   */
  protected endRequests(timeoutMs: number): number {
    for (; this.#pending > 0; this.#pending--) {
      this.#sqTail = (this.#sqTail - 1) | 0;
      const at = (this.#sqTail & this.#sqMask) << SQE_SHIFT;
      if (this.sqes[at + 9] < UNCOUNTED) this.#inFlight--;
    }
    if (this.#inFlight === 0) return 0;
    this.#handlers.fill(() => {});
    const end = performance.now() + timeoutMs;
    do {
      // Again and again: one that waited for a thread of the kernel may have
      // got it just after it was looked for.
      this.cancelAll();
      const until = Math.min(end, performance.now() + CANCEL_INTERVAL);
      do {
        this.wait(Math.max(1, until - performance.now()));
        while (this.reap(this.completions) > 0);
      } while (this.#inFlight > 0 && performance.now() < until);
    } while (this.#inFlight > 0 && performance.now() < end);
    return this.#inFlight;
  }

  /** Asks the kernel to end all requests, with the next submission. */
  protected cancelAll(): void {
    const flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
    this.claim(IORING_OP_ASYNC_CANCEL, 0, -1, 0, flags, SOURCE_IGNORED, 0);
  }

  /** Unmaps the rings and closes the descriptor. */
  protected release(): void {
    this.#closed = true;
    if (this.#index >= 0) unregisterRing(this.fd, this.#index);
    this.#memory.sqes.unmap();
    this.#memory.rings.unmap();
    this.#memory.fd.close();
    this.#timed[Symbol.dispose]();
  }

  /** Throws kind `EBADF` after the ring was closed. */
  protected requireOpen(): void {
    if (this.#closed) {
      throw new SystemError(
        Errno.EBADF,
        "io_uring",
        "Cannot use an io_uring after it was closed",
      );
    }
  }
}
