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
 * @module
 */

import type { StorageOperation } from "../../storage/storage.ts";
import { Scratch } from "./scratch.ts";
import { OUTCOME_TOO_MANY_SEGMENTS, type Task } from "./task.ts";
import { PHASE_SCRIPT } from "./phase.ts";

const TWO_32 = 4294967296;

/** The rest of a command. */
export type Script = Generator<StorageOperation, void, number>;

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
