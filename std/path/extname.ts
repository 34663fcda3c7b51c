import { posix } from "node:path";
import { textOf } from "./_text.ts";

/**
 * The last segment of a path from its last dot on; empty where there is none
 * or it is the first character.
 *
 * @param path The path, or a file URL.
 * @throws {TypeError} When the path is a URL with another scheme.
 */
export function extname(path: string | URL): string {
  return posix.extname(textOf(path));
}
