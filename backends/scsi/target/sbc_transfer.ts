/**
 * READ and WRITE: the commands that everything else is for.
 *
 * Theory of operation. Data goes between the medium and the command's buffers
 * in one storage operation; nothing is allocated. A write that must be durable
 * (FUA, or the write cache is off) is followed by a flush. A read that must come
 * from the medium (FUA) is preceded by one.
 *
 * Source: SBC-4, the commands READ and WRITE.
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
  type CommandOptions,
  type CommandSpec,
  defineCommand,
  field,
  rangeFields,
  UNIT_DISK,
  UNIT_MEDIA,
} from "./command.ts";
import { Op } from "./constants.ts";
import {
  PHASE_READ,
  PHASE_SYNC,
  PHASE_SYNC_BEFORE_READ,
  PHASE_WRITE,
} from "./phase.ts";
import { decodeRange, judgeTransfer } from "./range.ts";
import { prepareBuffer, runScript } from "./script.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, OUTCOME_OVERRUN, type Task } from "./task.ts";

const FUA = 0x08;

/** Whether a CDB of 10 bytes or more has FUA set. */
function forcesAccess(cdb: Uint8Array): boolean {
  return cdb[0] >= 0x20 && (cdb[1] & FUA) !== 0;
}

/**
 * Judges a transfer, and prepares the storage for it.
 *
 * @param reads whether it goes to the Data-In Buffer
 * @returns false when the command has ended
 */
function prepareTransfer(task: Task, reads: boolean): boolean {
  decodeRange(task);
  if (!judgeTransfer(task)) return false;
  const { range, nexus } = task;
  if (range[BLOCKS] === 0) {
    task.good();
    return false;
  }
  const blockSize = nexus.unit.blockSize;
  const length = range[BLOCKS] * blockSize;
  if (length > (reads ? task.dataInLength : task.dataOutLength)) {
    task.refuse(OUTCOME_OVERRUN);
    return false;
  }
  return prepareBuffer(task, range[LBA] * blockSize, length, reads, 0);
}

/** Runs a READ command. */
function read(task: Task): void {
  if (!prepareTransfer(task, true)) return;
  const { nexus } = task;
  if (forcesAccess(task.cdb)) {
    task.phase = PHASE_SYNC_BEFORE_READ;
    nexus.storage!.submit(task.slot, STORAGE_FLUSH);
  } else {
    task.phase = PHASE_READ;
    nexus.storage!.submit(task.slot, STORAGE_READ);
  }
}

/** Runs a WRITE command. */
function write(task: Task): void {
  if (!prepareTransfer(task, false)) return;
  task.phase = PHASE_WRITE;
  task.nexus.storage!.submit(task.slot, STORAGE_WRITE);
}

/**
 * The storage finished an operation of a command.
 *
 * @param result bytes moved, or a negative errno
 */
export function storageFinished(task: Task, result: number): void {
  const { nexus, phase } = task;
  switch (phase) {
    case PHASE_READ:
      if (result < 0) return failStorage(task, false, -result);
      task.transferred = nexus.table!.lengths[task.slot];
      return task.good();
    case PHASE_WRITE:
      if (result < 0) return failStorage(task, true, -result);
      task.transferred = nexus.table!.lengths[task.slot];
      if (!forcesAccess(task.cdb) && nexus.unit.mode.writeCache) {
        return task.good();
      }
      task.phase = PHASE_SYNC;
      return nexus.storage!.submit(task.slot, STORAGE_FLUSH);
    case PHASE_SYNC:
      if (result < 0) return failStorage(task, true, -result);
      return task.good();
    case PHASE_SYNC_BEFORE_READ:
      if (result < 0) return failStorage(task, true, -result);
      task.phase = PHASE_READ;
      return nexus.storage!.submit(task.slot, STORAGE_READ);
    default:
      return runScript(task, result);
  }
}

const FIELDS: Readonly<Record<number, readonly CdbField[]>> = {
  6: [
    ["LOGICAL BLOCK ADDRESS", 1, 4, 5],
    ["LOGICAL BLOCK ADDRESS", 2, 7, 16],
    ["TRANSFER LENGTH", 4, 7, 8],
  ],
  ...rangeFields(field.fua, "TRANSFER LENGTH"),
};

/** RARC, FUA_NV, RELADR; a duration limit; STREAMING of MMC. */
const IGNORED: Readonly<Record<number, readonly CdbField[]>> = {
  6: [],
  10: [["RARC FUA_NV RELADR", 1, 2, 3]],
  12: [["RARC FUA_NV RELADR", 1, 2, 3], ["STREAMING", 10, 7, 1]],
  16: [["RARC FUA_NV DLD2", 1, 2, 3], ["DLD1 DLD0", 14, 7, 2]],
};

type Kind = Pick<
  CommandOptions,
  "name" | "units" | "access" | "writes" | "run"
>;
const READING: Kind = {
  name: "READ",
  units: UNIT_MEDIA,
  access: ACCESS_READ,
  run: read,
};
const WRITING: Kind = {
  name: "WRITE",
  units: UNIT_DISK,
  access: ACCESS_WRITE,
  writes: true,
  run: write,
};

function define(
  kind: Kind,
  length: number,
  opcode: number,
  source: string,
): CommandSpec {
  return defineCommand({
    ...kind,
    name: `${kind.name} (${length})`,
    opcode,
    length,
    fields: FIELDS[length],
    ignored: IGNORED[length],
    needsMedium: true,
    source,
    tool: "sg_dd",
  });
}

/** READ and WRITE of all lengths. */
export const TRANSFER_COMMANDS: readonly CommandSpec[] = [
  define(READING, 6, Op.READ_6, "SBC-3"),
  define(READING, 10, Op.READ_10, "SBC-4"),
  define(READING, 12, Op.READ_12, "SBC-4"),
  define(READING, 16, Op.READ_16, "SBC-4"),
  define(WRITING, 6, Op.WRITE_6, "SBC-3"),
  define(WRITING, 10, Op.WRITE_10, "SBC-4"),
  define(WRITING, 12, Op.WRITE_12, "SBC-4"),
  define(WRITING, 16, Op.WRITE_16, "SBC-4"),
];
