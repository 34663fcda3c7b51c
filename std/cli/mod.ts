/**
 * Command lines: the part of the published `@std/cli` that this project uses,
 * with the same names, signatures and semantics.
 *
 * @module
 */
export { type Args, parseArgs, type ParseOptions } from "./parse_args.ts";
