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
import { type Nexus, TRANSPORT_ID_SIZE, transportIdOf } from "./nexus.ts";
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
const SPEC_I_PT = 0x08, APTPL = 0x01, UNREG = 0x02;

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
    const serviceAction = cdb[1] & 0x1f;
    const length = u32(cdb, 5);
    if (
      length < LIST_SIZE ||
      length > LIST_SIZE && serviceAction !== MOVE && serviceAction !== REGISTER
    ) return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
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

const REGISTER = 0, MOVE = 7;

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

/**
 * There is one target port, so ALL_TG_PT says nothing new. SPEC_I_PT registers
 * the initiators of TransportIDs as well, those that are there.
 */
function register(ignoreKey: boolean): (request: Request) => void {
  return (request) => {
    const { task, nexus, state, own, key, actionKey, list } = request;
    const { reservations } = nexus.unit;
    const named = (list[20] & SPEC_I_PT) !== 0;
    if (!named && list.length > LIST_SIZE) {
      return task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
    }
    if (reservations.legacy !== null) return task.conflict();
    if (!ignoreKey && key !== (own?.key ?? NO_KEY)) return task.conflict();
    // Others are registered together with oneself, or not at all.
    if (named && (ignoreKey || own !== undefined || actionKey === NO_KEY)) {
      return task.illegalParameter(20, 3);
    }
    const persistent = (list[20] & APTPL) !== 0;
    if (persistent && !reservations.canPersist) {
      return task.illegalParameter(20, 0);
    }
    const { name } = nexus.initiator;
    const others = state.registrations
      .filter(({ initiator }) => initiator !== name);
    if (actionKey === NO_KEY) {
      if (own === undefined) return task.good();
      return unregister(request, others, persistent);
    }
    const added = named ? namedInitiators(request) : [];
    if (added === null) return;
    const taken = new Set(others.map(({ initiator }) => initiator));
    const next = {
      ...state,
      generation: nextGeneration(state),
      registrations: [
        ...others,
        { initiator: name, key: actionKey },
        ...added.filter((one) => one !== name && !taken.has(one))
          .map((initiator) => ({ initiator, key: actionKey })),
      ],
      persistent,
    };
    if (commit(request, next)) task.good();
  };
}

/**
 * The initiators whose TransportIDs the parameter list has.
 *
 * @returns `null` when one is wrong: the command has ended
 */
function namedInitiators({ task, nexus, state, list }: Request):
  | string[]
  | null {
  const start = LIST_SIZE + 4;
  const length = list.length < start ? -1 : u32(list, LIST_SIZE);
  if (length !== list.length - start) {
    task.illegal(Asc.PARAMETER_LIST_LENGTH_ERROR);
    return null;
  }
  const known = knownInitiators(nexus, state);
  const names = new Set<string>();
  for (let at = start; at < list.length; at += TRANSPORT_ID_SIZE) {
    const id = list.subarray(at, at + TRANSPORT_ID_SIZE);
    const name = known.get(hex(id));
    if (name === undefined) {
      task.illegalParameter(at);
      return null;
    }
    names.add(name);
  }
  return [...names];
}

/** The initiators that are or were there, by their TransportIDs in hexadecimal. */
function knownInitiators(
  { unit }: Nexus,
  { registrations }: ReservationState,
): Map<string, string> {
  const names = [
    ...Array.from(unit.nexuses, ({ initiator }) => initiator.name),
    ...registrations.map(({ initiator }) => initiator),
  ];
  return new Map(names.map((name) => [hex(transportIdOf(name)), name]));
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
  const persistent = (list[17] & APTPL) !== 0;
  if (persistent && !reservations.canPersist) {
    return task.illegalParameter(17, 0);
  }
  const { name } = nexus.initiator;
  const target = knownInitiators(nexus, state)
    .get(hex(list.subarray(LIST_SIZE)));
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
    persistent,
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
  service(
    "REGISTER",
    REGISTER,
    action(register(false), false, false),
    "register",
  ),
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
    "register-move",
  ),
];
