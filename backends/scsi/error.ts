/**
 * Errors of SCSI hosts.
 *
 * @module
 */

/** Why a logical unit cannot be added, changed or removed. */
export type ScsiLunErrorKind =
  /** There is one already: its place, its image or its name is taken. */
  | "exists"
  /** There is none. */
  | "missing"
  /** Its medium cannot be changed: it is not removable. */
  | "fixed"
  /** Its medium is being changed at the moment. */
  | "busy"
  /** It is another kind of unit than was asked for. */
  | "differs";

/** A logical unit that cannot be added, changed or removed. */
export class ScsiLunError extends Error {
  /** Stable reason. */
  readonly kind: ScsiLunErrorKind;

  /** Makes an error of a kind. */
  constructor(kind: ScsiLunErrorKind, message: string) {
    super(message);
    this.name = "ScsiLunError";
    this.kind = kind;
  }
}
