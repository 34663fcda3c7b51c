/**
 * Finds the command that a CDB names, judges it, and runs it.
 *
 * The order of judgement: unit attention
 * conditions first, then whether the command is known, reservations, the CDB,
 * the medium.
 *
 * @module
 */

import {
  type CommandSpec,
  fieldMask,
  UNIT_ABSENT,
  UNIT_CDROM,
  UNIT_DISK,
  UNIT_WELL_KNOWN,
} from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { Asc, SenseKey, TaskAttribute } from "./constants.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

/** The commands of one kind of logical unit, by operation code. */
interface CommandTable {
  readonly plain: (CommandSpec | null)[];
  readonly services: (Map<number, CommandSpec> | null)[];
}

const tables = new Map<number, CommandTable>(
  [UNIT_DISK, UNIT_CDROM, UNIT_WELL_KNOWN, UNIT_ABSENT]
    .map((kind) => [kind, tableOf(kind)]),
);
const diskTable = tables.get(UNIT_DISK)!;

function tableOf(kind: number): CommandTable {
  const plain = new Array<CommandSpec | null>(256).fill(null);
  const services = new Array<Map<number, CommandSpec> | null>(256).fill(null);
  for (const command of COMMANDS) {
    if ((command.units & kind) === 0) continue;
    const { opcode, serviceAction } = command;
    if (serviceAction === undefined) plain[opcode] = command;
    else (services[opcode] ??= new Map()).set(serviceAction, command);
  }
  return { plain, services };
}

/** The command that a CDB names, or `null` when a logical unit has none such. */
export function findCommand(
  unit: LogicalUnit,
  cdb: Uint8Array,
): CommandSpec | null {
  const table = unit.kind === UNIT_DISK ? diskTable : tables.get(unit.kind)!;
  const services = table.services[cdb[0]];
  const command = services === null
    ? table.plain[cdb[0]]
    : services.get(cdb[1] & 0x1f) ?? null;
  return command !== null && command.thin === true && !unit.options.thin
    ? null
    : command;
}

/** The commands that a logical unit has. */
export function commandsOf(unit: LogicalUnit): readonly CommandSpec[] {
  return COMMANDS.filter((command) =>
    (command.units & unit.kind) !== 0 &&
    (command.thin !== true || unit.options.thin)
  );
}

/** Whether an operation code of a logical unit has service actions. */
export function servesActions(unit: LogicalUnit, opcode: number): boolean {
  return tables.get(unit.kind)!.services[opcode] !== null;
}

/** Runs a command whose time has come, or says why not. */
export function startTask(task: Task): void {
  if (task.cancelled !== 0) return task.end();
  const { nexus, command } = task;
  const { unit } = nexus;
  if (
    nexus.attentionCount > 0 &&
    (command === null || command.ignoresAttention !== true)
  ) {
    return task.fail({
      key: SenseKey.UNIT_ATTENTION,
      asc: nexus.takeAttention(),
    });
  }
  if (task.attribute === TaskAttribute.ACA) {
    // There never is an auto contingent allegiance that it could be for.
    return task.illegal(Asc.INVALID_MESSAGE_ERROR);
  }
  if (command === null) return refuseUnknown(task);
  if (
    unit.reservations.active &&
    unit.reservations.conflicts(nexus.initiator, command)
  ) return task.conflict();
  const { cdbWords } = task, { forbiddenWords } = command;
  if (
    (cdbWords[0] & forbiddenWords[0] | cdbWords[1] & forbiddenWords[1] |
      cdbWords[2] & forbiddenWords[2] | cdbWords[3] & forbiddenWords[3]) !== 0
  ) return refuseField(task);
  if (
    command.needsMedium === true &&
    (!unit.loaded || unit.ejected || unit.stopped || nexus.storage === null)
  ) return refuseUnready(task);
  if (command.writes === true && unit.writeProtected) {
    return task.fail({
      key: SenseKey.DATA_PROTECT,
      asc: Asc.WRITE_PROTECTED,
    });
  }
  command.run(task);
}

function refuseUnknown(task: Task): void {
  const { unit } = task.nexus;
  if (unit.kind === UNIT_ABSENT) {
    task.illegal(Asc.LOGICAL_UNIT_NOT_SUPPORTED);
  } else if (servesActions(unit, task.cdb[0])) task.illegalField(1, 4);
  else task.illegal(Asc.INVALID_COMMAND_OPERATION_CODE);
}

/** A bit is set that must not be: points to the field it lies in. */
function refuseField(task: Task): void {
  const { fields, forbidden } = task.command!;
  const byte = forbidden.findIndex((mask, i) => (task.cdb[i] & mask) !== 0);
  const wrong = task.cdb[byte] & forbidden[byte];
  for (const [, at, bit, bits, zero] of fields) {
    if (zero && at === byte && (wrong & fieldMask(bit, bits)) !== 0) {
      return task.illegalField(byte, bit);
    }
  }
  task.illegalField(byte, 31 - Math.clz32(wrong));
}

/** The medium cannot be used. */
export function refuseUnready(task: Task): void {
  const { unit } = task.nexus;
  task.fail({
    key: SenseKey.NOT_READY,
    asc: unit.loaded && !unit.ejected && unit.stopped
      ? Asc.LOGICAL_UNIT_NOT_READY_INITIALIZING_COMMAND_REQUIRED
      : Asc.MEDIUM_NOT_PRESENT,
  });
}
