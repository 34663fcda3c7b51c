/**
 * READ CAPACITY, READ DEFECT DATA.
 *
 * Source: SBC-4, the commands READ CAPACITY and READ DEFECT DATA.
 *
 * @module
 */

import { putU32, putU64, u16, u32 } from "./bytes.ts";
import {
  ACCESS_ANY,
  ACCESS_READ,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  UNIT_MEDIA,
} from "./command.ts";
import { Op } from "./constants.ts";
import type { Task } from "./task.ts";

/** Length of the READ CAPACITY (16) parameter data. */
const CAPACITY_16_SIZE = 32;
/** LBPME and LBPRZ: thin, and unmapped blocks read as zeroes. */
const THIN = 0x80, ZEROES = 0x40;
/** DEFECT LIST FORMAT that is all that can be asked for. */
const LIST_FORMAT = 0x07;

function readCapacity10(task: Task): void {
  const { capacity, blockSize } = task.nexus.unit;
  const data = new Uint8Array(8);
  putU32(data, 0, Math.min(Math.max(capacity - 1, 0), 0xffff_ffff));
  putU32(data, 4, blockSize);
  task.reply(data, data.length);
}

function readCapacity16(task: Task): void {
  const { unit } = task.nexus;
  const data = new Uint8Array(CAPACITY_16_SIZE);
  putU64(data, 0, Math.max(unit.capacity - 1, 0));
  putU32(data, 8, unit.blockSize);
  data[13] = physicalExponent(unit.optimalSize, unit.blockSize);
  if (unit.options.thin) data[14] = THIN | ZEROES;
  task.reply(data, u32(task.cdb, 10));
}

/** Logical blocks per physical block, as an exponent of two. */
function physicalExponent(physical: number, logical: number): number {
  return Math.min(Math.max(Math.floor(Math.log2(physical / logical)), 0), 15);
}

/** There are no defects: the host's file system or the device sees to them. */
function readDefectData(task: Task): void {
  const { cdb } = task;
  const long = cdb[0] === Op.READ_DEFECT_DATA_12;
  const asked = cdb[long ? 1 : 2];
  const data = new Uint8Array(long ? 8 : 4);
  data[1] = asked & (0x18 | LIST_FORMAT);
  task.reply(data, long ? u32(cdb, 6) : u16(cdb, 7));
}

/** READ CAPACITY and READ DEFECT DATA. */
export const CAPACITY_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "READ CAPACITY (10)",
    opcode: Op.READ_CAPACITY_10,
    length: 10,
    fields: [],
    ignored: [["RELADR", 1, 0, 1], field.lba32, ["PMI", 8, 0, 1]],
    units: UNIT_MEDIA,
    access: ACCESS_ANY,
    always: true,
    needsMedium: true,
    run: readCapacity10,
    source: "SBC-4, MMC-6",
    tool: "sg_readcap",
  }),
  defineCommand({
    name: "READ CAPACITY (16)",
    opcode: Op.SERVICE_ACTION_IN_16,
    serviceAction: 0x10,
    length: 16,
    fields: [field.allocation16],
    ignored: [field.lba64, ["PMI", 14, 0, 1]],
    units: UNIT_DISK,
    access: ACCESS_ANY,
    always: true,
    needsMedium: true,
    run: readCapacity16,
    source: "SBC-4",
    tool: "sg_readcap --long",
  }),
  defineCommand({
    name: "READ DEFECT DATA (10)",
    opcode: Op.READ_DEFECT_DATA_10,
    length: 10,
    fields: [
      ["REQ_PLIST REQ_GLIST FORMAT", 2, 4, 5],
      field.allocation10,
    ],
    units: UNIT_DISK,
    access: ACCESS_READ,
    needsMedium: true,
    run: readDefectData,
    source: "SBC-4",
    tool: "sg_raw 37",
  }),
  defineCommand({
    name: "READ DEFECT DATA (12)",
    opcode: Op.READ_DEFECT_DATA_12,
    length: 12,
    fields: [
      ["REQ_PLIST REQ_GLIST FORMAT", 1, 4, 5],
      ["ADDRESS DESCRIPTOR INDEX", 2, 7, 32],
      field.allocation12,
    ],
    units: UNIT_DISK,
    access: ACCESS_READ,
    needsMedium: true,
    run: readDefectData,
    source: "SBC-4",
    tool: "sg_raw b7",
  }),
];
