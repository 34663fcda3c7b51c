/**
 * The one error class of the storage layer.
 *
 * Only opening, locking and resizing throw; operations on an open storage
 * answer with a negative errno through the completion, never with an exception.
 *
 * @module
 */

/**
 * Why an image cannot be served.
 *
 * - `not-found`: there is no such file
 * - `permission`: it may not be read, or not be written
 * - `not-a-disk`: a directory, a pipe, a character device
 * - `size`: empty, too large, or no multiple of the block size
 * - `format`: it is an image of another format, or compressed
 * - `block-size`: the block size does not fit the medium
 * - `direct`: the file system has no direct I/O
 * - `locked`: another process uses it, or the host itself
 * - `system`: any other failure of a system call
 */
export type StorageErrorKind =
  | "not-found"
  | "permission"
  | "not-a-disk"
  | "size"
  | "format"
  | "block-size"
  | "direct"
  | "locked"
  | "system";

/** An image that cannot be served. */
export class StorageError extends Error {
  /** Stable reason. */
  readonly kind: StorageErrorKind;
  /** Path of the image, as it was given. */
  readonly path: string;

  /**
   * Makes an error whose message is `Cannot serve "<path>": <reason>`.
   *
   * @param reason the value, and what would be right, without a full stop
   */
  constructor(
    kind: StorageErrorKind,
    path: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`Cannot serve "${path}": ${reason}`, options);
    this.name = "StorageError";
    this.kind = kind;
    this.path = path;
  }
}
