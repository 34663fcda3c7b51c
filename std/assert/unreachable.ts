import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/**
 * Marks a place that no test may reach.
 *
 * @param msg Words to add to the message.
 * @throws {AssertionError} Always.
 */
export function unreachable(msg?: string): never {
  throw new AssertionError(`Unreachable${suffix(msg)}`);
}
