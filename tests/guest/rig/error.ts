/**
 * The rig's errors.
 *
 * @module
 */

/** Why the rig cannot do its work. */
export type RigErrorKind =
  | "platform"
  | "download"
  | "locked"
  | "missing-file"
  | "format"
  | "guest";

/** A failure of the rig, not of what is tested with it. */
export class RigError extends Error {
  /**
   * What class of failure this is; stable. `platform`: this system lacks
   * something that the message names. `download`: packages could not be
   * fetched. `locked`: another run holds the cache. `missing-file`: a package
   * lacks a file. `format`: a file is not what it should be. `guest`: a
   * guest did not come to the end of its script.
   */
  readonly kind: RigErrorKind;

  /**
   * @param kind what class of failure this is
   * @param message what cannot be done, why, and what would be right
   */
  constructor(kind: RigErrorKind, message: string) {
    super(message);
    this.name = "RigError";
    this.kind = kind;
  }
}
