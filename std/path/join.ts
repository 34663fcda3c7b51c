import { posix } from "node:path";
import { textOf } from "./_text.ts";

/**
 * Joins paths with separators and normalizes the result. Without a first path
 * it is `.`.
 *
 * @param path The first path, or a file URL.
 * @param paths The others.
 * @throws {TypeError} When the first is a URL with another scheme.
 */
export function join(path?: string | URL, ...paths: string[]): string {
  if (path === undefined) return ".";
  return posix.join(textOf(path), ...paths);
}
