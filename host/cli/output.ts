/**
 * What the command prints on its standard output.
 *
 * @module
 */

import { HostError, messageOf } from "../error.ts";

/**
 * Prints a text and a line feed.
 *
 * @throws {HostError} of kind `start` when nobody takes it: the disk is full, or
 * the reader of a pipe is gone
 */
export function print(text: string): void {
  try {
    console.log(text);
  } catch (error) {
    const reason = messageOf(error).replace(/ \(os error \d+\)$/, "");
    throw new HostError(
      "start",
      `Cannot write to the standard output: ${reason}`,
      { cause: error },
    );
  }
}
