/**
 * The task set of a logical unit: which of its commands run, and which wait.
 *
 * Theory of operation. Commands run side by side unless one of them wants to be
 * alone: one with the ORDERED attribute, or one that must be atomic. Such a
 * command waits until all that came before it have ended, and what comes after
 * it waits for its end. Waiting commands are *dormant*, in a list by age; a
 * HEAD OF QUEUE command goes before them. All commands, running and dormant,
 * are linked by age, so that task management finds them. The links are fields
 * of the tasks: nothing is allocated.
 *
 * An aborted command that is dormant ends at once. One that runs is marked, and
 * ends with its storage operation, which cannot be taken back; who asked for it
 * is told when the last one has ended.
 *
 * Source: SAM-6, task set management and task management functions.
 *
 * @module
 */

import { TaskAttribute } from "./constants.ts";
import type { Nexus } from "./nexus.ts";
import {
  type AbortWaiter,
  type Task,
  TASK_DORMANT,
  TASK_ENABLED,
  TASK_IDLE,
} from "./task.ts";

/** The commands of a logical unit. */
export class TaskSet {
  readonly #start: (task: Task) => void;
  #oldest: Task | null = null;
  #newest: Task | null = null;
  #firstDormant: Task | null = null;
  #lastDormant: Task | null = null;
  #count = 0;
  #running = 0;
  #alone = false;
  #draining = false;

  /** @param start called with each command when its time has come */
  constructor(start: (task: Task) => void) {
    this.#start = start;
  }

  /** Number of commands that have not ended. */
  get count(): number {
    return this.#count;
  }

  /** Takes a command in: it runs at once or waits. */
  submit(task: Task): void {
    this.#link(task);
    const first = task.attribute === TaskAttribute.HEAD_OF_QUEUE;
    if (
      this.#alone || (task.exclusive && this.#running > 0) ||
      (!first && this.#firstDormant !== null)
    ) this.#wait(task, first);
    else this.#run(task);
  }

  /** A command has ended: tells its transport, and lets others run. */
  ended(task: Task): void {
    this.#unlink(task);
    if (task.state === TASK_ENABLED) {
      this.#running--;
      if (task.exclusive) this.#alone = false;
    }
    task.state = TASK_IDLE;
    const waiters = task.waiters;
    task.waiters = null;
    task.finished();
    if (waiters !== null) { for (const waiter of waiters) release(waiter); }
    if (this.#firstDormant !== null) this.#drain();
  }

  /** Whether a command is there. */
  has(nexus: Nexus, tagLow: number, tagHigh: number): boolean {
    for (let task = this.#oldest; task !== null; task = task.newer) {
      if (
        task.nexus === nexus && task.tagLow === tagLow &&
        task.tagHigh === tagHigh
      ) return true;
    }
    return false;
  }

  /** Whether a nexus, or any, has commands here. */
  hasAny(nexus: Nexus): boolean {
    for (let task = this.#oldest; task !== null; task = task.newer) {
      if (task.nexus === nexus) return true;
    }
    return false;
  }

  /**
   * Aborts commands.
   *
   * @param matches says which
   * @param outcome how they are to end: one of `OUTCOME_*`
   * @param done called when the last one has ended; at once if there is none
   * @returns the nexuses whose commands are affected
   */
  abort(
    matches: (task: Task) => boolean,
    outcome: number,
    done: () => void,
  ): Set<Nexus> {
    const affected = new Set<Nexus>();
    const chosen: Task[] = [];
    for (let task = this.#oldest; task !== null; task = task.newer) {
      if (matches(task)) chosen.push(task);
    }
    const waiter: AbortWaiter = { left: chosen.length + 1, done };
    for (const task of chosen) {
      affected.add(task.nexus);
      // The first reason counts.
      if (task.cancelled === 0) task.cancelled = outcome;
      (task.waiters ??= []).push(waiter);
    }
    const dormant = chosen.filter(({ state }) => state === TASK_DORMANT);
    for (const task of dormant) this.#forget(task);
    for (const task of dormant) task.end();
    release(waiter);
    return affected;
  }

  /** Resolves when all commands that a nexus has here now have ended. */
  settled(nexus: Nexus): Promise<void> {
    return this.#settled(nexus);
  }

  /** Resolves when all commands that are here now have ended. */
  allSettled(): Promise<void> {
    return this.#settled(null);
  }

  #settled(nexus: Nexus | null): Promise<void> {
    return new Promise((resolve) => {
      const waiter: AbortWaiter = { left: 1, done: resolve };
      for (let task = this.#oldest; task !== null; task = task.newer) {
        if (nexus !== null && task.nexus !== nexus) continue;
        waiter.left++;
        (task.waiters ??= []).push(waiter);
      }
      release(waiter);
    });
  }

  #run(task: Task): void {
    task.state = TASK_ENABLED;
    this.#running++;
    if (task.exclusive) this.#alone = true;
    this.#start(task);
  }

  #wait(task: Task, first: boolean): void {
    task.state = TASK_DORMANT;
    task.nextDormant = null;
    if (this.#lastDormant === null) {
      this.#firstDormant = this.#lastDormant = task;
    } else if (first) {
      task.nextDormant = this.#firstDormant;
      this.#firstDormant = task;
    } else {
      this.#lastDormant.nextDormant = task;
      this.#lastDormant = task;
    }
  }

  /** Runs dormant commands while that is possible. */
  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    for (;;) {
      const task = this.#firstDormant;
      if (task === null || this.#alone) break;
      if (task.exclusive && this.#running > 0) break;
      this.#firstDormant = task.nextDormant;
      if (this.#firstDormant === null) this.#lastDormant = null;
      task.nextDormant = null;
      this.#run(task);
    }
    this.#draining = false;
  }

  /** Takes a command out of the dormant ones. */
  #forget(task: Task): void {
    let before: Task | null = null;
    for (let at = this.#firstDormant; at !== task; at = at!.nextDormant) {
      before = at;
    }
    if (before === null) this.#firstDormant = task.nextDormant;
    else before.nextDormant = task.nextDormant;
    if (this.#lastDormant === task) this.#lastDormant = before;
    task.nextDormant = null;
  }

  #link(task: Task): void {
    this.#count++;
    task.newer = null;
    task.older = this.#newest;
    if (this.#newest === null) this.#oldest = task;
    else this.#newest.newer = task;
    this.#newest = task;
  }

  #unlink(task: Task): void {
    this.#count--;
    if (task.older === null) this.#oldest = task.newer;
    else task.older.newer = task.newer;
    if (task.newer === null) this.#newest = task.older;
    else task.newer.older = task.older;
    task.older = task.newer = null;
  }
}

function release(waiter: AbortWaiter): void {
  if (--waiter.left === 0) waiter.done();
}
