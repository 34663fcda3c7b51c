/**
 * The range of logical blocks that a CDB names.
 *
 * @module
 */

import { u16, u24, u32, u64 } from "./bytes.ts";
import { Asc, SenseKey } from "./constants.ts";
import { MAX_TRANSFER_BYTES } from "./limits.ts";
import { BLOCKS, LBA, type Task } from "./task.ts";

/**
 * Reads logical block address and length out of a CDB, by its group: 6, 10, 12
 * or 16 bytes. In a 6-byte CDB a length of 0 means 256 blocks.
 */
export function decodeRange(task: Task): void {
  const { cdb, range } = task;
  switch (cdb[0] >> 5) {
    case 0:
      range[LBA] = u24(cdb, 1) & 0x1f_ffff;
      range[BLOCKS] = cdb[4] === 0 ? 256 : cdb[4];
      break;
    case 4:
      range[LBA] = u64(cdb, 2);
      range[BLOCKS] = u32(cdb, 10);
      break;
    case 5:
      range[LBA] = u32(cdb, 2);
      range[BLOCKS] = u32(cdb, 6);
      break;
    default:
      range[LBA] = u32(cdb, 2);
      range[BLOCKS] = u16(cdb, 7);
  }
}

/** Judges the range of a command that moves it: see {@linkcode judgeRange}. */
export function judgeTransfer(task: Task): boolean {
  if (!judgeRange(task)) return false;
  const { blockSize } = task.nexus.unit;
  if (task.range[BLOCKS] * blockSize <= MAX_TRANSFER_BYTES) return true;
  task.illegalField(LENGTH_BYTES[task.cdb[0] >> 5]);
  return false;
}

/** Where the length is, by the group of an operation code. */
const LENGTH_BYTES: readonly number[] = [4, 7, 7, 0, 10, 6, 0, 0];

/**
 * Judges the range.
 *
 * @returns false when it ends beyond the capacity; the command has then ended
 */
export function judgeRange(task: Task): boolean {
  const { range } = task;
  const { capacity } = task.nexus.unit;
  if (range[LBA] + range[BLOCKS] <= capacity) return true;
  task.fail({
    key: SenseKey.ILLEGAL_REQUEST,
    asc: Asc.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
    information: Math.max(range[LBA], capacity),
  });
  return false;
}
