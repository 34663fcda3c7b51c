/**
 * The way of frames from the driver to the backend.
 *
 * Theory of operation: the virtio header is read once, into a private copy, and
 * judged; a frame that is not in order is given back to the driver as if it had
 * been sent, and counted. A backend that is busy makes the ring wait, parked,
 * until it says that sending is possible again; one that stays busy for a second
 * loses frames from then on, since drivers take a transmit queue that does not
 * move for dead (FreeBSD's after 5 seconds).
 *
 * Source: virtio 1.4, section 5.1.6.2.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import type { VirtQueue } from "../../virtqueue/queue.ts";
import { BUSY, type NetBackend, SENT } from "./backend.ts";
import type { ConfigSpace } from "./config_space.ts";
import { Frame } from "./frame.ts";
import { HEADER_OK } from "./header.ts";
import type { NetMetrics } from "./metrics.ts";
import { LEGACY_HEADER_SIZE, MAX_FRAME, MIN_FRAME } from "./protocol.ts";
import type { FrameSink, SoftwareOffload } from "./software.ts";

/** How long a ring waits for a backend that is busy, in ms. */
const STALL_LIMIT = 1000;

/** What a {@linkcode Transmitter} works with. */
export interface TransmitterParts {
  /** Where frames go. */
  readonly backend: NetBackend;
  /** Knows whether the link is up. */
  readonly config: ConfigSpace;
  /** Counts. */
  readonly metrics: NetMetrics;
  /** Finishes what the backend does not take unfinished. */
  readonly software: SoftwareOffload;
  /** Number of transmit queues. */
  readonly pairs: number;
  /** Most pieces of a frame. */
  readonly segments: number;
}

/** Serves transmit queues. */
export class Transmitter implements FrameSink, Disposable {
  /** Bytes of the header, as negotiated: 10 or 12. */
  headerSize: number = LEGACY_HEADER_SIZE;
  /** What the driver may leave undone: a set of `Offload`. */
  offloads = 0;
  /** Queues that wait for the backend, by pair. */
  readonly stalled: (VirtQueue | null)[];
  readonly #parts: TransmitterParts;
  readonly #frame: Frame;
  /** Since when queues wait, in ms; 0: they do not. */
  readonly #since: Float64Array<ArrayBuffer>;
  // What became of a frame that was finished in software.
  #pair = 0;
  #result: number = SENT;

  /** Makes a transmitter for all pairs of a device. */
  constructor(parts: TransmitterParts) {
    this.#parts = parts;
    this.#frame = new Frame(parts.segments);
    this.stalled = new Array<VirtQueue | null>(parts.pairs).fill(null);
    this.#since = new Float64Array(parts.pairs);
  }

  /**
   * Sends what a queue holds.
   *
   * @returns false when the backend is busy
   */
  serve(queue: VirtQueue, pair: number, budget: number): boolean {
    this.stalled[pair] = null;
    for (let i = 0; i < budget; i++) {
      const chain = queue.take();
      if (chain === null) break;
      if (!this.#send(chain, pair) && this.#stall(queue, pair)) {
        queue.untake(chain);
        return false;
      }
      queue.complete(chain, 0);
    }
    return true;
  }

  /** The queue of a pair stops. */
  forget(pair: number): void {
    this.stalled[pair] = null;
    this.#since[pair] = 0;
  }

  /** A frame that was finished in software. */
  emit(frame: Frame): boolean {
    this.#result = this.#parts.backend.send(frame, this.#pair);
    return true;
  }

  /** Gives the memory back. */
  [Symbol.dispose](): void {
    this.#frame[Symbol.dispose]();
  }

  /** Sends or drops what a chain holds; false: the backend is busy. */
  #send(chain: DescriptorChain, pair: number): boolean {
    const { metrics, config } = this.#parts;
    const frame = this.#frame, headerSize = this.headerSize;
    const length = chain.readableLength - headerSize;
    if (length < 0) {
      metrics.txShortHeader++;
      return true;
    }
    if (length < MIN_FRAME) {
      metrics.txRunts++;
      return true;
    }
    if (
      length > MAX_FRAME || chain.truncated ||
      !frame.takeChain(chain, headerSize)
    ) {
      metrics.txGiants++;
      return true;
    }
    if (!config.linkUp) {
      metrics.txLinkDown++;
      return true;
    }
    const verdict = frame.header.check(length, this.offloads);
    if (verdict !== HEADER_OK) {
      metrics.refuseHeader(verdict);
      return true;
    }
    if (!this.#pass(frame, pair)) return false;
    this.#since[pair] = 0;
    metrics.txFrames++;
    metrics.txBytes += length;
    return true;
  }

  #pass(frame: Frame, pair: number): boolean {
    const { backend, software } = this.#parts;
    if ((frame.header.needs & ~backend.takes) === 0) {
      return backend.send(frame, pair) !== BUSY;
    }
    this.#pair = pair;
    this.#result = SENT;
    software.run(frame, backend.takes, this);
    return this.#result !== BUSY;
  }

  /** Notes that a queue waits; false when it waited long enough. */
  #stall(queue: VirtQueue, pair: number): boolean {
    const now = performance.now();
    if (this.#since[pair] === 0) this.#since[pair] = now;
    if (now - this.#since[pair] > STALL_LIMIT) {
      this.#parts.metrics.txStalled++;
      return false;
    }
    this.stalled[pair] = queue;
    return true;
  }
}
