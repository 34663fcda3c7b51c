/**
 * Finds out which parts of an image have space on the host.
 *
 * @module
 */

import { Errno } from "../../sys/errno.ts";
import type { DataFile } from "../../sys/file.ts";
import type { StorageExtent } from "./storage.ts";

/**
 * The extent that an offset lies in. Where holes are not known (block devices,
 * some file systems) all is allocated; beyond the end of a file nothing is.
 *
 * @param capacity where the last extent ends; above `offset`
 */
export function findExtent(
  file: DataFile,
  offset: number,
  capacity: number,
): StorageExtent {
  const data = file.seek("data", offset);
  if (data === -Errno.ENXIO) {
    return { length: capacity - offset, mapped: false };
  }
  if (data < 0) return { length: capacity - offset, mapped: true };
  if (data > offset) {
    return { length: Math.min(data, capacity) - offset, mapped: false };
  }
  const hole = file.seek("hole", offset);
  const end = hole < 0 ? capacity : Math.min(hole, capacity);
  return { length: Math.max(end - offset, 1), mapped: true };
}
