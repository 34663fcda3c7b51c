/**
 * Errors of network backends.
 *
 * @module
 */

/** Why a backend cannot be had. */
export type NetBackendErrorKind =
  /** The program cannot be found or started. */
  | "program"
  /** Nobody listens on the socket. */
  | "connect"
  /** The TAP cannot be opened. */
  | "tap"
  /** The capture file cannot be written. */
  | "capture";

/** A backend that cannot be had. */
export class NetBackendError extends Error {
  /** Stable reason. */
  readonly kind: NetBackendErrorKind;

  /** Makes an error of a kind. */
  constructor(
    kind: NetBackendErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "NetBackendError";
    this.kind = kind;
  }
}
