import { checkThrown, expectation } from "./_expectation.ts";
import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value &&
    typeof value.then === "function";
}

/**
 * Asserts that a function returns a promise that is rejected, whatever with.
 *
 * @param fn The function to call.
 * @param msg Words to add to the message.
 * @returns What the promise was rejected with.
 * @throws {AssertionError} When the promise is fulfilled, or the function
 * throws or returns no promise.
 */
export function assertRejects(
  fn: () => PromiseLike<unknown>,
  msg?: string,
): Promise<unknown>;
/**
 * Asserts that a function returns a promise that is rejected with an error of
 * a class whose message contains a text.
 *
 * @param fn The function to call.
 * @param ErrorClass The class, which may be abstract.
 * @param msgIncludes The text, anything when not given.
 * @param msg Words to add to the message.
 * @returns The error.
 * @throws {AssertionError} When the promise is fulfilled or rejected with
 * another thing, or the function throws or returns no promise.
 */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  // deno-lint-ignore no-explicit-any
  ErrorClass: abstract new (...args: any[]) => E,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClassOrMsg?:
    // deno-lint-ignore no-explicit-any
    | (abstract new (...args: any[]) => E)
    | string,
  msgIncludesOrMsg?: string,
  msg?: string,
): Promise<E | Error | unknown> {
  const expected = expectation(errorClassOrMsg, msgIncludesOrMsg, msg);
  let promise: unknown;
  try {
    promise = fn();
  } catch {
    promise = undefined;
  }
  if (!isThenable(promise)) {
    throw new AssertionError(
      `Function throws when expected to reject${suffix(expected.msg)}`,
    );
  }
  try {
    await promise;
  } catch (rejected) {
    checkThrown(rejected, expected, "rejected");
    return rejected;
  }
  throw new AssertionError(
    `Expected function to reject${suffix(expected.msg)}`,
  );
}
