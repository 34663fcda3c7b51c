import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Fails a test.
 *
 * @param msg Words to add to the message.
 * @throws {AssertionError} Always.
 */
export function fail(msg?: string): never {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}
