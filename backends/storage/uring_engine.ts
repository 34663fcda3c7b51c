/**
 * A storage engine over the io_uring of the data loop.
 *
 * Theory of operation. Reads, writes and flushes become requests of the ring;
 * `poll` submits what was prepared and takes completions, and the loop sleeps in
 * the same ring, so that one system call serves many requests.
 *
 * Whether that pays depends on the file and on the direction: where a file
 * system cannot try a request without waiting, the kernel hands every one to a
 * thread of its own, which is slower than preadv or pwritev. So each direction is
 * asynchronous only where {@linkcode probeNowait} says that it can be tried, and
 * otherwise done by the {@linkcode SyncEngine} that this one extends. Flushes,
 * discards and zeroes may take long on any file: flushes are always the ring's,
 * ranges are the synchronous engine's, whose fallbacks they need.
 *
 * A request that a completion leaves unfinished (a short transfer, EINVAL for an
 * unaligned buffer of direct I/O, EAGAIN) is finished with system calls, as the
 * synchronous engine does it: that is rare.
 *
 * Submission waits for company. While completions arrive inline, in the system
 * call that submits (data in the page cache), submitting at once is best: its
 * results are published in the same turn. Where they do not (a device is asked),
 * a turn's requests wait for the call in which the loop sleeps, for
 * {@linkcode BATCH} of them, or for {@linkcode PATIENCE} turns, whichever comes
 * first. What completes while the loop sleeps does not tell whether it did so
 * inline; so once in {@linkcode RETRY} times that is tried out.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import type { DataFile } from "../../sys/file.ts";
import {
  IORING_FSYNC_DATASYNC,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOSQE_FIXED_FILE,
} from "../../sys/io_uring/constants.ts";
import type { IoUring } from "../../sys/io_uring/io_uring.ts";
import type { IoTable } from "../../sys/io_table.ts";
import type { NowaitSupport } from "../../sys/nowait.ts";
import {
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  type StorageOperation,
} from "./storage.ts";
import { SyncEngine, type SyncEngineOptions } from "./sync_engine.ts";

/** Requests that are submitted without waiting for the loop to sleep. */
const BATCH = 16;
/** Turns that a request waits for company while the loop does not sleep. */
const PATIENCE = 4;
/** All was answered in so many sleeps: look whether answers come inline. */
const RETRY = 16;
/** Completions taken in one turn. */
const REAP = 256;
const TWO_32 = 4294967296;
/** An operation is to end soon: the kernel was asked, or does not know of it. */
const CANCELLED = 1, ANNULLED = 2;

/** What a {@linkcode UringEngine} is made with. */
export interface UringEngineOptions extends SyncEngineOptions {
  /** Directions that go through the ring. */
  readonly nowait: NowaitSupport;
}

/** Storage in a file or block device, by io_uring. */
export class UringEngine extends SyncEngine {
  readonly #ring: IoUring;
  readonly #source: number;
  readonly #nowait: NowaitSupport;
  readonly #fd: number;
  readonly #fixed: number;
  readonly #registered: number;
  #slots: IoTable | null = null;
  #operations = new Uint8Array(0);
  /** Not 0 for each slot in flight whose operation is to end, done or not. */
  #cancelled = new Uint8Array(0);
  #inFlight = 0;
  #completed = 0;
  #inline = true;
  #asynchronous = 0;
  /** Requests prepared so far, now and at the last `poll`. */
  #prepared = 0;
  #preparedBefore = 0;
  /** Completions at the last `poll`. */
  #completedBefore = 0;
  /** Turns that something has been waiting for company. */
  #held = 0;
  /** Sleeps in which all was answered. */
  #sleeps = 0;

  /** Makes an engine for an open image, which it closes in the end. */
  constructor(file: DataFile, ring: IoUring, options: UringEngineOptions) {
    super(file, options);
    this.#ring = ring;
    this.#nowait = options.nowait;
    this.#source = ring.register((slot, result) => this.#done(slot, result));
    this.#registered = ring.registerFile(file.fd);
    this.#fixed = this.#registered < 0 ? 0 : IOSQE_FIXED_FILE;
    this.#fd = this.#registered < 0 ? file.fd : this.#registered;
  }

  override attach(table: IoTable): void {
    super.attach(table);
    this.#slots = table;
    this.#operations = new Uint8Array(table.slots);
    this.#cancelled = new Uint8Array(table.slots);
  }

  override submit(slot: number, operation: StorageOperation): void {
    if (operation === STORAGE_READ) {
      if (this.#nowait.read) return this.#transfer(slot, false);
    } else if (operation === STORAGE_WRITE) {
      if (this.#nowait.write) return this.#transfer(slot, true);
    } else if (operation === STORAGE_FLUSH) {
      this.#operations[slot] = STORAGE_FLUSH;
      this.#inFlight++;
      this.#prepared++;
      this.#ring.claim(
        IORING_OP_FSYNC,
        this.#fixed,
        this.#fd,
        0,
        IORING_FSYNC_DATASYNC,
        this.#source,
        slot,
      );
      return;
    }
    super.submit(slot, operation);
  }

  cancel(slot: number): void {
    const ring = this.#ring, source = this.#source;
    if (this.#cancelled[slot] === ANNULLED) return;
    this.#cancelled[slot] = ring.annul(source, slot) ? ANNULLED : CANCELLED;
    if (this.#cancelled[slot] === CANCELLED) ring.cancel(source, slot);
  }

  override poll(): number {
    const ring = this.#ring;
    const before = this.#completed;
    const pending = ring.pending;
    if (!this.#inline) this.#reconsider();
    if (pending > 0 && this.#isDue(pending)) {
      this.#held = 0;
      // Signals and watches that are pending say nothing about storage, nor do
      // answers that were there before.
      const fresh = this.#prepared !== this.#preparedBefore;
      if (ring.arrived) ring.reap(REAP);
      const earlier = this.#completed;
      ring.submit();
      ring.reap(REAP);
      if (this.#completed !== earlier) this.#inline = true;
      else if (fresh) this.#inline = false;
    } else if (this.#inFlight > 0 || pending > 0) {
      ring.reap(REAP);
      // An early answer: try again whether answers come inline.
      if (this.#completed !== before && this.#inFlight === 0) {
        this.#inline = true;
      }
    }
    this.#preparedBefore = this.#prepared;
    this.#completedBefore = this.#completed;
    return this.#completed - before;
  }

  /** Whether what is pending is to be submitted now. */
  #isDue(pending: number): boolean {
    return this.#inline || pending >= BATCH || ++this.#held > PATIENCE;
  }

  /** Counts the sleeps of the loop in which all that was there was answered. */
  #reconsider(): void {
    const fresh = this.#prepared - this.#preparedBefore;
    if (this.#inFlight !== fresh) return;
    if (this.#completed === this.#completedBefore) return;
    this.#held = 0;
    if (++this.#sleeps % RETRY === 0) this.#inline = true;
  }

  override status(): Record<string, unknown> {
    return {
      ...super.status(),
      engine: "io_uring",
      asynchronousReads: this.#nowait.read,
      asynchronousWrites: this.#nowait.write,
      asynchronousOperations: this.#asynchronous,
    };
  }

  override close(): void {
    if (this.#registered >= 0 && !this.closed) {
      this.#ring.unregisterFile(this.#registered);
    }
    super.close();
  }

  #transfer(slot: number, writing: boolean): void {
    const table = this.#slots!;
    const count = table.counts[slot];
    if (count === 0) {
      super.submit(slot, writing ? STORAGE_WRITE : STORAGE_READ);
      return;
    }
    const ring = this.#ring, sqes = ring.sqes;
    const words = table.iovecs.words, first = table.iovecs.wordOffset(slot);
    const one = count === 1;
    this.#operations[slot] = writing ? STORAGE_WRITE : STORAGE_READ;
    this.#inFlight++;
    this.#prepared++;
    const at = ring.claim(
      writing
        ? (one ? IORING_OP_WRITE : IORING_OP_WRITEV)
        : (one ? IORING_OP_READ : IORING_OP_READV),
      this.#fixed,
      this.#fd,
      one ? words[first + 2] : count,
      0,
      this.#source,
      slot,
    );
    const offset = table.offsets[slot];
    sqes[at + 2] = offset;
    sqes[at + 3] = offset / TWO_32;
    if (one) {
      sqes[at + 4] = words[first];
      sqes[at + 5] = words[first + 1];
    } else {
      const iovecs = table.iovecs.address(slot);
      sqes[at + 4] = iovecs;
      sqes[at + 5] = iovecs / TWO_32;
    }
  }

  /** The ring finished an operation. */
  #done(slot: number, result: number): void {
    this.#inFlight--;
    this.#completed++;
    this.#asynchronous++;
    const operation = this.#operations[slot] as StorageOperation;
    if (this.#cancelled[slot] !== 0) {
      result = this.#resultOf(slot, operation, result);
    } else if (result === -Errno.EAGAIN || result === -Errno.EINTR) {
      result = this.run(slot, operation);
    } else if (
      operation !== STORAGE_FLUSH && result !== this.#slots!.lengths[slot]
    ) {
      result = this.goOn(slot, operation === STORAGE_WRITE, result);
    }
    this.onComplete(slot, result);
  }

  /**
   * How an operation ended that was to end soon. One that is not finished stays so:
   * nothing is done in its place that could take long.
   */
  #resultOf(slot: number, operation: StorageOperation, result: number): number {
    const annulled = this.#cancelled[slot] === ANNULLED;
    this.#cancelled[slot] = 0;
    const whole = operation === STORAGE_FLUSH ? 0 : this.#slots!.lengths[slot];
    if (result === whole && !annulled) return result;
    const failed = result < 0 && result !== -Errno.EAGAIN &&
      result !== -Errno.EINTR && result !== -Errno.EINVAL;
    return failed ? result : -Errno.ECANCELED;
  }
}
