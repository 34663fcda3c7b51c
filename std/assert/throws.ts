import { checkThrown, expectation } from "./_expectation.ts";
import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a function throws, whatever it is.
 *
 * @param fn The function to call.
 * @param msg Words to add to the message.
 * @returns What was thrown.
 * @throws {AssertionError} When the function returns.
 */
export function assertThrows(
  fn: () => unknown,
  msg?: string,
): unknown;
/**
 * Asserts that a function throws an error of a class whose message contains a
 * text.
 *
 * @param fn The function to call.
 * @param ErrorClass The class, which may be abstract.
 * @param msgIncludes The text, anything when not given.
 * @param msg Words to add to the message.
 * @returns The error.
 * @throws {AssertionError} When the function returns, or throws another thing.
 */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  // deno-lint-ignore no-explicit-any
  ErrorClass: abstract new (...args: any[]) => E,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClassOrMsg?:
    // deno-lint-ignore no-explicit-any
    | (abstract new (...args: any[]) => E)
    | string,
  msgIncludesOrMsg?: string,
  msg?: string,
): E | Error | unknown {
  const expected = expectation(errorClassOrMsg, msgIncludesOrMsg, msg);
  try {
    fn();
  } catch (thrown) {
    checkThrown(thrown, expected, "thrown");
    return thrown;
  }
  throw new AssertionError(
    `Expected function to throw${suffix(expected.msg)}`,
  );
}
