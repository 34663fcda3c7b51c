import { posix } from "node:path";
import { textOf } from "./_text.ts";

/**
 * A path without its last segment: `.` where that leaves nothing.
 *
 * @param path The path, or a file URL.
 * @throws {TypeError} When the path is a URL with another scheme.
 */
export function dirname(path: string | URL): string {
  // `node:path` keeps repeated separators at the end.
  return posix.dirname(textOf(path)).replace(/(?<=.)\/+$/s, "");
}
