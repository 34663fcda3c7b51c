/**
 * VERIFY and WRITE AND VERIFY.
 *
 * BYTCHK 00b reads the blocks, 01b compares them with the Data-Out Buffer, 11b
 * compares each of them with the one block of the Data-Out Buffer.
 *
 * Source: SBC-4, the commands VERIFY and WRITE AND VERIFY.
 *
 * @module
 */

import {
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
} from "../../storage/storage.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type CdbField,
  type CommandSpec,
  defineCommand,
  rangeFields,
  UNIT_DISK,
  UNIT_MEDIA,
} from "./command.ts";
import { Asc, Op, SenseKey } from "./constants.ts";
import { decodeRange, judgeTransfer } from "./range.ts";
import {
  prepareBuffer,
  prepareRange,
  prepareScratch,
  scratchOf,
  type Script,
  scripted,
} from "./script.ts";
import { SCRATCH_SIZE } from "./scratch.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, OUTCOME_OVERRUN, type Task } from "./task.ts";

/** BYTCHK: no comparison. */
const CHECK_MEDIUM = 0;
/** BYTCHK: with as many blocks. */
const COMPARE_ALL = 1;
/** BYTCHK: with one block. */
const COMPARE_ONE = 3;

/** Where two runs of bytes differ first, or -1. */
export function firstDifference(
  a: Uint8Array,
  b: Uint8Array,
  length: number,
): number {
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

function* verify(task: Task): Script {
  decodeRange(task);
  if (!judgeTransfer(task)) return;
  const check = task.cdb[1] >> 1 & 3;
  if (check === 2) return task.illegalField(1, 2);
  const { range } = task;
  if (range[BLOCKS] === 0) return task.good();
  const { blockSize } = task.nexus.unit;
  const length = range[BLOCKS] * blockSize;
  const needed = check === CHECK_MEDIUM
    ? 0
    : check === COMPARE_ONE
    ? blockSize
    : length;
  if (needed > task.dataOutLength) return task.refuse(OUTCOME_OVERRUN);
  if (yield* compareMedium(task, check, range[LBA] * blockSize, length)) {
    task.transferred = needed;
    task.good();
  }
}

/**
 * Reads a range, and compares it.
 *
 * @returns false when the command has ended because of what was found
 */
function* compareMedium(
  task: Task,
  check: number,
  offset: number,
  length: number,
): Generator<0 | 1 | 2 | 3 | 4 | 5, boolean, number> {
  const { blockSize } = task.nexus.unit;
  const wanted = new Uint8Array(SCRATCH_SIZE);
  if (check === COMPARE_ONE) {
    task.readOut(0, wanted, 0, blockSize);
    for (let at = blockSize; at < SCRATCH_SIZE; at += blockSize) {
      wanted.copyWithin(at, 0, blockSize);
    }
  }
  for (let done = 0; done < length;) {
    const piece = Math.min(length - done, SCRATCH_SIZE);
    prepareScratch(task, offset + done, piece);
    const result = yield STORAGE_READ;
    if (result < 0) {
      failStorage(task, false, -result);
      return false;
    }
    if (check === COMPARE_ALL) task.readOut(done, wanted, 0, piece);
    if (check !== CHECK_MEDIUM) {
      const at = firstDifference(scratchOf(task).bytes, wanted, piece);
      if (at >= 0) {
        task.fail({
          key: SenseKey.MISCOMPARE,
          asc: Asc.MISCOMPARE_DURING_VERIFY_OPERATION,
          information: Math.floor((offset + done + at) / blockSize),
        });
        return false;
      }
    }
    done += piece;
  }
  return true;
}

function* writeAndVerify(task: Task): Script {
  decodeRange(task);
  if (!judgeTransfer(task)) return;
  const check = task.cdb[1] >> 1 & 3;
  // There is no such thing as one block written to many places here.
  if (check > COMPARE_ALL) return task.illegalField(1, 2);
  const { range } = task;
  if (range[BLOCKS] === 0) return task.good();
  const { blockSize } = task.nexus.unit;
  const offset = range[LBA] * blockSize, length = range[BLOCKS] * blockSize;
  if (length > task.dataOutLength) return task.refuse(OUTCOME_OVERRUN);
  if (!prepareBuffer(task, offset, length, false, 0)) return;
  const written = yield STORAGE_WRITE;
  if (written < 0) return failStorage(task, true, -written);
  prepareRange(task, 0, 0);
  // What is verified has to be on the medium.
  const flushed = yield STORAGE_FLUSH;
  if (flushed < 0) return failStorage(task, true, -flushed);
  if (yield* compareMedium(task, check, offset, length)) {
    task.transferred = length;
    task.good();
  }
}

const bytchk: CdbField = ["BYTCHK", 1, 2, 2];
const FIELDS = rangeFields(bytchk, "LENGTH");

/** RELADR; a bit of MMC. */
const IGNORED: Readonly<Record<number, readonly CdbField[]>> = {
  10: [["RELADR", 1, 0, 1]],
  12: [["RELADR", 1, 0, 1], ["restricted for MMC", 10, 7, 1]],
  16: [],
};

/** sg3-utils has programs for the 10-byte and the 16-byte commands. */
function toolOf(program: string, length: number, opcode: number): string {
  if (length === 12) return `sg_raw ${opcode.toString(16)}`;
  return length === 16 ? `${program} --16` : program;
}

function define(
  writes: boolean,
  length: number,
  opcode: number,
  source: string,
): CommandSpec {
  return defineCommand({
    name: `${writes ? "WRITE AND VERIFY" : "VERIFY"} (${length})`,
    opcode,
    length,
    fields: FIELDS[length],
    ignored: IGNORED[length],
    units: writes || length === 16 ? UNIT_DISK : UNIT_MEDIA,
    access: writes ? ACCESS_WRITE : ACCESS_READ,
    needsMedium: true,
    writes,
    run: scripted(writes ? writeAndVerify : verify),
    source,
    tool: toolOf(writes ? "sg_write_verify" : "sg_verify", length, opcode),
  });
}

/** VERIFY and WRITE AND VERIFY of all lengths. */
export const VERIFY_COMMANDS: readonly CommandSpec[] = [
  define(false, 10, Op.VERIFY_10, "SBC-4"),
  define(false, 12, Op.VERIFY_12, "SBC-4"),
  define(false, 16, Op.VERIFY_16, "SBC-4"),
  define(true, 10, Op.WRITE_AND_VERIFY_10, "SBC-4"),
  define(true, 12, Op.WRITE_AND_VERIFY_12, "SBC-4"),
  define(true, 16, Op.WRITE_AND_VERIFY_16, "SBC-4"),
];
