/**
 * UNMAP and GET LBA STATUS: what is known of the space that blocks take.
 *
 * Source: SBC-4, the commands UNMAP and GET LBA STATUS (16).
 *
 * @module
 */

import {
  STORAGE_FLUSH,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "../../storage/storage.ts";
import { putU32, putU64, u16, u32, u64 } from "./bytes.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  ZERO,
} from "./command.ts";
import { Asc, Op } from "./constants.ts";
import { MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS } from "./limits.ts";
import { judgeRange } from "./range.ts";
import {
  inPieces,
  Pace,
  prepareRange,
  type Script,
  scripted,
} from "./script.ts";
import { failStorage } from "./storage_sense.ts";
import { BLOCKS, LBA, type Task } from "./task.ts";

/** Length of the head of an UNMAP parameter list, and of a descriptor. */
const HEAD = 8, DESCRIPTOR = 16;
/** LBA status descriptors that are reported at most. */
const MOST_EXTENTS = 256;
/** PROVISIONING STATUS. */
const MAPPED = 0, DEALLOCATED = 1;

function* unmap(task: Task): Script {
  const listLength = u16(task.cdb, 7);
  if (listLength === 0) return task.good();
  if (listLength < HEAD) {
    return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  }
  const list = task.parameters(listLength);
  if (list === null) return;
  const { unit } = task.nexus;
  const described = Math.min(u16(list, 2), listLength - HEAD);
  const count = Math.floor(described / DESCRIPTOR);
  if (count > MAX_UNMAP_DESCRIPTORS) return task.illegalParameter(2);
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    readDescriptor(task, list, i);
    if (!judgeRange(task)) return;
    bytes += task.range[BLOCKS] * unit.blockSize;
  }
  if (bytes > MAX_UNMAP_BYTES) return task.illegalParameter(HEAD + 8);
  const pace = new Pace();
  for (let i = 0; i < count; i++) {
    readDescriptor(task, list, i);
    const result = yield* inPieces(
      task,
      STORAGE_WRITE_ZEROES_UNMAP,
      task.range[LBA] * unit.blockSize,
      task.range[BLOCKS] * unit.blockSize,
      pace,
    );
    if (result < 0) return failStorage(task, true, -result);
  }
  if (!unit.mode.writeCache && bytes > 0) {
    prepareRange(task, 0, 0);
    const result = yield STORAGE_FLUSH;
    if (result < 0) return failStorage(task, true, -result);
  }
  task.good();
}

function readDescriptor(task: Task, list: Uint8Array, index: number): void {
  const at = HEAD + index * DESCRIPTOR;
  task.range[LBA] = u64(list, at);
  task.range[BLOCKS] = u32(list, at + 8);
}

function getLbaStatus(task: Task): void {
  const { cdb, range, nexus } = task;
  const { blockSize, capacity } = nexus.unit;
  range[LBA] = u64(cdb, 2);
  range[BLOCKS] = 1;
  if (!judgeRange(task)) return;
  const allocation = u32(cdb, 10);
  const room = Math.floor(
    (Math.min(allocation, task.dataInLength) - HEAD) / DESCRIPTOR,
  );
  const most = Math.min(Math.max(room, 1), MOST_EXTENTS);
  const descriptors: [number, number, number][] = [];
  for (let lba = range[LBA]; lba < capacity && descriptors.length < most;) {
    const { length, mapped } = nexus.storage!.extent(lba * blockSize);
    // A block is mapped if any byte of it is.
    const blocks = mapped
      ? Math.ceil(length / blockSize)
      : Math.floor(length / blockSize);
    const status = mapped || blocks === 0 ? MAPPED : DEALLOCATED;
    const run = Math.min(Math.max(blocks, 1), capacity - lba, 0xffff_ffff);
    const last = descriptors.at(-1);
    if (last !== undefined && last[2] === status) last[1] += run;
    else descriptors.push([lba, run, status]);
    lba += run;
  }
  const data = new Uint8Array(HEAD + DESCRIPTOR * descriptors.length);
  putU32(data, 0, data.length - 4);
  descriptors.forEach(([lba, blocks, status], i) => {
    const at = HEAD + DESCRIPTOR * i;
    putU64(data, at, lba);
    putU32(data, at + 8, Math.min(blocks, 0xffff_ffff));
    data[at + 12] = status;
  });
  task.reply(data, allocation);
}

/** UNMAP and GET LBA STATUS. */
export const PROVISIONING_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "UNMAP",
    opcode: Op.UNMAP,
    length: 10,
    fields: [
      ["ANCHOR", 1, 0, 1, ZERO],
      ["GROUP NUMBER", 6, 4, 5],
      ["PARAMETER LIST LENGTH", 7, 7, 16],
    ],
    units: UNIT_DISK,
    access: ACCESS_WRITE,
    needsMedium: true,
    writes: true,
    thin: true,
    run: scripted(unmap),
    source: "SBC-4",
    tool: "sg_unmap",
  }),
  defineCommand({
    name: "GET LBA STATUS (16)",
    opcode: Op.SERVICE_ACTION_IN_16,
    serviceAction: 0x12,
    length: 16,
    fields: [
      field.lba64,
      field.allocation16,
      ["REPORT TYPE", 14, 7, 8, ZERO],
    ],
    units: UNIT_DISK,
    access: ACCESS_READ,
    needsMedium: true,
    run: getLbaStatus,
    source: "SBC-4",
    tool: "sg_get_lba_status",
  }),
];
