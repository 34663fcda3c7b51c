/**
 * File paths: the part of the published `@std/path` that this project uses,
 * with the same names, signatures and semantics.
 *
 * @module
 */
export { basename } from "./basename.ts";
export { DELIMITER, SEPARATOR, SEPARATOR_PATTERN } from "./constants.ts";
export { dirname } from "./dirname.ts";
export { extname } from "./extname.ts";
export { fromFileUrl } from "./from_file_url.ts";
export { isAbsolute } from "./is_absolute.ts";
export { join } from "./join.ts";
export { normalize } from "./normalize.ts";
export { relative } from "./relative.ts";
export { resolve } from "./resolve.ts";
export { toFileUrl } from "./to_file_url.ts";
