/**
 * The operands of requests in flight, by slot: what a system call needs to know
 * of each, kept where passing it on allocates nothing.
 *
 * Theory of operation: V8 boxes a number above 2^31 when it crosses a call that
 * is not inlined, and file offsets and addresses are such numbers. So whoever
 * makes a request writes its operands into the typed arrays of a table, hands on
 * the slot, a small number, and whoever executes it reads them there.
 *
 * @module
 */

import { IovecTable } from "./iovec.ts";

/**
 * Operands by slot.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using table = new IoTable(2, 4);
 * table.offsets[1] = 2 ** 40;
 * table.lengths[1] = 512;
 * assertEquals(table.iovecs.segmentsPerSlot, 4);
 * ```
 */
export class IoTable implements Disposable {
  /** Number of slots. */
  readonly slots: number;
  /** Offset of each request in its file, in bytes, below 2^53. */
  readonly offsets: Float64Array<ArrayBuffer>;
  /** Length of each request in bytes, below 2^53. */
  readonly lengths: Float64Array<ArrayBuffer>;
  /** Number of iovecs of each request. */
  readonly counts: Uint16Array<ArrayBuffer>;
  /** The iovecs of each request. */
  readonly iovecs: IovecTable;

  /**
   * Makes a table, all zeroes.
   *
   * @param slots number of requests
   * @param segments most iovecs of a request, 1 to 1024
   */
  constructor(slots: number, segments: number) {
    this.slots = slots;
    this.offsets = new Float64Array(slots);
    this.lengths = new Float64Array(slots);
    this.counts = new Uint16Array(slots);
    this.iovecs = new IovecTable(slots, segments);
  }

  /** Frees the memory; no request may be in flight. */
  [Symbol.dispose](): void {
    this.iovecs[Symbol.dispose]();
  }
}
