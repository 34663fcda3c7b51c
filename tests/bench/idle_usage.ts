/**
 * What processes with nothing to do take of the CPU, by the scheduler's own
 * count: clock ticks are too coarse for it.
 *
 * Source: proc(5), `/proc/PID/stat` and `/proc/PID/task/TID/status`, and Linux's
 * Documentation/scheduler/sched-stats.rst for `schedstat`.
 *
 * @module
 */

import { ticksOf } from "../protocol/vhostd_process.ts";

/** What a thread, or a process, has used. */
export interface Used {
  /** What it calls itself. */
  readonly name: string;
  /** Milliseconds on a CPU. */
  readonly milliseconds: number;
  /** How often it slept, and so was woken. */
  readonly wakes: number;
}

/** What a process has used, and its threads that used something. */
export interface ProcessUsed extends Used {
  /** Clock ticks of 10 ms, as `/proc/PID/stat` counts them. */
  readonly ticks: number;
  readonly threads: readonly Used[];
}

/** A look at a process. */
export interface Look {
  readonly pid: number;
  readonly name: string;
  readonly ticks: number;
  /** Threads by their ids. */
  readonly threads: ReadonlyMap<string, Used>;
}

/** Looks at a process, which goes by `name`, or by its own. */
export function lookAt(pid: number, name?: string): Look {
  const threads = new Map<string, Used>();
  for (const { name: id } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const used = lookAtThread(`/proc/${pid}/task/${id}`);
    if (used !== null) threads.set(id, used);
  }
  const own = Deno.readTextFileSync(`/proc/${pid}/comm`).trim();
  return { pid, name: name ?? own, ticks: ticksOf(pid), threads };
}

function lookAtThread(task: string): Used | null {
  const read = (file: string) => Deno.readTextFileSync(`${task}/${file}`);
  try {
    const [nanoseconds] = read("schedstat").split(" ");
    const switches = /^voluntary_ctxt_switches:\s*(\d+)$/m.exec(read("status"));
    return {
      name: read("comm").trim(),
      milliseconds: Number(nanoseconds) / 1e6,
      wakes: Number(switches?.[1] ?? NaN),
    };
  } catch (error) {
    // It ended meanwhile; ESRCH is what reading its files gives then.
    if (error instanceof Deno.errors.NotFound) return null;
    if (error instanceof Error && /os error 3\b/.test(error.message)) {
      return null;
    }
    throw error;
  }
}

/**
 * What was used between two looks at the same process. The part of a thread that
 * ended meanwhile is in the ticks alone.
 */
export function usedBetween(before: Look, after: Look): ProcessUsed {
  const threads: Used[] = [];
  for (const [id, { name, milliseconds, wakes }] of after.threads) {
    const then = before.threads.get(id);
    const used = {
      name,
      milliseconds: milliseconds - (then?.milliseconds ?? 0),
      wakes: wakes - (then?.wakes ?? 0),
    };
    if (used.milliseconds > 0 || used.wakes > 0) threads.push(used);
  }
  const sum = (key: "milliseconds" | "wakes") =>
    threads.reduce((total, thread) => total + thread[key], 0);
  return {
    name: after.name,
    ticks: after.ticks - before.ticks,
    milliseconds: sum("milliseconds"),
    wakes: sum("wakes"),
    threads,
  };
}
