/**
 * RESERVE and RELEASE of the whole logical unit.
 *
 * They are refused while initiators are registered for persistent reservations.
 *
 * Source: SPC-2, the commands of these names.
 *
 * @module
 */

import {
  ACCESS_OWN,
  type CdbField,
  type CommandSpec,
  defineCommand,
  UNIT_MEDIA,
  ZERO,
} from "./command.ts";
import { Op } from "./constants.ts";
import type { Task } from "./task.ts";

function reserve(task: Task): void {
  const { initiator, unit } = task.nexus;
  if (unit.reservations.state.registrations.length > 0) return task.conflict();
  unit.reservations.legacy = initiator.name;
  task.good();
}

function release(task: Task): void {
  const { initiator, unit } = task.nexus;
  if (unit.reservations.state.registrations.length > 0) return task.conflict();
  // Of somebody else's reservation nothing is released, and nothing is wrong.
  if (unit.reservations.legacy === initiator.name) {
    unit.reservations.legacy = null;
  }
  task.good();
}

const FIELDS: readonly CdbField[] = [
  ["3RDPTY", 1, 4, 1, ZERO],
  ["EXTENT", 1, 0, 1, ZERO],
];
/** What only third parties and extents had a use for. */
const IGNORED_6: readonly CdbField[] = [
  ["THIRD PARTY DEVICE ID", 1, 3, 3],
  ["RESERVATION IDENTIFICATION", 2, 7, 8],
  ["PARAMETER LIST LENGTH", 3, 7, 16],
];
const FIELDS_10: readonly CdbField[] = [...FIELDS, ["LONGID", 1, 1, 1, ZERO]];
const IGNORED_10: readonly CdbField[] = [
  ["RESERVATION IDENTIFICATION", 2, 7, 8],
  ["THIRD PARTY DEVICE ID", 3, 7, 8],
  ["PARAMETER LIST LENGTH", 7, 7, 16],
];
const COMMON = {
  units: UNIT_MEDIA,
  access: ACCESS_OWN,
} as const;

/** RESERVE and RELEASE of both lengths. */
export const RESERVE_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...COMMON,
    name: "RESERVE (6)",
    opcode: Op.RESERVE_6,
    length: 6,
    fields: FIELDS,
    ignored: IGNORED_6,
    once: true,
    run: reserve,
    source: "SPC-2",
    tool: "sg_raw 16",
  }),
  defineCommand({
    ...COMMON,
    name: "RELEASE (6)",
    opcode: Op.RELEASE_6,
    length: 6,
    fields: FIELDS,
    ignored: IGNORED_6,
    always: true,
    once: true,
    run: release,
    source: "SPC-2",
    tool: "sg_raw 17",
  }),
  defineCommand({
    ...COMMON,
    name: "RESERVE (10)",
    opcode: Op.RESERVE_10,
    length: 10,
    fields: FIELDS_10,
    ignored: IGNORED_10,
    once: true,
    run: reserve,
    source: "SPC-2",
    tool: "sg_raw 56",
  }),
  defineCommand({
    ...COMMON,
    name: "RELEASE (10)",
    opcode: Op.RELEASE_10,
    length: 10,
    fields: FIELDS_10,
    ignored: IGNORED_10,
    always: true,
    once: true,
    run: release,
    source: "SPC-2",
    tool: "sg_raw 57",
  }),
];
