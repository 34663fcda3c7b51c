import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/** Difference allowed for each unit of the expected value. */
const RELATIVE_TOLERANCE = 1e-7;

function written(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toExponential();
}

/**
 * Asserts that two numbers are close.
 *
 * @param actual The number found.
 * @param expected The number that would be right.
 * @param tolerance The largest difference allowed; 1e-7 of `expected` when
 * not given.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When the difference is larger, or one is NaN.
 */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ??
    RELATIVE_TOLERANCE * (isFinite(expected) ? Math.abs(expected) : 1);
  const delta = Math.abs(expected - actual);
  if (delta <= allowed) return;
  throw new AssertionError(
    `Expected actual: "${written(actual)}" to be close to "${
      written(expected)
    }": delta "${written(delta)}" is greater than "${written(allowed)}"${
      suffix(msg)
    }`,
  );
}
