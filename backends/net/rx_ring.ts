/**
 * A receive queue: puts frames into the buffers that a driver made available.
 *
 * Theory of operation: with MRG_RXBUF a frame may take several buffers, which
 * are used together. Where there are too few, a frame that may wait keeps those
 * it has: they stay taken, the ring is empty, so the driver's next buffer is
 * notified and the frame goes on. A frame that may not wait gives them back and
 * is dropped. Buffers that no frame fits (too small for a header, not writable,
 * of too many pieces) are answered with length 0.
 *
 * Source: virtio 1.4, section 5.1.6.3 and 5.1.6.4.
 *
 * @module
 */

import { DELIVERED, DROPPED, WAIT } from "./backend.ts";
import { type Frame, HEADER_WORDS, START_SIZE, START_WORDS } from "./frame.ts";
import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { writeHead } from "../../virtqueue/chain_head.ts";
import type { VirtQueue } from "../../virtqueue/device.ts";
import { HDR_F_DATA_VALID, HEADER_SIZE } from "./protocol.ts";
import type { NetMetrics } from "./metrics.ts";

/** Bad buffers that one look for a good one passes. */
const BAD_BUDGET = 32;

/** How frames are received, as negotiated. */
export interface RxFormat {
  /** Bytes of the header: 10 or 12. */
  headerSize: number;
  /** A frame may take several buffers. */
  mergeable: boolean;
  /** The driver looks at checksum flags. */
  checksums: boolean;
}

/** One receive queue. */
export class RxRing {
  /** The queue, while its ring runs. */
  queue: VirtQueue | null = null;
  /** Frames were put into it since the loop was last told. */
  touched = false;
  readonly #format: RxFormat;
  readonly #metrics: NetMetrics;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #segments: number;
  /** Buffers that were taken for one frame. */
  readonly #chains: (DescriptorChain | null)[];
  #count = 0;
  #room = 0;

  /**
   * @param segments most pieces of a buffer
   * @param slots most buffers of a frame
   */
  constructor(
    format: RxFormat,
    metrics: NetMetrics,
    segments: number,
    slots: number,
  ) {
    this.#format = format;
    this.#metrics = metrics;
    this.#segments = segments;
    this.#words = new Uint32Array(4 * segments);
    this.#chains = new Array<DescriptorChain | null>(slots).fill(null);
  }

  /** Gives back what was taken for a frame that waits. */
  release(): void {
    const { queue } = this;
    while (this.#count > 0) {
      this.#count--;
      queue?.untake(this.#chains[this.#count]!);
      this.#chains[this.#count] = null;
    }
    this.#room = 0;
  }

  /**
   * Puts a frame into buffers.
   *
   * @returns `DELIVERED`, `DROPPED` or `WAIT`
   */
  place(frame: Frame, mayWait: boolean): number {
    const { headerSize, mergeable } = this.#format;
    const total = headerSize + frame.length;
    while (this.#room < total) {
      const chain = this.#take(headerSize);
      if (
        chain !== null && this.#count === 0 && chain.writableLength >= total
      ) {
        this.#fillOne(chain, frame, total);
        return DELIVERED;
      }
      if (chain === null) {
        if (mayWait && mergeable && this.#count < this.#chains.length) {
          return WAIT;
        }
        this.release();
        this.#metrics.rxNoBuffer++;
        return DROPPED;
      }
      this.#chains[this.#count++] = chain;
      this.#room += chain.writableLength;
      if (!mergeable) break;
    }
    if (this.#room < total) {
      this.release();
      this.#metrics.rxTooLong++;
      return DROPPED;
    }
    this.#trim(total);
    this.#fill(frame, total);
    return DELIVERED;
  }

  /** The next buffer that can be used. */
  #take(headerSize: number): DescriptorChain | null {
    const { queue } = this;
    if (queue === null || this.#count === this.#chains.length) return null;
    for (let left = BAD_BUDGET; left > 0; left--) {
      const chain = queue.take();
      if (chain === null) return null;
      if (
        chain.writableLength >= headerSize && !chain.truncated &&
        chain.count <= this.#segments
      ) return chain;
      // What was taken before it could not be given back any more.
      while (this.#count > 0) this.#refuse(this.#chains[--this.#count]!);
      this.#room = 0;
      this.#refuse(chain);
    }
    return null;
  }

  #refuse(chain: DescriptorChain): void {
    this.queue!.complete(chain, 0);
    this.#metrics.rxBadBuffer++;
  }

  /** Gives back what a longer frame had taken. */
  #trim(total: number): void {
    while (this.#count > 1) {
      const last = this.#chains[this.#count - 1]!;
      if (this.#room - last.writableLength < total) return;
      this.#room -= last.writableLength;
      this.#chains[--this.#count] = null;
      this.queue!.untake(last);
    }
  }

  /** Puts a frame into one buffer, as nearly all are. */
  #fillOne(chain: DescriptorChain, frame: Frame, total: number): void {
    const { headerSize, checksums } = this.#format;
    const { header, length, lead } = frame;
    if (!checksums) header.flags &= ~HDR_F_DATA_VALID;
    header.encode(lead, 1);
    if (
      headerSize === HEADER_SIZE && length > START_SIZE &&
      writeHead(chain, lead, HEADER_WORDS + START_WORDS, this.#words, 0)
    ) frame.copyTo(this.#words, START_SIZE, length - START_SIZE);
    else {
      chain.write(0, frame.headerBytes, 0, headerSize);
      chain.iovec(this.#words, 0, this.#segments, true, headerSize, length);
      frame.copyTo(this.#words, 0, length);
    }
    this.queue!.complete(chain, total);
    this.#metrics.rxFrames++;
    this.#metrics.rxBytes += length;
  }

  #fill(frame: Frame, total: number): void {
    const { headerSize, checksums } = this.#format;
    const { header } = frame;
    if (!checksums) header.flags &= ~HDR_F_DATA_VALID;
    header.encode(frame.lead, this.#count);
    this.#chains[0]!.write(0, frame.headerBytes, 0, headerSize);
    let done = 0, position = headerSize;
    for (let i = 0; i < this.#count; i++) {
      const chain = this.#chains[i]!;
      const room = chain.writableLength - position;
      const left = total - headerSize - done;
      const piece = room < left ? room : left;
      if (piece > 0) {
        chain.iovec(this.#words, 0, this.#segments, true, position, piece);
        frame.copyTo(this.#words, done, piece);
      }
      this.queue!.complete(chain, position + piece);
      this.#chains[i] = null;
      done += piece;
      position = 0;
    }
    this.#count = 0;
    this.#room = 0;
    this.#metrics.rxFrames++;
    this.#metrics.rxBytes += frame.length;
  }
}
