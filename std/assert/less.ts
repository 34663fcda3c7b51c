import { format } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a value is less than another, by the operator `<`.
 *
 * @param actual The value found.
 * @param expected The value to compare it with.
 * @param msg The whole message of the error, instead of the generated one.
 * @throws {AssertionError} When it is not.
 */
export function assertLess<T>(
  actual: T,
  expected: T,
  msg?: string,
): void {
  if (actual < expected) return;
  throw new AssertionError(
    msg ?? `Expect ${format(actual)} < ${format(expected)}`,
  );
}
