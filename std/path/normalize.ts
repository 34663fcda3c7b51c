import { posix } from "node:path";
import { textOf } from "./_text.ts";

/**
 * Resolves the segments `.` and `..` of a path and removes repeated
 * separators; one at the end stays. An empty path is `.`.
 *
 * @param path The path, or a file URL.
 * @throws {TypeError} When the path is a URL with another scheme.
 */
export function normalize(path: string | URL): string {
  return posix.normalize(textOf(path));
}
