/**
 * A ring with a memory of its own and a record of what completed, for tests.
 *
 * @module
 */

import { skipUnless } from "../../../tests/support/skip.ts";
import { Arena } from "../../arena.ts";
import { IoUring, type IoUringOptions } from "../io_uring.ts";

/** Declares tests that need a kernel that lets this process have rings. */
export const uring: ReturnType<typeof skipUnless> = skipUnless(
  IoUring.supported(),
  `needs io_uring: ${IoUring.refusal()?.message}`,
);

/** A completion: token, result. */
export type Completion = [token: number, result: number];

/** A ring, memory for its requests, and its completions in order. */
export class TestRing implements Disposable {
  /** The ring. */
  readonly ring: IoUring;
  /** A source that records its completions in `done`. */
  readonly source: number;
  /** What has completed. */
  readonly done: Completion[] = [];
  /** The flags of each of them. */
  readonly flags: number[] = [];
  /** Memory for requests. */
  readonly arena: Arena = new Arena(1 << 20);

  /** Sets a ring up. */
  constructor(options?: IoUringOptions) {
    this.ring = new IoUring(options);
    this.source = this.ring.register((token, result, flags) => {
      this.done.push([token, result]);
      this.flags.push(flags);
    });
  }

  /** Prepares a request with flags 0. */
  add(
    opcode: number,
    token: number,
    fd = -1,
    offset = 0,
    address = 0,
    length = 0,
    operationFlags = 0,
  ): void {
    this.addWith(0, opcode, token, fd, offset, address, length, operationFlags);
  }

  /** Prepares a request with `IOSQE_*` flags. */
  addWith(
    sqeFlags: number,
    opcode: number,
    token: number,
    fd = -1,
    offset = 0,
    address = 0,
    length = 0,
    operationFlags = 0,
  ): void {
    this.ring.prepare(
      opcode,
      sqeFlags,
      fd,
      offset,
      address,
      length,
      operationFlags,
      this.source,
      token,
    );
  }

  /** Submits, and waits until `count` completions were recorded in all. */
  finish(count: number, ms = 20_000): Completion[] {
    this.#reapUntil(() => this.done.length >= count, ms);
    return this.done;
  }

  /** Submits, and waits until no more than `count` requests are in flight. */
  settle(count = 0, ms = 20_000): void {
    this.#reapUntil(() => this.ring.inFlight <= count, ms);
  }

  #reapUntil(condition: () => boolean, ms: number): void {
    const end = performance.now() + ms;
    this.ring.submit();
    while (!condition()) {
      const left = end - performance.now();
      if (left <= 0) {
        throw new Error(
          `${this.done.length} requests completed within ${ms} ms, ` +
            `${this.ring.inFlight} are in flight`,
        );
      }
      this.ring.wait(left);
      this.ring.reap(64);
    }
  }

  /** A piece of the memory, filled with a byte. */
  memory(length: number, fill = 0): { address: number; bytes: Uint8Array } {
    const { address, offset } = this.arena.alloc(length, 4096);
    const bytes = this.arena.u8.subarray(offset, offset + length);
    return { address, bytes: bytes.fill(fill) };
  }

  /** Closes the ring, then frees the memory. */
  [Symbol.dispose](): void {
    this.ring.close();
    this.arena[Symbol.dispose]();
  }
}
