/**
 * What the kernel tells of a block device's queue.
 *
 * @module
 */

import { readTextFile } from "../../sys/proc.ts";
import { SystemError } from "../../sys/errno.ts";
import type { DataFile } from "../../sys/file.ts";

/** Limits of a block device, in bytes; 0 where the device has none. */
export interface QueueLimits {
  /** Smallest unit that is written without reading first. */
  readonly physicalBlockSize: number;
  /** Unit in which space is freed. */
  readonly discardGranularity: number;
  /** Most bytes that one command frees; 0: it cannot. */
  readonly discardMaxBytes: number;
  /** Most bytes that one command zeroes, and may free; 0: it cannot. */
  readonly writeZeroesMaxBytes: number;
}

/** Where sysfs has block devices by their numbers. */
const DEVICES = "/sys/dev/block";

/** Reads one attribute; a partition has the queue of its disk. */
function attribute(device: string, name: string): number {
  for (const queue of ["queue", "../queue"]) {
    try {
      const text = readTextFile(`${device}/${queue}/${name}`);
      const value = Number(text.trim());
      return Number.isSafeInteger(value) && value > 0 ? value : 0;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
  }
  return 0;
}

/**
 * Reads the limits of a block device from sysfs.
 *
 * Source: Linux `Documentation/ABI/stable/sysfs-block`.
 *
 * @param file an open block device
 * @param devices the directory of block devices by their numbers
 */
export function queueLimits(
  file: DataFile,
  devices: string = DEVICES,
): QueueLimits {
  const { dev } = file.identity();
  const device = `${devices}/${dev >> 32n}:${dev & 0xffff_ffffn}`;
  return {
    physicalBlockSize: attribute(device, "physical_block_size"),
    discardGranularity: attribute(device, "discard_granularity"),
    discardMaxBytes: attribute(device, "discard_max_bytes"),
    writeZeroesMaxBytes: attribute(device, "write_zeroes_max_bytes"),
  };
}
