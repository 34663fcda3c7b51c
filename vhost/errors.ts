/**
 * The one error class of this layer, and what each kind of error leads to.
 *
 * @module
 */

import { messageName } from "./constants.ts";

/**
 * What a failed request leads to:
 *
 * - `drop`: the stream of messages cannot be trusted or followed any more, or
 *   nothing else can tell the front-end: the connection is closed.
 * - `refuse`: answered with a non-zero reply when the front-end asked for one,
 *   else the connection is closed, because the front-end relies on it.
 * - `ignore`: answered with a non-zero reply when the front-end asked for one,
 *   else logged and counted: the state of both sides still agrees.
 */
export type Consequence = "drop" | "refuse" | "ignore";

/** Stable names of what can go wrong between a front-end and a session. */
export type ProtocolErrorKind =
  | "version"
  | "unexpected-reply"
  | "payload-limit"
  | "too-many-fds"
  | "truncated"
  | "unanswerable"
  | "payload-size"
  | "fd-count"
  | "fd-kind"
  | "value"
  | "features"
  | "not-negotiated"
  | "ring-index"
  | "ring-size"
  | "ring-address"
  | "ring-busy"
  | "ring-start"
  | "memory-range"
  | "memory-overlap"
  | "memory-slots"
  | "memory-map"
  | "memory-unknown"
  | "inflight-area"
  | "log-area"
  | "device"
  | "unsupported";

const CONSEQUENCES: Readonly<Record<ProtocolErrorKind, Consequence>> = {
  // Framing.
  "version": "drop",
  "unexpected-reply": "drop",
  "payload-limit": "drop",
  "too-many-fds": "drop",
  "truncated": "drop",
  // A request that demands an answer which cannot be given.
  "unanswerable": "drop",
  // Contents.
  "payload-size": "refuse",
  "fd-count": "refuse",
  "fd-kind": "refuse",
  "value": "refuse",
  "features": "refuse",
  "not-negotiated": "refuse",
  // Rings.
  "ring-index": "refuse",
  "ring-size": "refuse",
  "ring-address": "refuse",
  "ring-busy": "refuse",
  "ring-start": "refuse",
  // Memory.
  "memory-range": "refuse",
  "memory-overlap": "refuse",
  "memory-slots": "refuse",
  "memory-map": "refuse",
  "memory-unknown": "ignore",
  // Inflight tracking.
  "inflight-area": "refuse",
  // The dirty log.
  "log-area": "refuse",
  // The device says no to a command; it goes on as it was.
  "device": "ignore",
  // Not for this back-end.
  "unsupported": "ignore",
};

/**
 * A front-end broke a rule of vhost-user, or asked for what is not served.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ProtocolError } from "./errors.ts";
 *
 * const error = new ProtocolError("ring-size", 8, "ring size 3 is not a power of two");
 * assertEquals(
 *   error.message,
 *   "Cannot serve VHOST_USER_SET_VRING_NUM: ring size 3 is not a power of two",
 * );
 * assertEquals(error.consequence, "refuse");
 * ```
 */
export class ProtocolError extends Error {
  /** Name of the class. */
  override readonly name = "ProtocolError";
  /** What went wrong. */
  readonly kind: ProtocolErrorKind;
  /** Number of the message at fault; `null` before its header is known. */
  readonly request: number | null;

  /**
   * An error about a message.
   *
   * @param request number of the message at fault, `null` before it is known
   * @param reason what is wrong with it, with the value and what would be right
   */
  constructor(
    kind: ProtocolErrorKind,
    request: number | null,
    reason: string,
    options?: ErrorOptions,
  ) {
    const what = request === null ? "a message" : messageName(request);
    super(`Cannot serve ${what}: ${reason}`, options);
    this.kind = kind;
    this.request = request;
  }

  /** What the error leads to. */
  get consequence(): Consequence {
    return CONSEQUENCES[this.kind];
  }
}
