import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";

/** Any class that can be instantiated. */
// deno-lint-ignore no-explicit-any
export type AnyConstructor = new (...args: any[]) => any;

/** The type of the instances of a class. */
export type GetConstructorType<T extends AnyConstructor> = InstanceType<T>;

function nameOfType(value: unknown): string {
  if (value === null) return "null";
  if (typeof value !== "object") return typeof value;
  return value.constructor?.name ?? "Object";
}

/**
 * Asserts that a value is an instance of a class, and narrows its type.
 *
 * @param actual The value found.
 * @param expectedType The class, which may be abstract.
 * @param msg Words to add to the message.
 * @throws {AssertionError} When it is not an instance.
 */
export function assertInstanceOf<
  // deno-lint-ignore no-explicit-any
  T extends abstract new (...args: any[]) => any,
>(
  actual: unknown,
  expectedType: T,
  msg = "",
): asserts actual is InstanceType<T> {
  if (actual instanceof expectedType) return;
  const expected = expectedType.name;
  const found = nameOfType(actual);
  let but = ` but was "${found}"`;
  if (found === expected) but = "";
  else if (found === "function") but = " but was not an instanced object";
  throw new AssertionError(
    `Expected object to be an instance of "${expected}"${but}${suffix(msg)}`,
  );
}
