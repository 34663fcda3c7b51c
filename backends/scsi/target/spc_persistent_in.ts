/**
 * PERSISTENT RESERVE IN.
 *
 * Source: SPC-5, the command PERSISTENT RESERVE IN.
 *
 * @module
 */

import { join, putU16, putU32, u16 } from "./bytes.ts";
import {
  ACCESS_ANY,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_MEDIA,
} from "./command.ts";
import { Op } from "./constants.ts";
import { unhex } from "./names.ts";
import { transportIdOf } from "./nexus.ts";
import { NO_KEY, type ReservationState } from "./reservations.ts";
import { TARGET_PORT } from "./spc_inquiry.ts";
import type { Task } from "./task.ts";

/** TMV; ALLOW COMMANDS 001b; PTPL_A is added. */
const TYPE_MASK_VALID = 0x90;
const PERSISTENT = 0x01;
/** SIP_C and ATP_C: SPEC_I_PT and ALL_TG_PT are served. */
const CAPABLE = 0x0c;
/** PTPL_C. */
const CAN_PERSIST = 0x01;
/** WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX; EX_AC_AR. */
const TYPES = 0xea, MORE_TYPES = 0x01;

function head({ generation }: ReservationState, length: number): Uint8Array {
  const bytes = new Uint8Array(8);
  putU32(bytes, 0, generation);
  putU32(bytes, 4, length);
  return bytes;
}

function readKeys(task: Task): void {
  const { state } = task.nexus.unit.reservations;
  const keys = join(state.registrations.map(({ key }) => unhex(key)));
  task.reply(join([head(state, keys.length), keys]), u16(task.cdb, 7));
}

function readReservation(task: Task): void {
  const { state } = task.nexus.unit.reservations;
  const { reservation, registrations } = state;
  const allocation = u16(task.cdb, 7);
  if (reservation === null) return task.reply(head(state, 0), allocation);
  const body = new Uint8Array(16);
  const holder = registrations
    .find(({ initiator }) => initiator === reservation.holder);
  body.set(unhex(holder?.key ?? NO_KEY));
  body[13] = reservation.type;
  task.reply(join([head(state, body.length), body]), allocation);
}

function reportCapabilities(task: Task): void {
  const { state, canPersist } = task.nexus.unit.reservations;
  const data = new Uint8Array(8);
  putU16(data, 0, data.length);
  data[2] = CAPABLE | (canPersist ? CAN_PERSIST : 0);
  data[3] = TYPE_MASK_VALID | (state.persistent ? PERSISTENT : 0);
  data[4] = TYPES;
  data[5] = MORE_TYPES;
  task.reply(data, u16(task.cdb, 7));
}

function readFullStatus(task: Task): void {
  const { state } = task.nexus.unit.reservations;
  const { reservation } = state;
  const list = join(state.registrations.map(({ initiator, key }) => {
    const transportId = transportIdOf(initiator);
    const bytes = new Uint8Array(24);
    bytes.set(unhex(key));
    const holds = reservation !== null &&
      (reservation.holder === null || reservation.holder === initiator);
    if (holds) {
      bytes[12] = 0x01;
      bytes[13] = reservation.type;
    }
    putU16(bytes, 18, TARGET_PORT);
    putU32(bytes, 20, transportId.length);
    return join([bytes, transportId]);
  }));
  task.reply(join([head(state, list.length), list]), u16(task.cdb, 7));
}

const COMMON = {
  opcode: Op.PERSISTENT_RESERVE_IN,
  length: 10,
  fields: [field.allocation10],
  units: UNIT_MEDIA,
  access: ACCESS_ANY,
} as const;

/** Service actions of PERSISTENT RESERVE IN. */
export const PERSISTENT_IN_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...COMMON,
    name: "PERSISTENT RESERVE IN: READ KEYS",
    serviceAction: 0,
    run: readKeys,
    source: "SPC-5",
    tool: "sg_persist --read-keys",
  }),
  defineCommand({
    ...COMMON,
    name: "PERSISTENT RESERVE IN: READ RESERVATION",
    serviceAction: 1,
    run: readReservation,
    source: "SPC-5",
    tool: "sg_persist --read-reservation",
  }),
  defineCommand({
    ...COMMON,
    name: "PERSISTENT RESERVE IN: REPORT CAPABILITIES",
    serviceAction: 2,
    run: reportCapabilities,
    source: "SPC-5",
    tool: "sg_persist --report-capabilities",
  }),
  defineCommand({
    ...COMMON,
    name: "PERSISTENT RESERVE IN: READ FULL STATUS",
    serviceAction: 3,
    run: readFullStatus,
    source: "SPC-5",
    tool: "sg_persist --read-full-status",
  }),
];
