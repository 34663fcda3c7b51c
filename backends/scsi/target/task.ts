/**
 * One SCSI command in the hands of the target.
 *
 * Theory of operation. A transport makes task objects once and uses them again:
 * it fills in the CDB and the nexus, calls {@linkcode Task.begin}, and is told
 * of the end by {@linkcode Task.finished}, exactly once. What it adds is access
 * to the command's Data-In and Data-Out buffers, wherever those lie. A command
 * ends with a status (and sense data), or because it was aborted; which of both
 * it is stands in {@linkcode Task.outcome}.
 *
 * Source: SAM-6, tasks and task attributes.
 *
 * @module
 */

import { Asc, SenseKey, Status } from "./constants.ts";
import type { CommandSpec } from "./command.ts";
import type { Nexus } from "./nexus.ts";
import type { Script } from "./script.ts";
import type { Scratch } from "./scratch.ts";
import { encodeSense, type Sense, SENSE_SIZE } from "./sense.ts";

/** Bytes of a CDB that are looked at: no command has more. */
export const CDB_SIZE = 16;

/** The command ended with {@linkcode Task.status}. */
export const OUTCOME_STATUS = 0;
/** It was aborted by a task management function for itself or its task set. */
export const OUTCOME_ABORTED = 1;
/** It was aborted by a reset. */
export const OUTCOME_RESET = 2;
/** It moves more data than its buffers hold. */
export const OUTCOME_OVERRUN = 3;
/** Its buffers are more pieces than can be handled. */
export const OUTCOME_TOO_MANY_SEGMENTS = 4;

/** Not in use. */
export const TASK_IDLE = 0;
/** Waits for others of its task set. */
export const TASK_DORMANT = 1;
/** Is being worked on. */
export const TASK_ENABLED = 2;

/** Told when all tasks that were aborted together have ended. */
export interface AbortWaiter {
  /** Tasks that have not ended. */
  left: number;
  /** Called when there are none. */
  readonly done: () => void;
}

/** Index of the first logical block in {@linkcode Task.range}. */
export const LBA = 0;
/** Index of the number of logical blocks in {@linkcode Task.range}. */
export const BLOCKS = 1;

/** A command, from its arrival to its end. */
export abstract class Task {
  /** Number of this object among all of its transport. */
  readonly slot: number;
  /** The command descriptor block, filled up with zeroes. */
  readonly cdb: Uint8Array<ArrayBuffer>;
  /** The same memory as words, in the order of bytes of the machine. */
  readonly cdbWords: Uint32Array<ArrayBuffer>;
  /** First logical block and number of blocks, of commands that have those. */
  readonly range: Float64Array<ArrayBuffer> = new Float64Array(2);
  /** Sense data. */
  readonly sense: Uint8Array<ArrayBuffer> = new Uint8Array(SENSE_SIZE);
  /** Length of the sense data; 0: there is none. */
  senseLength = 0;
  /** Status code. */
  status: number = Status.GOOD;
  /** How it ended: one of `OUTCOME_*`. */
  outcome: number = OUTCOME_STATUS;
  /** Bytes moved from or to the initiator. */
  transferred = 0;
  /** Task attribute. */
  attribute = 0;
  /** Command identifier, lower 32 bits. */
  tagLow = 0;
  /** Command identifier, upper 32 bits. */
  tagHigh = 0;
  /** Logical unit number that it was sent to. */
  lun = 0;
  /** What is known of the command; `null` for an unknown one. */
  command: CommandSpec | null = null;

  // The target's own notes.

  /** One of `TASK_*`. */
  state: number = TASK_IDLE;
  /** True when no other command may run beside it. */
  exclusive = false;
  /** 0, or the `OUTCOME_*` with which it is to end as soon as it can. */
  cancelled = 0;
  /** What the storage is doing for it. */
  phase = 0;
  /** The rest of a command that needs several storage operations. */
  script: Script | null = null;
  /** Memory of a script. */
  scratch: Scratch | null = null;
  /** True while a storage operation is being submitted. */
  submitting = false;
  /** Result of an operation that ended within its submission. */
  result = 0;
  /** The task before it in the task set. */
  older: Task | null = null;
  /** The task after it in the task set. */
  newer: Task | null = null;
  /** The next dormant task. */
  nextDormant: Task | null = null;
  /** Who waits for its end. */
  waiters: AbortWaiter[] | null = null;
  #nexus: Nexus | null = null;

  /**
   * Makes an object for commands of a transport.
   *
   * @param cdb memory for the CDB: {@linkcode CDB_SIZE} bytes, aligned for words
   */
  constructor(
    slot: number,
    cdb: Uint8Array<ArrayBuffer> = new Uint8Array(CDB_SIZE),
  ) {
    this.slot = slot;
    this.cdb = cdb;
    this.cdbWords = new Uint32Array(cdb.buffer, cdb.byteOffset, CDB_SIZE / 4);
  }

  /** Bytes of the Data-In Buffer. */
  abstract get dataInLength(): number;
  /** Bytes of the Data-Out Buffer. */
  abstract get dataOutLength(): number;
  /** Copies out of the Data-Out Buffer; the number of bytes. */
  abstract readOut(
    position: number,
    into: Uint8Array,
    start?: number,
    length?: number,
  ): number;
  /** Copies into the Data-In Buffer; the number of bytes. */
  abstract writeIn(position: number, from: Uint8Array, length: number): number;
  /**
   * Describes a range of a buffer as an array of `struct iovec`.
   *
   * @returns their number, or -1 when more than `limit` are needed
   */
  abstract iovec(
    words: Uint32Array,
    at: number,
    limit: number,
    dataIn: boolean,
    position: number,
    length: number,
  ): number;
  /** The command has ended. */
  abstract finished(): void;

  /** Through which nexus it came. */
  get nexus(): Nexus {
    return this.#nexus!;
  }

  /** Hands the command to the logical unit of a nexus. */
  begin(nexus: Nexus): void {
    this.#nexus = nexus;
    this.senseLength = 0;
    this.status = Status.GOOD;
    this.outcome = OUTCOME_STATUS;
    this.transferred = 0;
    this.cancelled = 0;
    this.phase = 0;
    nexus.unit.submit(this);
  }

  /**
   * Ends a command that a predecessor of this target had taken when it died, and
   * may have done: it is not done again. The initiator hears of it twice, by the
   * status and by a unit attention condition.
   */
  disown(nexus: Nexus): void {
    this.#nexus = nexus;
    const asc = Asc.COMMANDS_CLEARED_BY_DEVICE_SERVER;
    nexus.raise(asc);
    this.status = Status.CHECK_CONDITION;
    this.senseLength = encodeSense(
      { key: SenseKey.ABORTED_COMMAND, asc },
      nexus.unit.descriptorSense,
      this.sense,
    );
    this.outcome = OUTCOME_STATUS;
    this.transferred = 0;
    this.finished();
  }

  /** Ends with GOOD status. */
  good(): void {
    this.end();
  }

  /** Ends with CHECK CONDITION status. */
  fail(sense: Sense): void {
    this.status = Status.CHECK_CONDITION;
    const { unit } = this.nexus;
    this.senseLength = encodeSense(sense, unit.descriptorSense, this.sense);
    this.end();
  }

  /** Ends with CHECK CONDITION, ILLEGAL REQUEST. */
  illegal(asc: number): void {
    this.fail({ key: SenseKey.ILLEGAL_REQUEST, asc });
  }

  /**
   * Ends with INVALID FIELD IN CDB.
   *
   * @param byte first byte of the field
   * @param bit its most significant bit, or -1 when it is whole bytes
   */
  illegalField(byte: number, bit = -1): void {
    this.fail({
      key: SenseKey.ILLEGAL_REQUEST,
      asc: Asc.INVALID_FIELD_IN_CDB,
      field: { command: true, byte, bit },
    });
  }

  /** Ends with INVALID FIELD IN PARAMETER LIST. */
  illegalParameter(byte: number, bit = -1): void {
    this.fail({
      key: SenseKey.ILLEGAL_REQUEST,
      asc: Asc.INVALID_FIELD_IN_PARAMETER_LIST,
      field: { command: false, byte, bit },
    });
  }

  /** Ends with RESERVATION CONFLICT status. */
  conflict(): void {
    this.status = Status.RESERVATION_CONFLICT;
    this.end();
  }

  /** Ends because of what its buffers are. */
  refuse(outcome: number): void {
    this.outcome = outcome;
    this.end();
  }

  /**
   * Ends with GOOD status and data: as much of it as the allocation length
   * allows. A buffer that has no room for that is an overrun.
   */
  reply(data: Uint8Array, allocation: number): void {
    const length = Math.min(data.length, allocation);
    if (length > this.dataInLength) return this.refuse(OUTCOME_OVERRUN);
    this.transferred = this.writeIn(0, data, length);
    this.end();
  }

  /**
   * Reads the parameter list.
   *
   * @returns `null` when the buffer is shorter than `length`; the command has
   * then ended
   */
  parameters(length: number): Uint8Array<ArrayBuffer> | null {
    if (length > this.dataOutLength) {
      this.refuse(OUTCOME_OVERRUN);
      return null;
    }
    const list = new Uint8Array(length);
    this.transferred = this.readOut(0, list);
    return list;
  }

  /** Ends the command as it is. */
  end(): void {
    if (this.cancelled !== 0) {
      this.outcome = this.cancelled;
      this.transferred = 0;
    }
    this.script = null;
    this.scratch?.release();
    this.scratch = null;
    this.nexus.unit.tasks.ended(this);
  }
}
