/**
 * What a device must not do with a queue.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { QueueError } from "../queue_error.ts";

/** Asserts that an act is refused with a {@linkcode QueueError} of a kind. */
export function assertMisuse(kind: string, act: () => void): void {
  assertEquals(assertThrows(act, QueueError).kind, kind);
}
