/**
 * What a balloon asks of the system below the guest's memory.
 *
 * @module
 */

import { punchHole } from "../../sys/hole.ts";
import { FileType, statFd } from "../../sys/statx.ts";

/** Takes pages of shared files back. */
export interface PageHost {
  /**
   * Gives a range of a file back; it reads as zeros afterwards.
   *
   * @returns 0, or a negative errno
   */
  punchHole(fd: number, offset: number, length: number): number;
  /** Why a descriptor is no shared file whose pages can go, or `null`. */
  objection(fd: number): string | null;
}

const KINDS: ReadonlyMap<number, string> = new Map([
  [FileType.BLOCK, "a block device"],
  [FileType.CHARACTER, "a character device"],
  [FileType.DIRECTORY, "a directory"],
]);

/** The system that this process runs on. */
export const SYSTEM_PAGES: PageHost = {
  punchHole,
  objection(fd) {
    const { type } = statFd(fd);
    if (type === FileType.REGULAR) return null;
    return `it belongs to ${KINDS.get(type) ?? "an object without a size"}`;
  },
};
