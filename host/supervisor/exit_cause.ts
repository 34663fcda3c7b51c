/**
 * Why a process ended, in one line.
 *
 * @module
 */

import type { ExitStatus } from "../../sys/spawn.ts";

/** What a signal means here. Source: `signal(7)`. */
const SIGNALS: ReadonlyMap<number, readonly [name: string, meaning: string]> =
  new Map([
    [1, ["SIGHUP", ""]],
    [2, ["SIGINT", ""]],
    [3, ["SIGQUIT", ""]],
    [4, ["SIGILL", "a bug of the runtime"]],
    [5, ["SIGTRAP", "the runtime gave up"]],
    [6, ["SIGABRT", "the runtime gave up"]],
    [7, ["SIGBUS", "memory or a mapped file became shorter"]],
    [8, ["SIGFPE", ""]],
    [9, ["SIGKILL", "by somebody, or by the kernel for want of memory"]],
    [11, ["SIGSEGV", "an access outside of all memory"]],
    [13, ["SIGPIPE", ""]],
    [14, ["SIGALRM", ""]],
    [15, ["SIGTERM", ""]],
    [24, ["SIGXCPU", "the limit of processor time"]],
    [25, ["SIGXFSZ", "the limit of file sizes"]],
    [31, ["SIGSYS", "a forbidden system call"]],
  ]);

/** Lines with which the runtime says why it ends. */
const LAST_WORDS = [
  /^# (Fatal JavaScript .+)$/,
  /^# (Fatal error in .+)$/,
  /^(thread '.*' .*panicked at .+)$/,
  /^error: (.+)$/,
];

/**
 * Says why a process ended.
 *
 * @param status how it ended
 * @param output the last lines that it printed
 *
 * @example Usage
 * ```ts
 * import { describeExit } from "./exit_cause.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(describeExit({ code: 3, signal: null }), "exit code 3");
 * assertEquals(
 *   describeExit({ code: null, signal: 5 }, ["# Fatal JavaScript out of memory"]),
 *   "killed by SIGTRAP: Fatal JavaScript out of memory",
 * );
 * ```
 */
export function describeExit(
  { code, signal }: ExitStatus,
  output: readonly string[] = [],
): string {
  if (code === 0) return "it ended by itself with exit code 0";
  const words = lastWords(output);
  if (signal === null) return `exit code ${code}${words && `: ${words}`}`;
  const [name, meaning] = SIGNALS.get(signal) ?? [`signal ${signal}`, ""];
  if (words !== "") return `killed by ${name}: ${words}`;
  return `killed by ${name}${meaning && ` (${meaning})`}`;
}

function lastWords(output: readonly string[]): string {
  for (const line of output.toReversed()) {
    for (const pattern of LAST_WORDS) {
      const match = pattern.exec(line.trim());
      if (match !== null) return match[1];
    }
  }
  return "";
}
