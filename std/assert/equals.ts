import { describeDifference } from "./_diff.ts";
import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";
import { equal } from "./equal.ts";

/**
 * Asserts that two values are deeply equal, by the rules of {@linkcode equal}.
 *
 * @param actual The value found.
 * @param expected The value that would be right.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When they are not; the message shows where.
 */
export function assertEquals<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (equal(actual, expected)) return;
  throw new AssertionError(
    `Values are not equal${suffix(msg)}\n${
      describeDifference(actual, expected)
    }`,
  );
}
