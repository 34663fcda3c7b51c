/**
 * The two faces of a virtqueue: {@linkcode VirtQueue} is what a device sees,
 * {@linkcode RunningQueue} what the data loop that owns the queue sees. Split
 * and packed rings implement the same two, so neither devices nor the loop
 * know which layout the driver chose.
 *
 * @module
 */

import type { DescriptorChain } from "./chain.ts";
import type { DirtyLog } from "./dirty_log.ts";

/**
 * A virtqueue as a device sees it: take chains, complete chains.
 *
 * Source: virtio 1.4, section 2.6 (virtqueues).
 */
export interface VirtQueue {
  /** Index of the queue in its device, from 0. */
  readonly index: number;
  /** Number of entries of the ring (1 to 32768). */
  readonly size: number;
  /** Chains that were taken and are not completed yet. */
  readonly inFlight: number;
  /**
   * Chains that were taken and whose answers will not be visible when this turn is
   * published: those in flight, and where the driver negotiated IN_ORDER those that
   * wait for one which was taken before.
   */
  readonly unanswered: number;
  /**
   * Position in the available ring (0 to 65535) from which a restarted ring goes
   * on; 0 is where a ring begins after a reset. Only meaningful with nothing in
   * flight.
   */
  readonly position: number;

  /**
   * Takes the next chain that the driver made available.
   *
   * A chain that breaks a rule of the specification never reaches the device:
   * it is answered with length 0, counted, and the next one is looked at.
   *
   * The returned object belongs to the device until {@linkcode complete} or
   * {@linkcode untake}; objects are pooled, so it must not be kept after that.
   *
   * @returns the chain, or `null` when nothing is available or every chain
   * object of the queue is in flight.
   */
  take(): DescriptorChain | null;

  /**
   * Hands a chain back to the driver. The driver sees it when the loop
   * publishes, at the latest at the end of the current turn.
   *
   * @param written bytes written to the device-writable part, from its start.
   */
  complete(chain: DescriptorChain, written: number): void;

  /**
   * Undoes {@linkcode take} of the chain that was taken last: it will be taken
   * again, by this device or by the one that comes after a restart. Chains are
   * given back in the reverse order of their taking.
   */
  untake(chain: DescriptorChain): void;

  /**
   * Gives the object of a chain up without an answer: the request stays in flight,
   * and the next queue on this ring takes it, by the area in which requests are
   * tracked. To be called when the ring is being suspended
   * (`suspend` of `VirtioDevice`), and nothing touches the chain's buffers any
   * more. All of its writable part counts as written.
   *
   * @throws {QueueError} of kind `not-tracked` where nobody tracks requests
   */
  abandon(chain: DescriptorChain): void;
}

/** What a queue counts, for people; every field only grows. */
export interface QueueCounters {
  /** Chains handed back to the driver, answered errors included. */
  completed: number;
  /** Chains that broke a rule and were answered with length 0. */
  badChains: number;
  /** Used-buffer notifications that the driver wanted, or gets in any case. */
  notifications: number;
  /** Available-buffer notifications that arrived. */
  kicks: number;
}

/** Counters of a queue that has done nothing yet. */
export function noCounters(): QueueCounters {
  return { completed: 0, badChains: 0, notifications: 0, kicks: 0 };
}

/**
 * A virtqueue as the loop sees it that runs the queue.
 *
 * The order of one turn is fixed: take and complete (in the device), then
 * {@linkcode publish}, then signal when it says so, and before sleeping
 * {@linkcode enableNotification}, which tells whether something came meanwhile.
 */
export interface RunningQueue extends VirtQueue {
  /** True while the ring holds chains that were not taken. */
  readonly available: boolean;
  /** True when a chain could be taken now: available, and a chain object is free. */
  readonly ready: boolean;
  /**
   * Why the ring is not served any more, or `null`. Set when the ring itself
   * (not one chain) is corrupt; cleared by a restart of the ring only.
   */
  readonly broken: string | null;
  /** The last chain error, for people, or `null`. */
  readonly lastError: string | null;
  /**
   * Where a restarted ring goes on, in the terms of its layout: the value of
   * `VHOST_USER_GET_VRING_BASE`. Only meaningful with nothing in flight. -1 where
   * there is no such place: of what a predecessor had taken, some is left that
   * stands in the ring no more.
   */
  readonly base: number;
  /**
   * As {@linkcode RunningQueue.base}, of a ring that stops with requests in flight:
   * behind all that was taken and not given back.
   */
  readonly suspendedBase: number;
  /** What was counted since the ring started. */
  readonly counters: QueueCounters;
  /**
   * Number of chains that a predecessor had taken and that were not taken again.
   * They are not in the available ring any more.
   */
  readonly recovering: number;

  /**
   * Makes all completions visible to the driver.
   *
   * @returns whether the driver is to be notified of them: it asked for it, or
   * the device always notifies.
   */
  publish(): boolean;
  /**
   * Asks the driver for available-buffer notifications.
   *
   * @returns true when chains arrived before the driver could see the request:
   * serve again instead of sleeping.
   */
  enableNotification(): boolean;
  /** Tells the driver that no available-buffer notification is needed now. */
  disableNotification(): void;
  /**
   * Logs writes to guest memory from now on: the device-writable part of each
   * chain before it is answered, and the used ring.
   *
   * @param log where to; `null`: nothing is logged any more
   * @param usedRing guest address at which the first byte of the used ring is
   * logged; -1: the used ring is not
   */
  logWrites(log: DirtyLog | null, usedRing: number): void;
}
