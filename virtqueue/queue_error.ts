/**
 * The error class of the queue layer.
 *
 * @module
 */

import type { DescriptorChain } from "./chain.ts";
import type { VirtQueue } from "./queue.ts";

/** Why a queue cannot be made, or was used wrongly. */
export type QueueErrorKind =
  | "invalid-size"
  | "invalid-option"
  | "unaligned-ring"
  | "ring-outside-memory"
  | "not-in-flight"
  | "invalid-length"
  | "untake-order"
  | "not-tracked"
  | "inflight-area";

/** A queue that cannot be made, or a wrong call (a bug of the caller). */
export class QueueError extends Error {
  /** Stable reason. */
  readonly kind: QueueErrorKind;

  /** Makes an error of a kind. */
  constructor(kind: QueueErrorKind, message: string) {
    super(message);
    this.name = "QueueError";
    this.kind = kind;
  }
}

/** A chain that does not belong to the queue that is asked to end it. */
export function notInFlight(queue: number, head: number): QueueError {
  return new QueueError(
    "not-in-flight",
    `Cannot end chain ${head} on queue ${queue}: it is not in flight there`,
  );
}

/** A chain that is completed with more bytes than it has room for. */
export function lengthDoesNotFit(
  queue: number,
  head: number,
  written: number,
  room: number,
): QueueError {
  return new QueueError(
    "invalid-length",
    `Cannot complete chain ${head} of queue ${queue}: ` +
      `${written} bytes do not fit into ${room}`,
  );
}

/** A chain that is given back although another one was taken after it. */
export function notTakenLast(queue: number, head: number): QueueError {
  return new QueueError(
    "untake-order",
    `Cannot give back chain ${head} of queue ${queue}: ` +
      `it is not the one that was taken last`,
  );
}

/**
 * A chain that is to stay in flight: it must be, and a successor must learn of it.
 *
 * @throws {QueueError} of kind `not-in-flight`, `not-tracked`
 */
export function requireTracked(
  queue: VirtQueue,
  chain: DescriptorChain,
  tracked: boolean,
): void {
  const { index } = queue;
  if (!chain.taken || chain.queue !== queue) {
    throw notInFlight(index, chain.head);
  }
  if (tracked) return;
  throw new QueueError(
    "not-tracked",
    `Cannot leave chain ${chain.head} of queue ${index} in flight: ` +
      "requests are not tracked there",
  );
}
