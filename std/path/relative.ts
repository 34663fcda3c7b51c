import { posix } from "node:path";

/**
 * The path that leads from one path to another; both are resolved first.
 *
 * @param from Where to begin.
 * @param to Where to arrive.
 * @returns The path, empty where both are the same.
 */
export function relative(from: string, to: string): string {
  return posix.relative(from, to);
}
