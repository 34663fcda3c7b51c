/**
 * LOG SENSE: supported pages, temperature, start-stop cycles, provisioning.
 *
 * Source: SPC-5, the command LOG SENSE and the log parameters, SBC-4, the logical
 * block provisioning log page.
 *
 * @module
 */

import { join, putU16, putU32, u16 } from "./bytes.ts";
import {
  ACCESS_ANY,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  ZERO,
} from "./command.ts";
import { Op } from "./constants.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** PC: current threshold, cumulative and default values. Of thresholds there are none. */
const CUMULATIVE = 1;
const SUPPORTED = 0x00, PROVISIONING = 0x0c, TEMPERATURE = 0x0d;
const START_STOP = 0x0e;
const ALL_SUBPAGES = 0xff;
/** A temperature that is not known. */
const UNKNOWN_TEMPERATURE = 0xff;
/** Parameter control: binary format, list parameter. */
const BINARY_LIST = 0x03;
/** Bytes that a count of provisioning resources stands for, as a power of two. */
const THRESHOLD_EXPONENT = 11;

function parameter(code: number, value: Uint8Array): Uint8Array {
  const head = new Uint8Array(4);
  putU16(head, 0, code);
  head[2] = BINARY_LIST;
  head[3] = value.length;
  return join([head, value]);
}

function counter(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU32(bytes, 0, value);
  return bytes;
}

/** Parameters of a page from a parameter code on, or `null`: no such page. */
function parametersOf(
  task: Task,
  page: number,
): readonly [number, Uint8Array][] | null {
  const { unit, storage } = task.nexus;
  switch (page) {
    case TEMPERATURE:
      return [
        [0, Uint8Array.of(0, UNKNOWN_TEMPERATURE)],
        [1, Uint8Array.of(0, UNKNOWN_TEMPERATURE)],
      ];
    case START_STOP:
      return [[4, counter(unit.starts)], [6, counter(unit.loads)]];
    case PROVISIONING: {
      if (!unit.options.thin) return null;
      const allocated = Number(storage?.status().allocatedBytes ?? 0);
      const used = Math.ceil(allocated / unit.blockSize) /
        2 ** THRESHOLD_EXPONENT;
      const value = new Uint8Array(8);
      putU32(value, 0, Math.ceil(used));
      // Used resources, of this logical unit alone.
      value[4] = 1;
      return [[2, value]];
    }
    default:
      return null;
  }
}

/** Codes of the log pages of a logical unit. */
export function logPages(unit: LogicalUnit): number[] {
  return [
    SUPPORTED,
    ...(unit.options.thin ? [PROVISIONING] : []),
    TEMPERATURE,
    START_STOP,
  ];
}

function logSense(task: Task): void {
  const { cdb, nexus } = task;
  const page = cdb[2] & 0x3f, subpage = cdb[3];
  if (cdb[2] >> 6 !== CUMULATIVE) return task.illegalField(2, 7);
  const allocation = u16(cdb, 7), pointer = u16(cdb, 5);
  const head = new Uint8Array(4);
  head[0] = page;
  let body: Uint8Array;
  if (page === SUPPORTED && (subpage === 0 || subpage === ALL_SUBPAGES)) {
    if (pointer !== 0) return task.illegalField(5);
    const codes = logPages(nexus.unit);
    body = Uint8Array.from(
      subpage === 0 ? codes : codes.flatMap((code) => [code, 0]),
    );
    if (subpage !== 0) {
      head[0] |= 0x40;
      head[1] = subpage;
    }
  } else {
    const known = parametersOf(task, page);
    if (known === null) return task.illegalField(2, 5);
    if (subpage !== 0) return task.illegalField(3);
    const chosen = known.filter(([code]) => code >= pointer);
    if (chosen.length === 0) return task.illegalField(5);
    body = join(chosen.map(([code, value]) => parameter(code, value)));
  }
  putU16(head, 2, body.length);
  task.reply(join([head, body]), allocation);
}

/** LOG SENSE. */
export const LOG_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "LOG SENSE",
    opcode: Op.LOG_SENSE,
    length: 10,
    fields: [
      ["PPC", 1, 1, 1, ZERO],
      ["SP", 1, 0, 1, ZERO],
      ["PC", 2, 7, 2],
      ["PAGE CODE", 2, 5, 6],
      ["SUBPAGE CODE", 3, 7, 8],
      ["PARAMETER POINTER", 5, 7, 16],
      field.allocation10,
    ],
    units: UNIT_DISK,
    access: ACCESS_ANY,
    always: true,
    run: logSense,
    source: "SPC-5",
    tool: "sg_logs",
  }),
];
