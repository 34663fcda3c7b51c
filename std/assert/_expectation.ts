import { suffix } from "./_message.ts";
import { AssertionError } from "./assertion_error.ts";
import { assertIsError } from "./is_error.ts";

/** A class of errors, which may be abstract. */
// deno-lint-ignore no-explicit-any
export type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** What a test expects a function to throw. */
export interface Expectation<E extends Error> {
  readonly errorClass?: ErrorClass<E>;
  readonly text?: string;
  readonly msg?: string;
}

function isErrorClass<E extends Error>(
  value: ErrorClass<E> | undefined,
): boolean {
  return value?.prototype === Error.prototype ||
    value?.prototype instanceof Error;
}

/** Sorts the arguments of `(msg)` and of `(class, text, msg)`. */
export function expectation<E extends Error>(
  first: ErrorClass<E> | string | undefined,
  second: string | undefined,
  third: string | undefined,
): Expectation<E> {
  if (typeof first === "string") return { msg: first };
  // Untyped callers give null where they expect no class: then words follow.
  if (first !== undefined && !isErrorClass(first)) return { msg: second };
  return { errorClass: first, text: second, msg: third };
}

/** Checks what came out of a function against what a test expects. */
export function checkThrown<E extends Error>(
  thrown: unknown,
  { errorClass, text, msg }: Expectation<E>,
  how: "thrown" | "rejected",
): void {
  if (errorClass === undefined) return;
  if (!(thrown instanceof Error)) {
    throw new AssertionError(`A non-Error object was ${how}${suffix(msg)}`);
  }
  assertIsError(thrown, errorClass, text, msg);
}
