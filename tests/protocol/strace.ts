/**
 * Tracing the system calls of a served disk with strace: the system's, or one
 * that is fetched from Debian's packages.
 *
 * @module
 */

import { runCommand } from "../support/process.ts";
import { findProgram } from "../guest/rig/apt.ts";
import { RigError } from "../guest/rig/error.ts";
import { inSysroot, sysroot } from "../guest/rig/packages.ts";

/** How to run strace: a command, and the words before strace's own. */
export type Tracer = readonly string[];

/** strace, or why system calls cannot be traced here. */
export async function findTracer(): Promise<Tracer | string> {
  let tracer: Tracer;
  const installed = findProgram("strace");
  if (installed !== null) tracer = [installed];
  else {
    try {
      const root = await sysroot({
        name: "strace",
        suites: ["bookworm"],
        packages: ["strace"],
      }, { progress: (line) => console.log(line) });
      const { command, args } = inSysroot(root, "strace");
      tracer = [command, ...args];
    } catch (error) {
      if (!(error instanceof RigError)) throw error;
      return `there is no strace, and none can be fetched: ${error.message}`;
    }
  }
  const [command, ...args] = tracer;
  const { code, stderr } = await runCommand(command, {
    name: "strace",
    args: [...args, "-f", "-o", "/dev/null", "true"],
    anyCode: true,
  });
  return code === 0 ? tracer : `strace cannot trace here: ${stderr.trim()}`;
}

/**
 * The words that run a command under strace, with its children and threads.
 *
 * @param output file for the trace
 * @param calls names of the system calls to trace
 * @param injections faults and delays, as strace's `-e inject=` takes them
 */
export function traced(
  tracer: Tracer,
  output: string,
  calls: readonly string[],
  injections: readonly string[] = [],
): string[] {
  return [
    ...tracer,
    ...["-f", "-tt", "-y", "-qq"],
    ...["-o", output],
    ...["-e", `trace=${calls.join(",")}`],
    ...["-e", "signal=none"],
    ...injections.flatMap((injection) => ["-e", `inject=${injection}`]),
  ];
}

/** A system call that has returned. */
export interface TracedCall {
  /** The thread. */
  readonly thread: number;
  readonly name: string;
  /** Its arguments, as strace writes them. */
  readonly args: string;
  /** What it returned. */
  readonly result: string;
}

/** The calls of a trace, in the order in which they returned. */
export function parseTrace(text: string): TracedCall[] {
  const calls: TracedCall[] = [];
  const begun = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [, pid, rest] = /^(\d+) +[\d:.]+ (.*)$/.exec(line) ?? [];
    if (rest === undefined) continue;
    const thread = Number(pid);
    const unfinished = /^(.*) <unfinished \.\.\.>$/.exec(rest);
    if (unfinished !== null) {
      begun.set(thread, unfinished[1]);
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    const whole = resumed === null
      ? rest
      : (begun.get(thread) ?? "") + resumed[1];
    const [, name, args, result] = /^(\w+)\((.*)\) += (.*)$/.exec(whole) ?? [];
    if (result !== undefined) calls.push({ thread, name, args, result });
  }
  return calls;
}
