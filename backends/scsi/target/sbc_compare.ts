/**
 * COMPARE AND WRITE: writes blocks if what is there is what was expected.
 *
 * It runs alone: no other command of the logical unit, from any initiator, runs
 * between the comparison and the write.
 *
 * Source: SBC-4, the command COMPARE AND WRITE.
 *
 * @module
 */

import {
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
} from "../../storage/storage.ts";
import {
  ACCESS_WRITE,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
} from "./command.ts";
import { Asc, Op, SenseKey } from "./constants.ts";
import { MAX_COMPARE_BLOCKS } from "./limits.ts";
import { u64 } from "./bytes.ts";
import { judgeRange } from "./range.ts";
import {
  prepareBuffer,
  prepareRange,
  prepareScratch,
  scratchOf,
  type Script,
  scripted,
} from "./script.ts";
import { SCRATCH_SIZE } from "./scratch.ts";
import { firstDifference } from "./sbc_verify.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, OUTCOME_OVERRUN, type Task } from "./task.ts";

const FUA = 0x08;

function* compareAndWrite(task: Task): Script {
  const { cdb, range } = task;
  const { unit } = task.nexus;
  range[LBA] = u64(cdb, 2);
  range[BLOCKS] = cdb[13];
  if (range[BLOCKS] > MAX_COMPARE_BLOCKS) return task.illegalField(13);
  if (!judgeRange(task)) return;
  if (range[BLOCKS] === 0) return task.good();
  const offset = range[LBA] * unit.blockSize;
  const length = range[BLOCKS] * unit.blockSize;
  if (2 * length > task.dataOutLength) return task.refuse(OUTCOME_OVERRUN);
  const wanted = new Uint8Array(Math.min(length, SCRATCH_SIZE));
  for (let done = 0; done < length; done += SCRATCH_SIZE) {
    const piece = Math.min(length - done, SCRATCH_SIZE);
    prepareScratch(task, offset + done, piece);
    const result = yield STORAGE_READ;
    if (result < 0) return failStorage(task, false, -result);
    task.readOut(done, wanted, 0, piece);
    const at = firstDifference(scratchOf(task).bytes, wanted, piece);
    if (at >= 0) {
      return task.fail({
        key: SenseKey.MISCOMPARE,
        asc: Asc.MISCOMPARE_DURING_VERIFY_OPERATION,
        information: done + at,
      });
    }
  }
  if (!prepareBuffer(task, offset, length, false, length)) return;
  const written = yield STORAGE_WRITE;
  if (written < 0) return failStorage(task, true, -written);
  if ((cdb[1] & FUA) !== 0 || !unit.mode.writeCache) {
    prepareRange(task, 0, 0);
    const flushed = yield STORAGE_FLUSH;
    if (flushed < 0) return failStorage(task, true, -flushed);
  }
  task.transferred = 2 * length;
  task.good();
}

/** COMPARE AND WRITE. */
export const COMPARE_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "COMPARE AND WRITE",
    opcode: Op.COMPARE_AND_WRITE,
    length: 16,
    fields: [
      field.protect,
      field.dpo,
      field.fua,
      field.lba64,
      ["NUMBER OF LOGICAL BLOCKS", 13, 7, 8],
      ["GROUP NUMBER", 14, 5, 6],
    ],
    ignored: [["FUA_NV", 1, 1, 1]],
    units: UNIT_DISK,
    access: ACCESS_WRITE,
    needsMedium: true,
    writes: true,
    exclusive: true,
    once: true,
    run: scripted(compareAndWrite),
    source: "SBC-4",
    tool: "sg_compare_and_write",
  }),
];
