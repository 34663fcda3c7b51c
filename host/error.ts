/**
 * The errors of the host: what a person who runs the command can put right.
 *
 * @module
 */

/**
 * What kind of thing went wrong:
 *
 * - `usage`: the command line or the config file is wrong (exit code 2)
 * - `start`: what was asked for is right but cannot be had (exit code 1)
 * - `device`: a device failed, or refused a command
 * - `management`: the management socket failed or misbehaves
 */
export type HostErrorKind = "usage" | "start" | "device" | "management";

/** An error of the host; its message is one line for people. */
export class HostError extends Error {
  /** What kind of thing went wrong. */
  readonly kind: HostErrorKind;

  /** Makes an error. */
  constructor(kind: HostErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "HostError";
    this.kind = kind;
  }
}

/** What an error says, in one line. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s*\n\s*/g, "; ");
}
