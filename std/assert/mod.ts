/**
 * Assertions for tests: the part of the published `@std/assert` that this
 * project uses, with the same names, signatures and semantics.
 *
 * @module
 */
export { assertAlmostEquals } from "./almost_equals.ts";
export { type ArrayLikeArg, assertArrayIncludes } from "./array_includes.ts";
export { assert } from "./assert.ts";
export { AssertionError } from "./assertion_error.ts";
export { equal } from "./equal.ts";
export { assertEquals } from "./equals.ts";
export { assertExists } from "./exists.ts";
export { fail } from "./fail.ts";
export { assertGreater } from "./greater.ts";
export { assertGreaterOrEqual } from "./greater_or_equal.ts";
export {
  type AnyConstructor,
  assertInstanceOf,
  type GetConstructorType,
} from "./instance_of.ts";
export { assertIsError } from "./is_error.ts";
export { assertLess } from "./less.ts";
export { assertLessOrEqual } from "./less_or_equal.ts";
export { assertMatch } from "./match.ts";
export { assertNotEquals } from "./not_equals.ts";
export { assertObjectMatch } from "./object_match.ts";
export { assertRejects } from "./rejects.ts";
export { assertStrictEquals } from "./strict_equals.ts";
export { assertStringIncludes } from "./string_includes.ts";
export { assertThrows } from "./throws.ts";
export { unreachable } from "./unreachable.ts";
