import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a string contains another.
 *
 * @param actual The string found.
 * @param expected The part it must contain.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When it does not contain the part.
 */
export function assertStringIncludes(
  actual: string,
  expected: string,
  msg?: string,
): void {
  if (actual.includes(expected)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to contain: "${expected}"${suffix(msg)}`,
  );
}
