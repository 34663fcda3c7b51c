/**
 * What a logical unit can do, told in MAINTENANCE IN: its commands, task
 * management functions and target port groups.
 *
 * Source: SPC-5, the commands of these names.
 *
 * @module
 */

import { join, putU16, putU32, u16, u32 } from "./bytes.ts";
import {
  ACCESS_ANY,
  ACCESS_READ,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_MEDIA,
} from "./command.ts";
import { Op } from "./constants.ts";
import { TARGET_PORT, TARGET_PORT_GROUP } from "./spc_inquiry.ts";
import type { Task } from "./task.ts";

const RCTD = 0x80;
/** SERVACTV and CTDP of a command descriptor. */
const SERVACTV = 0x01, CTDP = 0x02;
/** SUPPORT: not, as the standard says. */
const NOT_SUPPORTED = 1, SUPPORTED = 3;
const ALL = 0, BY_OPCODE = 1, BY_SERVICE_ACTION = 2, BY_EITHER = 3;
/** ATS, ATSS, CACAS, CTSS, LURS, QTS; QTSS, ITNRS: the eight that virtio has. */
const FUNCTIONS = 0xfc, MORE_FUNCTIONS = 0x03;

/** A command timeouts descriptor that tells of no timeouts. */
function timeouts(): Uint8Array {
  const bytes = new Uint8Array(12);
  putU16(bytes, 0, 10);
  return bytes;
}

function describe(command: CommandSpec, rctd: boolean): Uint8Array {
  const bytes = new Uint8Array(8);
  bytes[0] = command.opcode;
  putU16(bytes, 2, command.serviceAction ?? 0);
  bytes[5] = (command.serviceAction === undefined ? 0 : SERVACTV) |
    (rctd ? CTDP : 0);
  putU16(bytes, 6, command.length);
  return rctd ? join([bytes, timeouts()]) : bytes;
}

function reportOpcodes(task: Task): void {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  const rctd = (cdb[2] & RCTD) !== 0;
  const options = cdb[2] & 7, opcode = cdb[3], serviceAction = u16(cdb, 4);
  const allocation = u32(cdb, 6);
  const { commands } = unit;
  if (options === ALL) {
    const list = join(commands.map((command) => describe(command, rctd)));
    const head = new Uint8Array(4);
    putU32(head, 0, list.length);
    return task.reply(join([head, list]), allocation);
  }
  const actions = unit.servesActions(opcode);
  if (options === BY_OPCODE && actions) return task.illegalField(2, 2);
  if (options === BY_SERVICE_ACTION && !actions) {
    // An operation code that is not known at all is no wrong field.
    if (commands.some((command) => command.opcode === opcode)) {
      return task.illegalField(2, 2);
    }
  }
  if (options > BY_EITHER) return task.illegalField(2, 2);
  const found = commands.find((command) =>
    command.opcode === opcode &&
    (command.serviceAction === undefined ||
      command.serviceAction === serviceAction)
  );
  const head = new Uint8Array(4);
  if (found === undefined) {
    head[1] = NOT_SUPPORTED;
    return task.reply(head, allocation);
  }
  head[1] = SUPPORTED | (rctd ? RCTD : 0);
  putU16(head, 2, found.length);
  task.reply(
    join([head, found.usage, rctd ? timeouts() : new Uint8Array()]),
    allocation,
  );
}

function reportFunctions(task: Task): void {
  const { cdb } = task;
  const extended = (cdb[2] & 0x80) !== 0;
  const data = new Uint8Array(extended ? 16 : 4);
  data[0] = FUNCTIONS;
  data[1] = MORE_FUNCTIONS;
  if (extended) data[3] = 12;
  task.reply(data, u32(cdb, 6));
}

function reportPortGroups(task: Task): void {
  const { cdb } = task;
  const extended = cdb[1] >> 5 === 1;
  if (cdb[1] >> 5 > 1) return task.illegalField(1, 7);
  const group = new Uint8Array(12);
  // Active and optimized; that and no other state is supported.
  group[1] = 0x01;
  putU16(group, 2, TARGET_PORT_GROUP);
  group[7] = 1;
  putU16(group, 10, TARGET_PORT);
  const head = new Uint8Array(extended ? 8 : 4);
  putU32(head, 0, group.length + head.length - 4);
  if (extended) head[4] = 0x10;
  task.reply(join([head, group]), u32(cdb, 6));
}

const COMMON = {
  opcode: Op.MAINTENANCE_IN,
  length: 12,
  units: UNIT_MEDIA,
} as const;

/** REPORT commands of MAINTENANCE IN. */
export const REPORT_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...COMMON,
    name: "REPORT TARGET PORT GROUPS",
    serviceAction: 0x0a,
    fields: [["PARAMETER DATA FORMAT", 1, 7, 3], field.allocation12],
    access: ACCESS_ANY,
    run: reportPortGroups,
    source: "SPC-5",
    tool: "sg_rtpg",
  }),
  defineCommand({
    ...COMMON,
    name: "REPORT SUPPORTED OPERATION CODES",
    serviceAction: 0x0c,
    fields: [
      ["RCTD", 2, 7, 1],
      ["REPORTING OPTIONS", 2, 2, 3],
      ["REQUESTED OPERATION CODE", 3, 7, 8],
      ["REQUESTED SERVICE ACTION", 4, 7, 16],
      field.allocation12,
    ],
    access: ACCESS_READ,
    run: reportOpcodes,
    source: "SPC-5",
    tool: "sg_opcodes",
  }),
  defineCommand({
    ...COMMON,
    name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    serviceAction: 0x0d,
    fields: [["REPD", 2, 7, 1], field.allocation12],
    access: ACCESS_READ,
    run: reportFunctions,
    source: "SPC-5",
    tool: "sg_opcodes --tmf",
  }),
];
