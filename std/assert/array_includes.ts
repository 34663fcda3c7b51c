import { format, suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";
import { equal } from "./equal.ts";

/** Something with a length and elements (array, typed array) but no string. */
export type ArrayLikeArg<T> = ArrayLike<T> & object;

/**
 * Asserts that each element of one array is, by the rules of
 * {@linkcode equal}, an element of another.
 *
 * @param actual The array found.
 * @param expected The elements it must have, in any order.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When any is missing; the message names them.
 */
export function assertArrayIncludes<T>(
  actual: ArrayLikeArg<T>,
  expected: ArrayLikeArg<T>,
  msg?: string,
): void {
  const found = Array.from(actual);
  const missing = Array.from(expected).filter((wanted) =>
    !found.some((element) => equal(wanted, element))
  );
  if (missing.length === 0) return;
  throw new AssertionError(
    `Expected actual: "${format(actual)}" to include: "${format(expected)}"${
      suffix(msg)
    }\nmissing: ${format(missing)}`,
  );
}
