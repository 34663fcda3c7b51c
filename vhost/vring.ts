/**
 * The state of one ring, as the messages of the front-end make it.
 *
 * Theory of operation: started and enabled are independent. A ring is started
 * by `SET_VRING_KICK` and stopped by `GET_VRING_BASE`; it is enabled and
 * disabled by `SET_VRING_ENABLE`, which is remembered while it is stopped. It
 * runs (in the data plane) while it is started and enabled, knows its size and
 * its addresses, and these lie in memory that is there. Whatever of this
 * changes, `rings.ts` starts or stops it.
 *
 * @module
 */

import type { OwnedFd } from "../sys/fd.ts";

/** Where the parts of a ring are, in user addresses. */
export interface RingAddresses {
  /** Descriptor table. */
  readonly descriptor: number;
  /** Available ring. */
  readonly available: number;
  /** Used ring. */
  readonly used: number;
}

/** Lengths in bytes of the parts of a ring. */
export interface RingLengths {
  /** Descriptor table, or descriptor ring. */
  readonly descriptor: number;
  /** Available ring, or driver event suppression structure. */
  readonly available: number;
  /** Used ring, or device event suppression structure. */
  readonly used: number;
}

/**
 * How long the parts of a ring are. Source: virtio 1.4, sections 2.7 and 2.8.
 *
 * @param eventIdx `VIRTIO_F_EVENT_IDX` is negotiated: two bytes more each in a
 * split ring
 * @param packed `VIRTIO_F_RING_PACKED` is negotiated
 */
export function ringLengths(
  size: number,
  eventIdx: boolean,
  packed = false,
): RingLengths {
  if (packed) return { descriptor: 16 * size, available: 4, used: 4 };
  const event = eventIdx ? 2 : 0;
  return {
    descriptor: 16 * size,
    available: 4 + 2 * size + event,
    used: 4 + 8 * size + event,
  };
}

/** One ring. Owns its descriptors. */
export class Vring {
  /** Queue index. */
  readonly index: number;
  /** Number of entries; 0 before `SET_VRING_NUM`. */
  size = 0;
  /**
   * Where to go on, as `SET_VRING_BASE` says it: the next entry of the available
   * ring, of a packed ring both positions. Out of date while the ring runs.
   */
  position = 0;
  /**
   * It stopped with requests that only the area has in which they are tracked: no
   * position says where to go on.
   */
  adrift = false;
  /** The position as the front-end said it last. */
  known = 0;
  /** What `GET_VRING_BASE` was answered with last; `null`: nothing yet. */
  reported: number | null = null;
  /** `null` before `SET_VRING_ADDR`. */
  addresses: RingAddresses | null = null;
  /** Guest address at which the used ring is logged; -1: it is not. */
  usedLog = -1;
  /** `SET_VRING_ENABLE`. */
  enabled = false;
  /** `SET_VRING_KICK` came, and `GET_VRING_BASE` did not since. */
  started = false;
  /** The data plane was asked to serve the ring, and has not answered. */
  starting = false;
  /** The data plane serves the ring. */
  running = false;
  /** While it runs: its requests are noted in the area that the front-end has. */
  tracked = false;
  #kick: OwnedFd | null = null;
  #call: OwnedFd | null = null;
  #error: OwnedFd | null = null;

  /** A ring that is stopped, disabled and not configured. */
  constructor(index: number) {
    this.index = index;
  }

  /** Number of the kick descriptor; -1: there is none. */
  get kickFd(): number {
    return this.#kick?.fd ?? -1;
  }

  /** Number of the call descriptor; -1: there is none. */
  get callFd(): number {
    return this.#call?.fd ?? -1;
  }

  /** Number of the error descriptor; -1: there is none. */
  get errorFd(): number {
    return this.#error?.fd ?? -1;
  }

  /** The front-end did all that is needed to run the ring, memory aside. */
  get configured(): boolean {
    return this.started && this.enabled && this.size > 0 &&
      this.addresses !== null;
  }

  /** Replaces the kick descriptor, closing the old one, and starts the ring. */
  start(kick: OwnedFd | null): void {
    this.#kick?.close();
    this.#kick = kick;
    this.started = true;
  }

  /** The ring is stopped; a new kick descriptor starts it again. */
  stop(): void {
    this.#kick?.close();
    this.#kick = null;
    this.started = false;
  }

  /**
   * Replaces the call descriptor.
   *
   * @param call taken over
   * @returns the old one, for the caller to close when nobody uses it any more
   */
  setCall(call: OwnedFd | null): OwnedFd | null {
    const old = this.#call;
    this.#call = call;
    return old;
  }

  /** Replaces the error descriptor; as {@linkcode Vring.setCall}. */
  setError(error: OwnedFd | null): OwnedFd | null {
    const old = this.#error;
    this.#error = error;
    return old;
  }

  /**
   * Back to the initial state, but for the call and error descriptors, which
   * front-ends hand over once at connect. The ring does not run.
   */
  reset(): void {
    this.stop();
    this.size = 0;
    this.position = 0;
    this.adrift = false;
    this.known = 0;
    this.reported = null;
    this.addresses = null;
    this.usedLog = -1;
    this.enabled = false;
  }

  /** Closes all descriptors. The ring does not run. */
  close(): void {
    this.stop();
    this.setCall(null)?.close();
    this.setError(null)?.close();
  }
}
