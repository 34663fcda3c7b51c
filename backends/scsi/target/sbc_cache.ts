/**
 * SYNCHRONIZE CACHE, PRE-FETCH.
 *
 * A flush makes all of the medium durable, whatever range is asked for.
 * PRE-FETCH reads the range, so that it is in the host's page cache.
 *
 * Source: SBC-4, the commands SYNCHRONIZE CACHE and PRE-FETCH.
 *
 * @module
 */

import { STORAGE_FLUSH, STORAGE_READ } from "../../storage/storage.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type CdbField,
  type CommandOptions,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  UNIT_MEDIA,
  ZERO,
} from "./command.ts";
import { Op } from "./constants.ts";
import { decodeRange, judgeRange } from "./range.ts";
import {
  prepareRange,
  prepareScratch,
  type Script,
  scripted,
} from "./script.ts";
import { SCRATCH_SIZE } from "./scratch.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, type Task } from "./task.ts";
import { PHASE_SYNC } from "./phase.ts";

/** Bytes that a PRE-FETCH reads at most: more is no hint but a load. */
const MOST_FETCHED = 16 * 1024 * 1024;

function synchronize(task: Task): void {
  decodeRange(task);
  if (!judgeRange(task)) return;
  task.phase = PHASE_SYNC;
  prepareRange(task, 0, 0);
  task.nexus.storage!.submit(task.slot, STORAGE_FLUSH);
}

function* fetch(task: Task): Script {
  decodeRange(task);
  if (!judgeRange(task)) return;
  const { range } = task;
  const { unit } = task.nexus;
  // No blocks: up to the end.
  const blocks = range[BLOCKS] || unit.capacity - range[LBA];
  const offset = range[LBA] * unit.blockSize;
  const length = Math.min(blocks * unit.blockSize, MOST_FETCHED);
  for (let done = 0; done < length; done += SCRATCH_SIZE) {
    prepareScratch(task, offset + done, Math.min(length - done, SCRATCH_SIZE));
    const result = yield STORAGE_READ;
    if (result < 0) return failStorage(task, false, -result);
  }
  task.good();
}

const immed: CdbField = ["IMMED", 1, 1, 1];
const FIELDS_10: readonly CdbField[] = [
  immed,
  field.lba32,
  ["GROUP NUMBER", 6, 4, 5],
  ["NUMBER OF LOGICAL BLOCKS", 7, 7, 16],
];
const FIELDS_16: readonly CdbField[] = [
  immed,
  field.lba64,
  ["NUMBER OF LOGICAL BLOCKS", 10, 7, 32],
  ["GROUP NUMBER", 14, 5, 6],
];
const SYNCHRONIZE = {
  ignored: [["SYNC_NV", 1, 2, 1]],
  access: ACCESS_WRITE,
  needsMedium: true,
  run: synchronize,
} satisfies Partial<CommandOptions>;
const PRE_FETCH = {
  units: UNIT_DISK,
  access: ACCESS_READ,
  needsMedium: true,
  run: scripted(fetch),
} as const;
const reladr: CdbField = ["Obsolete", 1, 0, 1, ZERO];

/** SYNCHRONIZE CACHE and PRE-FETCH of both lengths. */
export const CACHE_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...SYNCHRONIZE,
    name: "SYNCHRONIZE CACHE (10)",
    tool: "sg_sync",
    opcode: Op.SYNCHRONIZE_CACHE_10,
    length: 10,
    fields: [...FIELDS_10, reladr],
    units: UNIT_MEDIA,
    source: "SBC-4",
  }),
  defineCommand({
    ...SYNCHRONIZE,
    name: "SYNCHRONIZE CACHE (16)",
    tool: "sg_sync --16",
    opcode: Op.SYNCHRONIZE_CACHE_16,
    length: 16,
    fields: FIELDS_16,
    units: UNIT_DISK,
    source: "SBC-4",
  }),
  defineCommand({
    ...PRE_FETCH,
    name: "PRE-FETCH (10)",
    tool: "sg_seek --10 --pre-fetch",
    opcode: Op.PRE_FETCH_10,
    length: 10,
    fields: [...FIELDS_10, reladr],
    source: "SBC-4",
  }),
  defineCommand({
    ...PRE_FETCH,
    name: "PRE-FETCH (16)",
    tool: "sg_seek --pre-fetch",
    opcode: Op.PRE_FETCH_16,
    length: 16,
    fields: FIELDS_16,
    source: "SBC-4",
  }),
];
