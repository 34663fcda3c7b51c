import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a value is truthy, and narrows its type.
 *
 * @param expr The value to test.
 * @param msg The whole message of the error, empty by default.
 * @throws {AssertionError} When `expr` is falsy.
 */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}
