/**
 * A logical unit: what commands are sent to.
 *
 * Theory of operation. A logical unit belongs to no initiator: all that several
 * of them have in common is here (the task set, mode parameters, reservations,
 * whether there is a medium). What belongs to one of them is its
 * {@linkcode Nexus}, which also has the storage: each transport has its own
 * operands and its own way to wait, so each opens the medium for itself.
 *
 * A logical unit of kind {@linkcode UNIT_ABSENT} stands for the numbers where
 * there is none, and answers as the standard wants it; one of kind
 * {@linkcode UNIT_WELL_KNOWN} is REPORT LUNS.
 *
 * @module
 */

import type { Storage } from "../../storage/storage.ts";
import {
  type CommandSpec,
  UNIT_ABSENT,
  UNIT_CDROM,
  UNIT_DISK,
  UNIT_MEDIA,
} from "./command.ts";
import { Asc, DeviceType, TaskAttribute } from "./constants.ts";
import {
  commandsOf,
  findCommand,
  servesActions,
  startTask,
} from "./dispatch.ts";
import { ModeParameters } from "./mode_parameters.ts";
import type { Initiator, Nexus } from "./nexus.ts";
import { Reservations, type ReservationStore } from "./reservations.ts";
import { OUTCOME_ABORTED, OUTCOME_RESET, type Task } from "./task.ts";
import { TaskSet } from "./task_set.ts";

/** What a logical unit says of itself. */
export interface UnitOptions {
  /** One of `UNIT_*`. */
  readonly kind: number;
  /** T10 vendor identification, at most 8 ASCII characters. */
  readonly vendor: string;
  /** Product identification, at most 16 ASCII characters. */
  readonly product: string;
  /** Product revision level, at most 4 ASCII characters. */
  readonly revision: string;
  /** Unit serial number, ASCII. */
  readonly serial: string;
  /** NAA designator of eight bytes. */
  readonly wwn: Uint8Array<ArrayBuffer>;
  /** Logical block size in bytes. */
  readonly blockSize: number;
  /** Whether it is a disk that rotates. */
  readonly rotational: boolean;
  /** Whether unmapping gives space back. */
  readonly thin: boolean;
  /** Whether the medium can be taken out. */
  readonly removable: boolean;
  /** Whether writing is forbidden. */
  readonly readOnly: boolean;
  /** Where persistent reservations are kept, or `null`. */
  readonly store: ReservationStore | null;
}

const NOWHERE: UnitOptions = {
  kind: UNIT_ABSENT,
  vendor: "VHOSTD",
  product: "",
  revision: "1",
  serial: "",
  wwn: new Uint8Array(8),
  blockSize: 512,
  rotational: false,
  thin: false,
  removable: false,
  readOnly: true,
  store: null,
};

/** A logical unit. */
export class LogicalUnit {
  /** What it says of itself. */
  readonly options: UnitOptions;
  /** One of `UNIT_*`. */
  readonly kind: number;
  /** Its commands. */
  readonly tasks: TaskSet = new TaskSet(startTask);
  /** Its mode parameters. */
  readonly mode: ModeParameters;
  /** Its reservations. */
  readonly reservations: Reservations;
  /** Everybody who is connected with it. */
  readonly nexuses: Set<Nexus> = new Set();
  /** Number of logical blocks. */
  capacity = 0;
  /** Preferred unit of transfers in bytes. */
  optimalSize = 4096;
  /** Unit in bytes in which space is given back. */
  discardGranularity = 4096;
  /** Whether there is a medium. */
  loaded = false;
  /** Whether the tray is out. */
  ejected = false;
  /** Whether it was stopped. */
  stopped = false;
  /** Times that it was started since it is there. */
  starts = 1;
  /** Times that a medium was loaded since it is there. */
  loads = 1;

  /**
   * Makes a logical unit without a medium.
   *
   * @throws {Error} when the persistent reservations cannot be read
   */
  constructor(options: UnitOptions) {
    this.options = options;
    this.kind = options.kind;
    this.mode = new ModeParameters(options);
    this.reservations = new Reservations(options.store);
  }

  /** Makes a logical unit that has no medium ever: of another kind. */
  static without(kind: number): LogicalUnit {
    return new LogicalUnit({ ...NOWHERE, kind });
  }

  /** Peripheral device type. */
  get deviceType(): number {
    switch (this.kind) {
      case UNIT_DISK:
        return DeviceType.DISK;
      case UNIT_CDROM:
        return DeviceType.CD_DVD;
      case UNIT_ABSENT:
        return DeviceType.UNKNOWN;
      default:
        return DeviceType.WELL_KNOWN;
    }
  }

  /** Logical block size in bytes. */
  get blockSize(): number {
    return this.options.blockSize;
  }

  /** Whether sense data has descriptor format. */
  get descriptorSense(): boolean {
    return this.mode.descriptorSense;
  }

  /** Whether writing is forbidden now. */
  get writeProtected(): boolean {
    return this.options.readOnly || this.mode.writeProtect;
  }

  /** The commands that it has. */
  get commands(): readonly CommandSpec[] {
    return commandsOf(this);
  }

  /** Whether an operation code has service actions here. */
  servesActions(opcode: number): boolean {
    return servesActions(this, opcode);
  }

  /** Connects somebody. */
  attach(nexus: Nexus): void {
    this.nexuses.add(nexus);
    nexus.raise(Asc.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED);
  }

  /** Somebody leaves: a RESERVE command's reservation leaves with it. */
  detach(nexus: Nexus): void {
    this.nexuses.delete(nexus);
    this.#lose(nexus.initiator);
  }

  /** Takes the facts of the medium over; `null`: there is none. */
  describeMedium(storage: Storage | null): void {
    this.loaded = storage !== null;
    if (storage === null) {
      this.capacity = 0;
      return;
    }
    this.capacity = Math.floor(storage.capacity / this.blockSize);
    this.optimalSize = Math.max(storage.optimalSize, this.blockSize);
    this.discardGranularity = Math.max(
      storage.discardGranularity,
      this.blockSize,
    );
  }

  /** Takes a command in. */
  submit(task: Task): void {
    const command = findCommand(this, task.cdb);
    task.command = command;
    task.exclusive = task.attribute === TaskAttribute.ORDERED ||
      (command !== null && command.exclusive === true);
    this.tasks.submit(task);
  }

  /** Establishes a unit attention condition for all, but for one perhaps. */
  raise(asc: number, except: Nexus | null = null): void {
    for (const nexus of this.nexuses) if (nexus !== except) nexus.raise(asc);
  }

  /** The mode parameters changed. `kept` is called when all keep them. */
  modesChanged(kept: () => void = () => {}): void {
    let left = this.nexuses.size + 1;
    const done = () => {
      if (--left === 0) kept();
    };
    for (const nexus of this.nexuses) nexus.keepModes(done);
    done();
  }

  /** ABORT TASK. `done` is called when the command has ended. */
  abortTask(
    nexus: Nexus,
    tagLow: number,
    tagHigh: number,
    done: () => void,
  ): void {
    this.tasks.abort(
      (task) =>
        task.nexus === nexus && task.tagLow === tagLow &&
        task.tagHigh === tagHigh,
      OUTCOME_ABORTED,
      done,
    );
  }

  /** ABORT TASK SET: the commands of one nexus. */
  abortTaskSet(nexus: Nexus, done: () => void): void {
    this.tasks.abort((task) => task.nexus === nexus, OUTCOME_ABORTED, done);
  }

  /** CLEAR TASK SET: the commands of all. */
  clearTaskSet(nexus: Nexus, done: () => void): void {
    const affected = this.tasks.abort(() => true, OUTCOME_ABORTED, done);
    for (const other of affected) {
      if (other !== nexus) {
        other.raise(Asc.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
      }
    }
  }

  /** LOGICAL UNIT RESET. */
  reset(done: () => void): void {
    this.reservations.legacy = null;
    this.mode.reset();
    this.modesChanged();
    this.stopped = false;
    for (const nexus of this.nexuses) {
      nexus.clearAttention();
      nexus.preventsRemoval = false;
      nexus.raise(Asc.BUS_DEVICE_RESET_FUNCTION_OCCURRED);
    }
    this.tasks.abort(() => true, OUTCOME_RESET, done);
  }

  /** I_T NEXUS RESET, or the loss of a nexus. */
  loseNexus(nexus: Nexus, done: () => void): void {
    this.#lose(nexus.initiator);
    nexus.preventsRemoval = false;
    nexus.raise(Asc.I_T_NEXUS_LOSS_OCCURRED);
    this.tasks.abort((task) => task.nexus === nexus, OUTCOME_RESET, done);
  }

  /** Whether somebody wants the medium to stay. */
  get removalPrevented(): boolean {
    for (const nexus of this.nexuses) if (nexus.preventsRemoval) return true;
    return false;
  }

  /** Whether it is of a kind with a medium. */
  get hasMedia(): boolean {
    return (this.kind & UNIT_MEDIA) !== 0;
  }

  #lose(initiator: Initiator): void {
    if (this.reservations.legacy === initiator.name) {
      this.reservations.legacy = null;
    }
  }
}
