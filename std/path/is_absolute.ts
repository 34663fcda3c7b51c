import { posix } from "node:path";

/**
 * Whether a path begins at the root.
 *
 * @param path The path.
 */
export function isAbsolute(path: string): boolean {
  return posix.isAbsolute(path);
}
