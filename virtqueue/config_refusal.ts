/**
 * A device that refuses what its driver wrote into its configuration space.
 *
 * @module
 */

const KIND = "config-refused";

/** A value that a device cannot have now; nothing changed. */
export class ConfigRefusal extends Error {
  /** Stable reason. */
  readonly kind = KIND;

  /** @param reason the field, and why it stays what it is */
  constructor(reason: string) {
    super(reason);
    this.name = "ConfigRefusal";
  }
}

/**
 * Whether an error is a {@linkcode ConfigRefusal}, or came of one in another
 * Worker: there its `kind` is all that is left of its class.
 */
export function isConfigRefusal(error: unknown): error is Error {
  return error instanceof Error && "kind" in error && error.kind === KIND;
}
