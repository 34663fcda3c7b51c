/**
 * The error class of the queue layer.
 *
 * @module
 */

/** Why a queue cannot be made, or was used wrongly. */
export type QueueErrorKind =
  | "invalid-size"
  | "invalid-option"
  | "unaligned-ring"
  | "ring-outside-memory"
  | "not-in-flight"
  | "invalid-length"
  | "untake-order"
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
