/**
 * The event queue: what a device tells of its own accord.
 *
 * Theory of operation. Events wait in a short list until the driver provides
 * buffers; buffers are taken when there is an event, not before, so none is in
 * flight while nothing happens. When the list is full, events are lost, and the
 * next one that is delivered says so: the driver then looks at everything again.
 *
 * Source: virtio 1.4, section 5.6.6.3.
 *
 * @module
 */

import type { DeviceContext, VirtQueue } from "../../virtqueue/device.ts";
import type { ScsiMetrics } from "./metrics.ts";
import { EVENT_SIZE, EVENTS_MISSED } from "./protocol.ts";
import { encodeLun } from "./target/bus.ts";

/** Events that wait at most. */
export const MOST_WAITING = 32;

/** Buffers without room for an event that one call passes: others wait meanwhile. */
const BAD_BUDGET = 32;

/** The LUN field of a logical unit of a target. */
export function lunField(target: number, lun: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  bytes[0] = 1;
  bytes[1] = target;
  bytes.set(encodeLun(lun).subarray(0, 2), 2);
  return bytes;
}

/** The events of a device. */
export class EventQueue {
  readonly #context: DeviceContext;
  readonly #metrics: ScsiMetrics;
  readonly #waiting: Uint8Array<ArrayBuffer>[] = [];
  #missed = false;
  #queue: VirtQueue | null = null;

  /** Makes an empty list. */
  constructor(context: DeviceContext, metrics: ScsiMetrics) {
    this.#context = context;
    this.#metrics = metrics;
  }

  /** Tells the driver, now or when it has a buffer. */
  raise(event: number, lun: Uint8Array, reason: number): void {
    if (this.#waiting.length === MOST_WAITING) {
      this.#missed = true;
      this.#metrics.eventsMissed++;
      return;
    }
    const bytes = new Uint8Array(EVENT_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, event, true);
    bytes.set(lun, 4);
    view.setUint32(12, reason, true);
    this.#waiting.push(bytes);
    if (this.#queue !== null) this.#context.resume(this.#queue);
  }

  /** Puts events into the buffers that there are; false: there is none to put. */
  serve(queue: VirtQueue): boolean {
    this.#queue = queue;
    let refused = 0;
    while (this.#waiting.length > 0) {
      const chain = queue.take();
      if (chain === null) return true;
      if (chain.writableLength < EVENT_SIZE) {
        this.#metrics.malformed++;
        queue.complete(chain, 0);
        if (++refused === BAD_BUDGET) return true;
        continue;
      }
      const bytes = this.#waiting.shift()!;
      if (this.#missed) bytes[3] |= EVENTS_MISSED >>> 24;
      this.#missed = false;
      chain.write(0, bytes);
      this.#metrics.events++;
      queue.complete(chain, EVENT_SIZE);
    }
    return false;
  }

  /** The queue stops. */
  stop(): void {
    this.#queue = null;
  }

  /** Forgets everything. */
  reset(): void {
    this.#waiting.length = 0;
    this.#missed = false;
  }
}
