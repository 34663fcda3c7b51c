import { posix } from "node:path";
import { textOf } from "./_text.ts";

/**
 * The last segment of a path, without separators at its end.
 *
 * @param path The path, or a file URL.
 * @param suffix An ending to leave out, unless it is the whole segment.
 * @throws {TypeError} When the path is a URL with another scheme.
 */
export function basename(path: string | URL, suffix = ""): string {
  const text = textOf(path);
  // Unlike for `node:path`, the root is its own last segment, and a suffix
  // that is the whole path stays.
  const name = /^\/+$/.test(text) ? "/" : posix.basename(text);
  const ends = suffix.length < name.length && name.endsWith(suffix);
  return ends ? name.slice(0, name.length - suffix.length) : name;
}
