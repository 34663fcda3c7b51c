/**
 * Fuzzes: `deno task fuzz --target ring --seconds 60`.
 *
 * Theory of operation: a process for each target, one after the other. A
 * process that dies, or that stays with one input, leaves that input behind in
 * a file. What was found is written to `vhostd-data/fuzz` in the current
 * folder.
 *
 * @module
 */

import { fromFileUrl, join } from "@std/path";
import { writeInput } from "./engine/corpus.ts";
import { makeCurrentInput, readCurrentInput } from "./engine/current_input.ts";
import {
  type FuzzOptions,
  FuzzUsageError,
  help,
  readFuzzOptions,
} from "./options.ts";
import { type ProcessOrder, REPORTED } from "./process.ts";

const PROCESS = fromFileUrl(new URL("./process.ts", import.meta.url));

/** How a process is looked after. */
export interface Supervision {
  /** The module that it runs. */
  readonly script: string;
  /** Milliseconds between two looks. */
  readonly interval: number;
  /** Looks that find the same input before it counts as hanging. */
  readonly looks: number;
}

const USUAL: Supervision = { script: PROCESS, interval: 1_000, looks: 20 };

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number;
  /** Why its last input is a finding, where it did not say so itself. */
  readonly reason: string | null;
}

/** Runs a process to its end. */
export async function supervise(
  order: ProcessOrder,
  { script, interval, looks }: Supervision = USUAL,
): Promise<ProcessEnd> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", script, JSON.stringify(order)],
    stdin: "null",
    // Its sockets would look like a leak.
    env: { DENO_NO_UPDATE_CHECK: "1" },
  }).spawn();
  let last = -1, same = 0;
  let reason: string | null = null;
  const look = setInterval(() => {
    const { count } = readCurrentInput(order.current);
    same = count === last ? same + 1 : 0;
    last = count;
    if (count === 0 || same < looks || reason !== null) return;
    reason = `it ran for more than ${looks * interval / 1_000} s`;
    child.kill("SIGKILL");
  }, interval);
  const { code, signal } = await child.status;
  clearInterval(look);
  if (signal !== null) reason ??= `it was ended by ${signal}`;
  else if (code !== 0 && code !== REPORTED) reason ??= "it ended the process";
  return { code, reason };
}

async function fuzz(
  name: string,
  options: FuzzOptions,
  folder: string,
): Promise<boolean> {
  const current = join(folder, name);
  makeCurrentInput(current);
  const findings = join("vhostd-data", "fuzz", name);
  const { code, reason } = await supervise({
    target: name,
    seconds: options.seconds,
    seed: options.seed,
    fresh: options.fresh,
    keep: options.keep,
    current,
    findings,
    replay: options.replay,
  });
  if (reason !== null) {
    const path = writeInput(findings, readCurrentInput(current).input);
    console.log(`${name}: FOUND an input: ${reason}`);
    console.log(`Replay: deno task fuzz --target ${name} --replay ${path}`);
  }
  return code === 0 && reason === null;
}

async function main(args: readonly string[]): Promise<number> {
  const options = readFuzzOptions(args);
  if (options.help) {
    console.log(help);
    return 0;
  }
  const folder = await Deno.makeTempDir({ prefix: "vhostd-fuzz-" });
  try {
    let good = true;
    for (const name of options.names) {
      good = await fuzz(name, options, folder) && good;
    }
    return good ? 0 : 1;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof FuzzUsageError)) throw error;
    console.error(error.message);
    Deno.exit(2);
  }
}
