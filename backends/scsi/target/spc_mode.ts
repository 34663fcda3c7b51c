/**
 * MODE SENSE and MODE SELECT.
 *
 * A MODE SELECT that switches the write cache off makes all that was written
 * durable first: from then on nobody flushes. If that fails nothing changes. What
 * changed is kept for a successor before the command is answered.
 *
 * Source: SPC-5, the commands of these names and the mode parameters.
 *
 * @module
 */

import { STORAGE_FLUSH } from "../../storage/storage.ts";
import { join, putU16, putU24, putU32, u16, u24 } from "./bytes.ts";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type CdbField,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_DISK,
  UNIT_MEDIA,
  ZERO,
} from "./command.ts";
import { Asc, Op } from "./constants.ts";
import {
  type ModePage,
  PageControl,
  pageSize,
  writeCacheOf,
} from "./mode_parameters.ts";
import { PAUSE, prepareRange, type Script, scripted } from "./script.ts";
import { failStorage } from "./storage_sense.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

const DBD = 0x08, PF = 0x10;
/**
 * How long it is waited for that changed parameters are kept, in ms. It takes one
 * or two; who never says so must not hold a ring that is to stop.
 */
const KEEP_PATIENCE = 1000;
const ALL_PAGES = 0x3f, ALL_SUBPAGES = 0xff;
/** DEVICE-SPECIFIC PARAMETER: write protected; DPO and FUA are supported. */
const WP = 0x80, DPOFUA = 0x10;
/** Length of a block descriptor. */
const BLOCK_DESCRIPTOR = 8;

function isShort(task: Task): boolean {
  return task.cdb[0] < 0x20;
}

function choosePages(
  { mode }: LogicalUnit,
  page: number,
  subpage: number,
): readonly ModePage[] {
  return mode.pages.filter((one) =>
    (page === ALL_PAGES || one.page === page) &&
    (subpage === ALL_SUBPAGES || one.subpage === subpage)
  );
}

function blockDescriptor(unit: LogicalUnit): Uint8Array {
  const bytes = new Uint8Array(BLOCK_DESCRIPTOR);
  putU32(bytes, 0, Math.min(unit.capacity, 0xffff_ffff));
  putU24(bytes, 5, unit.blockSize);
  return bytes;
}

function modeSense(task: Task): void {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  const control = cdb[2] >> 6, page = cdb[2] & 0x3f, subpage = cdb[3];
  if (control === PageControl.SAVED) {
    return task.illegal(Asc.SAVING_PARAMETERS_NOT_SUPPORTED);
  }
  const chosen = choosePages(unit, page, subpage);
  if (chosen.length === 0) {
    const known = unit.mode.pages.some((one) => one.page === page);
    return known ? task.illegalField(3) : task.illegalField(2, 5);
  }
  const pages = chosen.map((one) =>
    control === PageControl.CHANGEABLE
      ? one.changeable
      : control === PageControl.DEFAULT
      ? one.defaults
      : one.current
  );
  const specific = unit.kind === UNIT_DISK
    ? (unit.writeProtected ? WP : 0) | DPOFUA
    : 0;
  const descriptor = (cdb[1] & DBD) !== 0 || unit.kind !== UNIT_DISK
    ? new Uint8Array()
    : blockDescriptor(unit);
  const size = descriptor.length + pages.reduce((n, p) => n + p.length, 0);
  if (isShort(task)) {
    const head = Uint8Array.of(size + 3, 0, specific, descriptor.length);
    task.reply(join([head, descriptor, ...pages]), cdb[4]);
  } else {
    const head = new Uint8Array(8);
    putU16(head, 0, size + 6);
    head[3] = specific;
    putU16(head, 6, descriptor.length);
    task.reply(join([head, descriptor, ...pages]), u16(cdb, 7));
  }
}

function* modeSelect(task: Task): Script {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  const short = isShort(task);
  const length = short ? cdb[4] : u16(cdb, 7);
  if ((cdb[1] & PF) === 0) return task.illegalField(1, 4);
  if (length === 0) return task.good();
  const headSize = short ? 4 : 8;
  const list = task.parameters(length);
  if (list === null) return;
  if (length < headSize) return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  const descriptorSize = short ? list[3] : u16(list, 6);
  let at = headSize + descriptorSize;
  if (descriptorSize !== 0 && descriptorSize !== BLOCK_DESCRIPTOR) {
    return task.illegalParameter(short ? 3 : 6);
  }
  if (at > length) return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  if (
    descriptorSize !== 0 && u24(list, headSize + 5) !== unit.blockSize
  ) return task.illegalParameter(headSize + 5);
  const changes: [ModePage, Uint8Array][] = [];
  while (at < length) {
    if (at + 2 > length || at + pageSize(list, at) > length) {
      return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
    }
    const size = pageSize(list, at);
    const subpage = list[at] & 0x40 ? list[at + 1] : 0;
    const page = unit.mode.find(list[at] & 0x3f, subpage);
    if (page === undefined) return task.illegalParameter(at, 5);
    if (size !== page.current.length) return task.illegalParameter(at + 1);
    const values = list.slice(at, at + size);
    // PS is reserved here.
    values[0] &= 0x7f;
    const head = subpage === 0 ? 2 : 4;
    for (let i = head; i < size; i++) {
      const wrong = (values[i] ^ page.current[i]) & ~page.changeable[i];
      if (wrong !== 0) {
        return task.illegalParameter(at + i, 31 - Math.clz32(wrong & 0xff));
      }
    }
    changes.push([page, values]);
    at += size;
  }
  let writeCache = unit.mode.writeCache;
  for (const [page, values] of changes) {
    writeCache = writeCacheOf(page, values) ?? writeCache;
  }
  if (
    unit.mode.writeCache && !writeCache && nexus.storage !== null &&
    !unit.options.readOnly
  ) {
    task.range.fill(0);
    prepareRange(task, 0, 0);
    const result = yield STORAGE_FLUSH;
    if (result < 0) return failStorage(task, true, -result);
  }
  let changed = false;
  for (const [page, values] of changes) {
    if (values.some((byte, i) => byte !== page.current[i])) changed = true;
    page.current.set(values);
  }
  if (changed) {
    unit.raise(Asc.MODE_PARAMETERS_CHANGED, nexus);
    // An initiator that was answered believes in them, whoever comes after us.
    let kept = false;
    unit.modesChanged(() => kept = true);
    const end = performance.now() + KEEP_PATIENCE;
    while (!kept && performance.now() < end) yield PAUSE;
  }
  task.good();
}

const PAGE_FIELDS: readonly CdbField[] = [
  ["DBD", 1, 3, 1],
  ["PC", 2, 7, 2],
  ["PAGE CODE", 2, 5, 6],
  ["SUBPAGE CODE", 3, 7, 8],
];
const SENSE = {
  units: UNIT_MEDIA,
  access: ACCESS_READ,
  run: modeSense,
} as const;
const SELECT = {
  units: UNIT_MEDIA,
  access: ACCESS_WRITE,
  exclusive: true,
  run: scripted(modeSelect),
} as const;
const SELECT_FIELDS: readonly CdbField[] = [
  ["PF", 1, 4, 1],
  ["RTD", 1, 1, 1, ZERO],
  ["SP", 1, 0, 1, ZERO],
];

/** MODE SENSE and MODE SELECT of both lengths. */
export const MODE_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...SENSE,
    name: "MODE SENSE (6)",
    tool: "sg_modes --six",
    opcode: Op.MODE_SENSE_6,
    length: 6,
    fields: [...PAGE_FIELDS, ["ALLOCATION LENGTH", 4, 7, 8]],
    source: "SPC-5",
  }),
  defineCommand({
    ...SENSE,
    name: "MODE SENSE (10)",
    tool: "sg_modes",
    opcode: Op.MODE_SENSE_10,
    length: 10,
    fields: [...PAGE_FIELDS, field.allocation10],
    ignored: [["LLBAA", 1, 4, 1]],
    source: "SPC-5",
  }),
  defineCommand({
    ...SELECT,
    name: "MODE SELECT (6)",
    tool: "sg_wr_mode --six",
    opcode: Op.MODE_SELECT_6,
    length: 6,
    fields: [...SELECT_FIELDS, ["PARAMETER LIST LENGTH", 4, 7, 8]],
    source: "SPC-5",
  }),
  defineCommand({
    ...SELECT,
    name: "MODE SELECT (10)",
    tool: "sg_wr_mode",
    opcode: Op.MODE_SELECT_10,
    length: 10,
    fields: [...SELECT_FIELDS, ["PARAMETER LIST LENGTH", 7, 7, 16]],
    source: "SPC-5",
  }),
];
