import { posix } from "node:path";

/**
 * Makes an absolute, normalized path of segments: the last absolute one is
 * where it begins, else the working directory (which needs the permission to
 * read it).
 *
 * @param pathSegments The segments, from left to right.
 */
export function resolve(...pathSegments: string[]): string {
  return posix.resolve(...pathSegments);
}
