/**
 * Sizes that an image may have.
 *
 * @module
 */

import type { DataFile } from "../../sys/file.ts";

/**
 * Why an image cannot be served with the size that it has, or `null`.
 *
 * @param size in bytes
 * @param blockSize logical block size in bytes
 */
export function sizeProblem(
  file: DataFile,
  size: number,
  blockSize: number,
): string | null {
  const block = file.kind === "block";
  const noun = block ? "device" : "file";
  if (size > Number.MAX_SAFE_INTEGER) {
    return `${noun} size is more than 2^53-1 bytes`;
  }
  if (size === 0) {
    return block
      ? "device size is 0: there is no medium in it"
      : `file size is 0; give it one with: truncate -s 1G "${file.path}"`;
  }
  if (size % blockSize !== 0) {
    return `${noun} size ${size} is not a multiple of ${blockSize}`;
  }
  return null;
}
