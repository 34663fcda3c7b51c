import { plain, suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Asserts that a value is an error of a class whose message contains a text
 * or matches a regular expression (terminal colours left out).
 *
 * @param error The value found.
 * @param ErrorClass The class, any error when not given.
 * @param msgMatches The text or expression, anything when not given.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When it is something else.
 */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  // deno-lint-ignore no-explicit-any
  ErrorClass?: abstract new (...args: any[]) => E,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E {
  if (!(error instanceof Error)) {
    throw new AssertionError(
      `Expected "error" to be an Error object${suffix(msg)}`,
    );
  }
  if (ErrorClass && !(error instanceof ErrorClass)) {
    throw new AssertionError(
      `Expected error to be instance of "${ErrorClass.name}", but was "${error.constructor?.name}"${
        suffix(msg)
      }`,
    );
  }
  if (!msgMatches) return;
  const message = plain(error.message);
  const isText = typeof msgMatches === "string";
  const matches = isText
    ? message.includes(plain(msgMatches))
    : msgMatches.test(message);
  if (matches) return;
  throw new AssertionError(
    `Expected error message to include ${
      isText ? JSON.stringify(msgMatches) : msgMatches
    }, but got ${JSON.stringify(error.message)}${suffix(msg)}`,
  );
}
