import { describeDifference } from "./_diff.ts";
import { format, paint, suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that two values are the same one by `Object.is`, and narrows the
 * type of the first to that of the second.
 *
 * @param actual The value found.
 * @param expected The value that would be right.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When they are not the same.
 */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  const found = format(actual);
  if (found === format(expected)) {
    const indented = found.replaceAll(/^/gm, "    ");
    throw new AssertionError(
      `Values have the same structure but are not reference-equal${
        suffix(msg)
      }\n\n${paint(indented, "red")}\n`,
    );
  }
  throw new AssertionError(
    `Values are not strictly equal${suffix(msg)}\n${
      describeDifference(actual, expected)
    }`,
  );
}
