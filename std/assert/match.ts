import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a string matches a regular expression.
 *
 * @param actual The string found.
 * @param expected The expression it must match.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When it does not match.
 */
export function assertMatch(
  actual: string,
  expected: RegExp,
  msg?: string,
): void {
  if (expected.test(actual)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to match: "${expected}"${suffix(msg)}`,
  );
}
