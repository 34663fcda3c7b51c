/**
 * PERSISTENT RESERVE OUT.
 *
 * Theory of operation. A service action looks at the state and makes the next
 * one, which {@linkcode commit} puts in its place; only then are other
 * initiators told by unit attention conditions.
 *
 * Source: SPC-5, the command PERSISTENT RESERVE OUT and the model of
 * reservations.
 *
 * @module
 */

import { u16, u32 } from "./bytes.ts";
import {
  ACCESS_OWN,
  type CommandSpec,
  defineCommand,
  UNIT_MEDIA,
} from "./command.ts";
import { Asc, Op, SenseKey } from "./constants.ts";
import { hex } from "./names.ts";
import { type Nexus, transportIdOf } from "./nexus.ts";
import {
  isAllRegistrants,
  isForRegistrants,
  isReservationType,
  NO_KEY,
  type Registration,
  type ReservationState,
} from "./reservations.ts";
import { OUTCOME_ABORTED, type Task } from "./task.ts";

/** Length of the parameter list, of all service actions but one. */
const LIST_SIZE = 24;
const SPEC_I_PT = 0x08, ALL_TG_PT = 0x04, APTPL = 0x01, UNREG = 0x02;

/** What a service action works on. */
interface Request {
  readonly task: Task;
  readonly nexus: Nexus;
  readonly state: ReservationState;
  /** The initiator's registration. */
  readonly own: Registration | undefined;
  readonly type: number;
  /** RESERVATION KEY. */
  readonly key: string;
  /** SERVICE ACTION RESERVATION KEY. */
  readonly actionKey: string;
  readonly list: Uint8Array;
}

/** Makes a function that runs a service action. */
function action(
  act: (request: Request) => void,
  needsKey: boolean,
  needsScope: boolean,
): (task: Task) => void {
  return (task) => {
    const { cdb, nexus } = task;
    const moving = cdb[1] === MOVE;
    const length = u32(cdb, 5);
    if (moving ? length < LIST_SIZE : length !== LIST_SIZE) {
      return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
    }
    if (length > 0x1_0000) return task.illegalField(5);
    const list = task.parameters(length);
    if (list === null) return;
    const { reservations } = nexus.unit;
    const key = hex(list.subarray(0, 8));
    const own = reservations.registration(nexus.initiator);
    if (needsKey && own?.key !== key) return task.conflict();
    // LU_SCOPE is the only scope.
    if (needsScope && cdb[2] >> 4 !== 0) return task.illegalField(2, 7);
    act({
      task,
      nexus,
      state: reservations.state,
      own,
      type: cdb[2] & 0xf,
      key,
      actionKey: hex(list.subarray(8, 16)),
      list,
    });
  };
}

const MOVE = 7;

/** Replaces the state; false when it could not be saved: the command has ended. */
function commit(
  { task, nexus }: Request,
  next: ReservationState,
): boolean {
  try {
    nexus.unit.reservations.commit(next);
    return true;
  } catch {
    task.fail({
      key: SenseKey.ILLEGAL_REQUEST,
      asc: Asc.INSUFFICIENT_REGISTRATION_RESOURCES,
    });
    return false;
  }
}

/** Establishes a unit attention condition for other initiators. */
function tell(
  { nexus }: Request,
  registrations: readonly Registration[],
  asc: number,
): void {
  for (const other of nexus.unit.nexuses) {
    const { name } = other.initiator;
    if (
      other !== nexus &&
      registrations.some(({ initiator }) => initiator === name)
    ) other.raise(asc);
  }
}

function nextGeneration({ generation }: ReservationState): number {
  return (generation + 1) >>> 0;
}

function register(ignoreKey: boolean): (request: Request) => void {
  return (request) => {
    const { task, nexus, state, own, key, actionKey, list } = request;
    if (nexus.unit.reservations.legacy !== null) return task.conflict();
    if (!ignoreKey && key !== (own?.key ?? NO_KEY)) return task.conflict();
    if ((list[20] & SPEC_I_PT) !== 0) return task.illegalParameter(20, 3);
    if ((list[20] & ALL_TG_PT) !== 0) return task.illegalParameter(20, 2);
    const persistent = (list[20] & APTPL) !== 0;
    const { name } = nexus.initiator;
    const others = state.registrations
      .filter(({ initiator }) => initiator !== name);
    if (actionKey === NO_KEY) {
      if (own === undefined) return task.good();
      return unregister(request, others, persistent);
    }
    const next = {
      ...state,
      generation: nextGeneration(state),
      registrations: [...others, { initiator: name, key: actionKey }],
      persistent,
    };
    if (commit(request, next)) task.good();
  };
}

/** An initiator leaves; what it holds is released. */
function unregister(
  request: Request,
  others: readonly Registration[],
  persistent: boolean,
): void {
  const { task, nexus, state } = request;
  const { reservation } = state;
  const releases = reservation !== null &&
    (reservation.holder === nexus.initiator.name ||
      reservation.holder === null && others.length === 0);
  const next = {
    ...state,
    generation: nextGeneration(state),
    registrations: others,
    reservation: releases ? null : reservation,
    persistent,
  };
  if (!commit(request, next)) return;
  if (releases && isForRegistrants(reservation.type)) {
    tell(request, others, Asc.RESERVATIONS_RELEASED);
  }
  task.good();
}

function reserve(request: Request): void {
  const { task, nexus, state, type } = request;
  if (!isReservationType(type)) return task.illegalField(2, 3);
  const { reservations } = nexus.unit;
  if (state.reservation !== null) {
    const same = reservations.holds(nexus.initiator) &&
      state.reservation.type === type;
    return same ? task.good() : task.conflict();
  }
  const holder = isAllRegistrants(type) ? null : nexus.initiator.name;
  if (commit(request, { ...state, reservation: { type, holder } })) {
    task.good();
  }
}

function release(request: Request): void {
  const { task, nexus, state, type } = request;
  const { reservation } = state;
  if (
    reservation === null || !nexus.unit.reservations.holds(nexus.initiator)
  ) return task.good();
  if (reservation.type !== type) {
    return task.illegal(Asc.INVALID_RELEASE_OF_PERSISTENT_RESERVATION);
  }
  if (!commit(request, { ...state, reservation: null })) return;
  if (isForRegistrants(type)) {
    tell(request, state.registrations, Asc.RESERVATIONS_RELEASED);
  }
  task.good();
}

function clear(request: Request): void {
  const { task, state } = request;
  const next = {
    ...state,
    generation: nextGeneration(state),
    registrations: [],
    reservation: null,
  };
  if (!commit(request, next)) return;
  tell(request, state.registrations, Asc.RESERVATIONS_PREEMPTED);
  task.good();
}

function preempt(abort: boolean): (request: Request) => void {
  return (request) => {
    const { task, nexus, state, actionKey, type } = request;
    const { reservation, registrations } = state;
    const { name } = nexus.initiator;
    const all = reservation !== null && reservation.holder === null;
    const holder = registrations
      .find(({ initiator }) => initiator === reservation?.holder);
    // Whether the reservation itself is taken over.
    const takes = all ? actionKey === NO_KEY : holder?.key === actionKey;
    if (actionKey === NO_KEY && !all) return task.illegalParameter(8);
    if (takes && !isReservationType(type)) return task.illegalField(2, 3);
    const removed = registrations.filter(({ initiator, key }) =>
      (key === actionKey || takes && all) && initiator !== name
    );
    const own = registrations
      .some(({ initiator, key }) => initiator === name && key === actionKey);
    if (!takes && removed.length === 0 && !own) return task.conflict();
    // A key that is the initiator's own removes its registration, too, unless
    // it takes the reservation.
    const kept = registrations.filter((one) =>
      !removed.includes(one) &&
      (takes || one.initiator !== name || one.key !== actionKey)
    );
    const next = {
      ...state,
      generation: nextGeneration(state),
      registrations: kept,
      reservation: takes
        ? { type, holder: isAllRegistrants(type) ? null : name }
        : reservation !== null && all && kept.length === 0
        ? null
        : reservation,
    };
    if (!commit(request, next)) return;
    tell(request, removed, Asc.REGISTRATIONS_PREEMPTED);
    if (
      takes && reservation !== null && reservation.type !== type &&
      isForRegistrants(reservation.type)
    ) tell(request, kept, Asc.RESERVATIONS_RELEASED);
    if (!abort) return task.good();
    const names = new Set(removed.map(({ initiator }) => initiator));
    nexus.unit.tasks.abort(
      (other) => other !== task && names.has(other.nexus.initiator.name),
      OUTCOME_ABORTED,
      () => task.good(),
    );
  };
}

function move(request: Request): void {
  const { task, nexus, state, actionKey, list } = request;
  const { reservation, registrations } = state;
  const { reservations } = nexus.unit;
  if (reservation === null || !reservations.holds(nexus.initiator)) {
    return task.conflict();
  }
  if (isAllRegistrants(reservation.type)) return task.conflict();
  if (actionKey === NO_KEY) return task.illegalParameter(8);
  if (u32(list, 20) !== list.length - LIST_SIZE) {
    return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
  }
  if (u16(list, 18) !== 1) return task.illegalParameter(18);
  const wanted = hex(list.subarray(LIST_SIZE));
  const known = new Set([
    ...Array.from(nexus.unit.nexuses, ({ initiator }) => initiator.name),
    ...registrations.map(({ initiator }) => initiator),
  ]);
  const { name } = nexus.initiator;
  const target = [...known].find((one) => hex(transportIdOf(one)) === wanted);
  if (target === undefined || target === name) {
    return task.illegalParameter(LIST_SIZE);
  }
  const leaves = (list[17] & UNREG) !== 0;
  const others = registrations.filter(({ initiator }) =>
    initiator !== target && !(leaves && initiator === name)
  );
  const next = {
    ...state,
    generation: nextGeneration(state),
    registrations: [...others, { initiator: target, key: actionKey }],
    reservation: { ...reservation, holder: target },
    persistent: (list[17] & APTPL) !== 0,
  };
  if (commit(request, next)) task.good();
}

function service(
  name: string,
  serviceAction: number,
  run: (task: Task) => void,
  tool?: string,
): CommandSpec {
  return defineCommand({
    name: `PERSISTENT RESERVE OUT: ${name}`,
    opcode: Op.PERSISTENT_RESERVE_OUT,
    serviceAction,
    length: 10,
    fields: [
      ["SCOPE", 2, 7, 4],
      ["TYPE", 2, 3, 4],
      ["PARAMETER LIST LENGTH", 5, 7, 32],
    ],
    units: UNIT_MEDIA,
    access: ACCESS_OWN,
    once: true,
    run,
    source: "SPC-5",
    tool: tool === undefined ? undefined : `sg_persist --${tool}`,
  });
}

/** Service actions of PERSISTENT RESERVE OUT. */
export const PERSISTENT_OUT_COMMANDS: readonly CommandSpec[] = [
  service("REGISTER", 0, action(register(false), false, false), "register"),
  service("RESERVE", 1, action(reserve, true, true), "reserve"),
  service("RELEASE", 2, action(release, true, true), "release"),
  service("CLEAR", 3, action(clear, true, false), "clear"),
  service("PREEMPT", 4, action(preempt(false), true, true), "preempt"),
  service(
    "PREEMPT AND ABORT",
    5,
    action(preempt(true), true, true),
    "preempt-abort",
  ),
  service(
    "REGISTER AND IGNORE EXISTING KEY",
    6,
    action(register(true), false, false),
    "register-ignore",
  ),
  service(
    "REGISTER AND MOVE",
    MOVE,
    action(move, true, false),
  ),
];
