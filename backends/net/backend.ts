/**
 * The port between a network device and what its frames go to.
 *
 * Theory of operation: both sides run in the loop of the device and call each
 * other directly. A frame is an object that its maker uses again, so whoever is
 * handed one is done with it when the call returns. Towards the guest there are
 * two ways: a backend that can wait (its frames queue up elsewhere, in a TAP or
 * a socket) is asked for frames when the guest has room for them
 * ({@linkcode NetBackend.receive}); one that cannot delivers as frames come, and
 * what finds no room is dropped and counted.
 *
 * @module
 */

import type { Frame } from "./frame.ts";

/** {@linkcode NetPort.deliver}: the guest has it. */
export const DELIVERED = 0;
/** {@linkcode NetPort.deliver}: dropped, and counted. */
export const DROPPED = 1;
/** {@linkcode NetPort.deliver}: to be delivered again when the guest made room. */
export const WAIT = 2;

/** {@linkcode NetBackend.send}: done with, sent or dropped and counted. */
export const SENT = 0;
/** {@linkcode NetBackend.send}: try again after {@linkcode NetPort.sendable}. */
export const BUSY = 1;

/** The device, as a backend sees it. */
export interface NetPort {
  /**
   * Hands a frame to the guest.
   *
   * @param pair preferred queue pair; any number
   * @param mayWait the backend keeps the frame when the answer is
   * {@linkcode WAIT}
   * @returns {@linkcode DELIVERED}, {@linkcode DROPPED} or {@linkcode WAIT}
   */
  deliver(frame: Frame, pair: number, mayWait: boolean): number;
  /** There are frames to {@linkcode NetBackend.receive} for a pair. */
  receivable(pair: number): void;
  /**
   * Sending is possible again; or it was not for a while, and who waits is to
   * look whether he waited long enough.
   */
  sendable(): void;
  /** The link of the backend went up or down. */
  linkChanged(): void;
}

/** Where frames go to and come from. */
export interface NetBackend {
  /** What it is, for people. */
  readonly description: string;
  /** What may be undone in frames that it is sent: a set of `Offload`. */
  readonly takes: number;
  /** What may be undone in frames that it delivers, once that was agreed. */
  readonly gives: number;
  /** Most queue pairs that it serves. */
  readonly maxPairs: number;
  /** Frames of one queue that it is to be sent in one turn (default: the host's). */
  readonly burst?: number | undefined;
  /** Frames can be exchanged. */
  readonly linkUp: boolean;

  /** The device is there; called once, before anything else. */
  attach(port: NetPort): void;
  /** What the guest takes unfinished, from now on: a set of `Offload`. */
  setOffloads(offloads: number): void;
  /** Number of queue pairs that the guest uses, from now on (at least 1). */
  setPairs(pairs: number): void;

  /**
   * Takes a frame from the guest.
   *
   * @returns {@linkcode SENT} or {@linkcode BUSY}
   */
  send(frame: Frame, pair: number): number;

  /**
   * Delivers frames that wait for a pair.
   *
   * @param budget most frames
   * @returns whether there may be more
   */
  receive(pair: number, budget: number): boolean;

  /**
   * Called once a turn.
   *
   * @returns number of frames moved.
   */
  poll?(): number;

  /** Facts and counters: a JSON object. */
  status(): Record<string, unknown>;
  /** Gives everything back. */
  close(): void;
}
