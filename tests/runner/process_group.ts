/**
 * A child process that leads a process group, so that whatever it starts can be
 * ended with it, by the id of the group.
 *
 * Theory of operation: the child is started detached, which makes it the leader
 * of a new session and group. Its output is read line by line while it runs.
 * When it ends, or at its time limit, or when the run is stopped, what is left
 * of the group is asked to end and then killed. A process that outlives the
 * leader is reported by name: a test that leaves one behind is defective.
 *
 * @module
 */
import { DeadlineError, waitUntil, withDeadline } from "../support/deadline.ts";

/** Milliseconds that a group has to end after SIGTERM, by default. */
const GRACE = 5_000;
/** Milliseconds that a group has to end after SIGKILL. */
const KILL = 5_000;
/** Milliseconds that the output may stay open after the group has ended. */
const DRAIN = 2_000;

/** How to run a command. */
export interface GroupOptions {
  /** Its arguments. */
  readonly args: readonly string[];
  /** Variables added to the environment. */
  readonly env?: Record<string, string>;
  /** Working directory. */
  readonly cwd?: string;
  /** Milliseconds after which it is ended. */
  readonly timeout: number;
  /** Milliseconds from SIGTERM to SIGKILL, 5,000 by default. */
  readonly grace?: number;
  /** Ends it at once. */
  readonly signal?: AbortSignal;
  /** Called for each line of its output, both streams alike. */
  readonly onLine: (line: string) => void;
}

/** How a command ended. */
export interface GroupOutcome {
  /** The exit code; that of a shell for a signal. */
  readonly code: number;
  /** Why it was ended, when it did not end by itself. */
  readonly ended?: "timeout" | "stopped";
  /** Commands that were still running in the group when its leader ended. */
  readonly leftovers: readonly string[];
}

/** Commands of the processes of a group that have not ended. */
async function members(group: number): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    let stat: string;
    try {
      stat = await Deno.readTextFile(`/proc/${name}/stat`);
    } catch {
      continue; // It ended meanwhile.
    }
    // PID (COMMAND) STATE PPID PGRP …; the command may hold anything.
    const end = stat.lastIndexOf(")");
    const [state, , pgrp] = stat.slice(end + 2).split(" ");
    if (Number(pgrp) !== group || state === "Z" || state === "X") continue;
    found.push(`${stat.slice(stat.indexOf("(") + 1, end)} (${name})`);
  }
  return found;
}

function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function endGroup(group: number, grace = GRACE): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    signalGroup(group, signal);
    const timeout = signal === "SIGTERM" ? grace : KILL;
    try {
      await waitUntil(async () => (await members(group)).length === 0, {
        what: `the processes of group ${group}`,
        timeout,
        interval: 20,
      });
      return;
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
    }
  }
}

/** Reads a stream and calls back for each line, also for an unfinished last. */
function readLines(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
): { done: Promise<void>; cancel: () => Promise<void> } {
  const reader = stream.getReader();
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = "";
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split(
        "\n",
      );
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    }
    if (rest !== "") onLine(rest);
  };
  return { done: read(), cancel: () => reader.cancel() };
}

/**
 * Runs a command in a process group of its own, to the end of all its
 * processes.
 *
 * @param command The program.
 * @param options How to run it.
 */
export async function runGroup(
  command: string,
  options: GroupOptions,
): Promise<GroupOutcome> {
  const child = new Deno.Command(command, {
    args: [...options.args],
    env: options.env,
    cwd: options.cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
  const streams = [
    readLines(child.stdout, options.onLine),
    readLines(child.stderr, options.onLine),
  ];
  const limits = [AbortSignal.timeout(options.timeout)];
  if (options.signal !== undefined) limits.push(options.signal);
  const limit = AbortSignal.any(limits);
  let ended: GroupOutcome["ended"];
  const end = Promise.withResolvers<void>();
  const onLimit = (): void => {
    ended = options.signal?.aborted ? "stopped" : "timeout";
    endGroup(child.pid, options.grace).then(end.resolve, end.reject);
  };
  if (limit.aborted) onLimit();
  else limit.addEventListener("abort", onLimit);
  const status = await child.status;
  limit.removeEventListener("abort", onLimit);
  if (ended !== undefined) await end.promise;
  const leftovers = await members(child.pid);
  if (leftovers.length > 0) await endGroup(child.pid, options.grace);
  try {
    const drained = Promise.all(streams.map(({ done }) => done));
    await withDeadline(drained, DRAIN, "the end of the output");
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
    await Promise.all(streams.map(({ cancel }) => cancel()));
  }
  return { code: status.code, ended, leftovers };
}
