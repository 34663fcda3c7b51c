/**
 * Commands that need several storage operations, one after the other, written
 * as generators.
 *
 * Theory of operation. A script prepares the operands of an operation in the
 * table of its nexus, yields the operation, and goes on with its result. An
 * operation may end within its submission or later; {@linkcode runScript} makes
 * both look the same to the script. A script of an aborted command is not
 * resumed. Scripts allocate: they are for rare commands.
 *
 * Storage may do an operation while all others wait, and some take long: zeroes
 * are written where a range cannot be zeroed. A script that has much to do does it
 * in pieces, and yields {@linkcode PAUSE} between them; it goes on when its
 * transport says so ({@linkcode PausedTasks}), and others have had their turn.
 *
 * @module
 */

import type { StorageOperation } from "../../storage/storage.ts";
import { STEP_BYTES } from "./limits.ts";
import { Scratch } from "./scratch.ts";
import { OUTCOME_TOO_MANY_SEGMENTS, type Task } from "./task.ts";
import { PHASE_SCRIPT } from "./phase.ts";

const TWO_32 = 4294967296;

/** Others are to have their turn. */
export const PAUSE = -1;

/** What a script asks for. */
export type ScriptStep = StorageOperation | typeof PAUSE;

/** The rest of a command. */
export type Script = Generator<ScriptStep, void, number>;

/** Makes a function that starts a command from its script. */
export function scripted(
  script: (task: Task) => Script,
): (task: Task) => void {
  return (task) => {
    task.phase = PHASE_SCRIPT;
    task.script = script(task);
    resume(task, 0);
  };
}

/** The storage operation of a script ended. */
export function runScript(task: Task, result: number): void {
  if (task.submitting) {
    task.submitting = false;
    task.result = result;
  } else if (task.cancelled !== 0) {
    task.end();
  } else {
    resume(task, result);
  }
}

function resume(task: Task, first: number): void {
  let result = first;
  for (;;) {
    const { done, value } = task.script!.next(result);
    if (done) return;
    if (value === PAUSE) {
      if (task.nexus.pause !== null) return task.nexus.pause(task);
      result = 0;
      continue;
    }
    task.submitting = true;
    task.nexus.storage!.submit(task.slot, value);
    if (task.submitting) {
      task.submitting = false;
      return;
    }
    if (task.cancelled !== 0) return task.end();
    result = task.result;
  }
}

/** The commands of a transport that paused. */
export class PausedTasks {
  readonly #tasks: Task[] = [];
  /** See {@linkcode Nexus.pause}. */
  readonly add = (task: Task): void => void this.#tasks.push(task);

  /**
   * Lets the one go on that has waited longest, until it pauses again or ends.
   *
   * @returns how many did: 0 or 1
   */
  goOn(): number {
    const task = this.#tasks.shift();
    if (task === undefined) return 0;
    if (task.cancelled !== 0) task.end();
    else resume(task, 0);
    return 1;
  }
}

/** How far a script may go before it pauses. */
export class Pace {
  #bytes = 0;

  /** Whether to pause before a piece of so many bytes. */
  due(bytes: number): boolean {
    this.#bytes += bytes;
    if (this.#bytes <= STEP_BYTES) return false;
    this.#bytes = bytes;
    return true;
  }
}

/**
 * A part of a script: a range, in pieces that end at multiples of
 * {@linkcode STEP_BYTES}, so that no block of a file system is cut in two.
 *
 * @param operation has a range and no data
 * @returns 0, or the negative errno of the piece that failed
 */
export function* inPieces(
  task: Task,
  operation: StorageOperation,
  offset: number,
  length: number,
  pace: Pace,
): Generator<ScriptStep, number, number> {
  const end = offset + length;
  for (let at = offset; at < end;) {
    const next = (Math.floor(at / STEP_BYTES) + 1) * STEP_BYTES;
    const piece = Math.min(next, end) - at;
    if (pace.due(piece)) yield PAUSE;
    prepareRange(task, at, piece);
    const result = yield operation;
    if (result < 0) return result;
    at += piece;
  }
  return 0;
}

/** Prepares an operation without data. */
export function prepareRange(task: Task, offset: number, length: number): void {
  const table = task.nexus.table!, slot = task.slot;
  table.offsets[slot] = offset;
  table.lengths[slot] = length;
  table.counts[slot] = 0;
}

/** The scratch memory of a task, taken when first asked for. */
export function scratchOf(task: Task): Scratch {
  return task.scratch ??= Scratch.take();
}

/** Prepares a read into scratch memory, or a write from it. */
export function prepareScratch(
  task: Task,
  offset: number,
  length: number,
): void {
  prepareRange(task, offset, length);
  const { table } = task.nexus;
  const address = scratchOf(task).address;
  const words = table!.iovecs.words, at = table!.iovecs.wordOffset(task.slot);
  words[at] = address;
  words[at + 1] = address / TWO_32;
  words[at + 2] = length;
  words[at + 3] = 0;
  table!.counts[task.slot] = 1;
}

/**
 * Prepares a transfer between the medium and a buffer of the command.
 *
 * @returns false when the buffer is too many pieces; the command has then ended
 */
export function prepareBuffer(
  task: Task,
  offset: number,
  length: number,
  dataIn: boolean,
  position: number,
): boolean {
  const table = task.nexus.table!, slot = task.slot;
  const count = task.iovec(
    table.iovecs.words,
    table.iovecs.wordOffset(slot),
    table.iovecs.segmentsPerSlot,
    dataIn,
    position,
    length,
  );
  if (count < 0) {
    task.refuse(OUTCOME_TOO_MANY_SEGMENTS);
    return false;
  }
  table.offsets[slot] = offset;
  table.lengths[slot] = length;
  table.counts[slot] = count;
  return true;
}
