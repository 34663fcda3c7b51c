/**
 * TEST UNIT READY, REQUEST SENSE, REPORT LUNS, and diagnostics.
 *
 * Source: SPC-5, the commands of these names.
 *
 * @module
 */

import { join, putU32, u16, u32 } from "./bytes.ts";
import {
  ACCESS_ANY,
  ACCESS_READ,
  ACCESS_WRITE,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_ABSENT,
  UNIT_ANY,
  UNIT_MEDIA,
  ZERO,
} from "./command.ts";
import { Asc, Op, SenseKey } from "./constants.ts";
import { encodeSense, SENSE_SIZE } from "./sense.ts";
import type { Task } from "./task.ts";

/** Smallest ALLOCATION LENGTH of REPORT LUNS. */
const LEAST_LUNS = 16;
/** SELECT REPORT: LUNs, well-known ones only, both. */
const LOGICAL = 0, WELL_KNOWN = 1, ALL = 2;
/** The REPORT LUNS well-known logical unit. */
const REPORT_LUNS_LUN = Uint8Array.of(0xc1, 0x01, 0, 0, 0, 0, 0, 0);
/** Code of the "supported diagnostic pages" page. */
const SUPPORTED_PAGES = 0x00;
const SELF_TEST = 0x04, PAGE_FORMAT = 0x10;

function testUnitReady(task: Task): void {
  task.good();
}

/** Sense data of a logical unit with which nothing is wrong but its state. */
function requestSense(task: Task): void {
  const { nexus, cdb } = task;
  const { unit } = nexus;
  let key: number = SenseKey.NO_SENSE;
  let asc = nexus.takeAttention();
  if (asc !== 0) key = SenseKey.UNIT_ATTENTION;
  else if (unit.kind === UNIT_ABSENT) {
    key = SenseKey.ILLEGAL_REQUEST;
    asc = Asc.LOGICAL_UNIT_NOT_SUPPORTED;
  } else if (unit.hasMedia && (!unit.loaded || unit.ejected)) {
    key = SenseKey.NOT_READY;
    asc = Asc.MEDIUM_NOT_PRESENT;
  } else if (unit.stopped) {
    key = SenseKey.NOT_READY;
    asc = Asc.LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED;
  }
  const data = new Uint8Array(SENSE_SIZE);
  const length = encodeSense({ key, asc }, (cdb[1] & 1) !== 0, data);
  task.reply(data.subarray(0, length), cdb[4]);
}

function reportLuns(task: Task): void {
  const { nexus, cdb } = task;
  const allocation = u32(cdb, 6);
  if (allocation < LEAST_LUNS) return task.illegalField(6);
  if (nexus.unit.kind === UNIT_ABSENT && task.lun !== 0) {
    return task.illegal(Asc.LOGICAL_UNIT_NOT_SUPPORTED);
  }
  const luns: Uint8Array[] = [];
  switch (cdb[2]) {
    case LOGICAL:
      luns.push(...nexus.inventory());
      break;
    case WELL_KNOWN:
      luns.push(REPORT_LUNS_LUN);
      break;
    case ALL:
      luns.push(...nexus.inventory(), REPORT_LUNS_LUN);
      break;
    default:
      return task.illegalField(2);
  }
  nexus.clearAttention(Asc.REPORTED_LUNS_DATA_HAS_CHANGED);
  const head = new Uint8Array(8);
  putU32(head, 0, 8 * luns.length);
  task.reply(join([head, ...luns]), allocation);
}

function sendDiagnostic(task: Task): void {
  const { cdb } = task;
  const length = u16(cdb, 3);
  if ((cdb[1] & SELF_TEST) !== 0) {
    // The default self-test has no parameters, and finds nothing.
    return length === 0 ? task.good() : task.illegalField(3);
  }
  if (length === 0) return task.good();
  if ((cdb[1] & PAGE_FORMAT) === 0) return task.illegalField(1, 4);
  const list = task.parameters(length);
  if (list === null) return;
  if (length < 4) return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  if (list[0] !== SUPPORTED_PAGES) return task.illegalParameter(0);
  task.good();
}

function receiveDiagnostic(task: Task): void {
  const { cdb } = task;
  const pageCodeValid = (cdb[1] & 1) !== 0;
  if (pageCodeValid && cdb[2] !== SUPPORTED_PAGES) return task.illegalField(2);
  task.reply(Uint8Array.of(SUPPORTED_PAGES, 0, 0, 1, 0), u16(cdb, 3));
}

/** Commands that every logical unit has, and diagnostics. */
export const BASIC_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "TEST UNIT READY",
    opcode: Op.TEST_UNIT_READY,
    length: 6,
    fields: [],
    units: UNIT_MEDIA,
    access: ACCESS_ANY,
    needsMedium: true,
    run: testUnitReady,
    source: "SPC-5",
    tool: "sg_turs",
  }),
  defineCommand({
    name: "REQUEST SENSE",
    opcode: Op.REQUEST_SENSE,
    length: 6,
    fields: [["DESC", 1, 0, 1], ["ALLOCATION LENGTH", 4, 7, 8]],
    units: UNIT_ANY | UNIT_ABSENT,
    access: ACCESS_ANY,
    always: true,
    ignoresAttention: true,
    run: requestSense,
    source: "SPC-5",
    tool: "sg_requests",
  }),
  defineCommand({
    name: "REPORT LUNS",
    opcode: Op.REPORT_LUNS,
    length: 12,
    fields: [["SELECT REPORT", 2, 7, 8], field.allocation12],
    units: UNIT_ANY | UNIT_ABSENT,
    access: ACCESS_ANY,
    always: true,
    ignoresAttention: true,
    run: reportLuns,
    source: "SPC-5",
    tool: "sg_luns",
  }),
  defineCommand({
    name: "SEND DIAGNOSTIC",
    opcode: Op.SEND_DIAGNOSTIC,
    length: 6,
    fields: [
      ["SELF-TEST CODE", 1, 7, 3, ZERO],
      ["PF", 1, 4, 1],
      ["SELFTEST", 1, 2, 1],
      ["DEVOFFL UNITOFFL", 1, 1, 2],
      ["PARAMETER LIST LENGTH", 3, 7, 16],
    ],
    units: UNIT_MEDIA,
    access: ACCESS_WRITE,
    run: sendDiagnostic,
    source: "SPC-5",
    tool: "sg_senddiag",
  }),
  defineCommand({
    name: "RECEIVE DIAGNOSTIC RESULTS",
    opcode: Op.RECEIVE_DIAGNOSTIC_RESULTS,
    length: 6,
    fields: [["PCV", 1, 0, 1], ["PAGE CODE", 2, 7, 8], field.allocation6],
    units: UNIT_MEDIA,
    access: ACCESS_READ,
    run: receiveDiagnostic,
    source: "SPC-5",
    tool: "sg_senddiag --list",
  }),
];
