/**
 * WRITE SAME: one block, or zeroes, written to many places.
 *
 * A block of zeroes, or none (NDOB), is a range of zeroes, which the storage
 * makes without writing; with UNMAP its space is given back on a thin disk. Any
 * other block is written from memory that repeats it. Either is done in pieces:
 * others go on in between.
 *
 * Source: SBC-4, the commands WRITE SAME (10) and WRITE SAME (16).
 *
 * @module
 */

import {
  STORAGE_FLUSH,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "../../storage/storage.ts";
import {
  ACCESS_WRITE,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  ZERO,
} from "./command.ts";
import { Op } from "./constants.ts";
import { MAX_WRITE_SAME_BYTES } from "./limits.ts";
import { decodeRange, judgeRange } from "./range.ts";
import {
  inPieces,
  Pace,
  PAUSE,
  prepareRange,
  prepareScratch,
  scratchOf,
  type Script,
  scripted,
} from "./script.ts";
import { SCRATCH_SIZE } from "./scratch.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, OUTCOME_OVERRUN, type Task } from "./task.ts";

const UNMAP = 0x08;
const ANCHOR = 0x10;
const NO_DATA_OUT = 0x01;

function* writeSame(task: Task): Script {
  const { cdb, range } = task;
  const { unit } = task.nexus;
  const { blockSize } = unit;
  const lengthByte = cdb[0] === Op.WRITE_SAME_16 ? 10 : 7;
  const unmap = (cdb[1] & UNMAP) !== 0;
  if ((cdb[1] & ANCHOR) !== 0) return task.illegalField(1, 4);
  if (unmap && !unit.options.thin) return task.illegalField(1, 3);
  decodeRange(task);
  const length = range[BLOCKS] * blockSize;
  // WSNZ: zero blocks are not "up to the end".
  if (length === 0 || length > MAX_WRITE_SAME_BYTES) {
    return task.illegalField(lengthByte);
  }
  if (!judgeRange(task)) return;
  const bytes = scratchOf(task).bytes;
  if (cdb[0] === Op.WRITE_SAME_16 && (cdb[1] & NO_DATA_OUT) !== 0) {
    bytes.fill(0, 0, blockSize);
  } else {
    if (task.dataOutLength < blockSize) return task.refuse(OUTCOME_OVERRUN);
    task.transferred = task.readOut(0, bytes, 0, blockSize);
  }
  const offset = range[LBA] * blockSize;
  const pace = new Pace();
  if (bytes.subarray(0, blockSize).every((byte) => byte === 0)) {
    const operation = unmap ? STORAGE_WRITE_ZEROES_UNMAP : STORAGE_WRITE_ZEROES;
    const result = yield* inPieces(task, operation, offset, length, pace);
    if (result < 0) return failStorage(task, true, -result);
  } else {
    for (let at = blockSize; at < SCRATCH_SIZE; at += blockSize) {
      bytes.copyWithin(at, 0, blockSize);
    }
    for (let done = 0; done < length; done += SCRATCH_SIZE) {
      const piece = Math.min(length - done, SCRATCH_SIZE);
      if (pace.due(piece)) yield PAUSE;
      prepareScratch(task, offset + done, piece);
      const result = yield STORAGE_WRITE;
      if (result < 0) return failStorage(task, true, -result);
    }
  }
  if (!unit.mode.writeCache) {
    prepareRange(task, 0, 0);
    const result = yield STORAGE_FLUSH;
    if (result < 0) return failStorage(task, true, -result);
  }
  task.good();
}

const COMMON = {
  units: UNIT_DISK,
  access: ACCESS_WRITE,
  needsMedium: true,
  writes: true,
  run: scripted(writeSame),
} as const;

/** WRITE SAME of both lengths. */
export const WRITE_SAME_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...COMMON,
    name: "WRITE SAME (10)",
    opcode: Op.WRITE_SAME_10,
    tool: "sg_write_same --10",
    length: 10,
    fields: [
      field.protect,
      ["ANCHOR", 1, 4, 1, ZERO],
      ["UNMAP", 1, 3, 1],
      ["PBDATA LBDATA", 1, 2, 2, ZERO],
      field.lba32,
      ["GROUP NUMBER", 6, 4, 5],
      ["NUMBER OF LOGICAL BLOCKS", 7, 7, 16],
    ],
    source: "SBC-4",
  }),
  defineCommand({
    ...COMMON,
    name: "WRITE SAME (16)",
    opcode: Op.WRITE_SAME_16,
    tool: "sg_write_same --16",
    length: 16,
    fields: [
      field.protect,
      ["ANCHOR", 1, 4, 1, ZERO],
      ["UNMAP", 1, 3, 1],
      ["PBDATA LBDATA", 1, 2, 2, ZERO],
      ["NDOB", 1, 0, 1],
      field.lba64,
      ["NUMBER OF LOGICAL BLOCKS", 10, 7, 32],
      ["GROUP NUMBER", 14, 5, 6],
    ],
    source: "SBC-4",
  }),
];
