/**
 * Answers in the order in which the requests were made available, for a driver
 * that negotiated VIRTIO_F_IN_ORDER.
 *
 * Theory of operation. Devices complete chains as they like. Here each chain
 * that was taken waits in a line; one that is complete is let out as soon as all
 * before it are. The driver may then rely on the order of the used buffers. A
 * used buffer is written for each of them, never one for several: the lengths of
 * all are kept that way, and the specification leaves the choice.
 *
 * Chains are known by a key below the size of the ring (head, or buffer id),
 * which is in the line at most once.
 *
 * Source: virtio 1.4, sections 2.7.9 and 2.8.8.
 *
 * @module
 */

/** The line of one queue. */
export class CompletionOrder {
  readonly #size: number;
  readonly #line: Uint16Array<ArrayBuffer>;
  readonly #done: Uint8Array<ArrayBuffer>;
  readonly #written: Uint32Array<ArrayBuffer>;
  #first = 0;
  #count = 0;

  /** An empty line for keys below `size`. */
  constructor(size: number) {
    this.#size = size;
    this.#line = new Uint16Array(size);
    this.#done = new Uint8Array(size);
    this.#written = new Uint32Array(size);
  }

  /** Chains in the line. */
  get length(): number {
    return this.#count;
  }

  /** A chain was taken. */
  take(key: number): void {
    this.#line[this.#place(this.#count++)] = key;
    this.#done[key] = 0;
  }

  /** A chain was given back: it was taken last, or refused ones are behind it. */
  untake(key: number): void {
    let at = this.#count - 1;
    while (this.#line[this.#place(at)] !== key) at--;
    for (; at < this.#count - 1; at++) {
      this.#line[this.#place(at)] = this.#line[this.#place(at + 1)];
    }
    this.#count--;
  }

  /** A chain is complete. */
  finish(key: number, written: number): void {
    this.#written[key] = written;
    this.#done[key] = 1;
  }

  /** The key that comes out next, or -1 while the first one is not complete. */
  next(): number {
    if (this.#count === 0) return -1;
    const key = this.#line[this.#first];
    if (this.#done[key] === 0) return -1;
    this.#first = this.#place(1);
    this.#count--;
    return key;
  }

  /** Bytes written to a chain that came out. */
  written(key: number): number {
    return this.#written[key];
  }

  #place(at: number): number {
    const place = this.#first + at;
    return place < this.#size ? place : place - this.#size;
  }
}
