/**
 * Functions on byte arrays: the part of the published `@std/bytes` that this
 * project uses, with the same names, signatures and semantics.
 *
 * @module
 */
export { concat } from "./concat.ts";
export { copy } from "./copy.ts";
export { endsWith } from "./ends_with.ts";
export { equals } from "./equals.ts";
export { includesNeedle } from "./includes_needle.ts";
export { indexOfNeedle } from "./index_of_needle.ts";
export { repeat } from "./repeat.ts";
export { startsWith } from "./starts_with.ts";
