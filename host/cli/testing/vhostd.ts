/**
 * The command as a child process, with no more permissions than it needs.
 *
 * @module
 */

import { fromFileUrl } from "@std/path";
import {
  ChildProcess,
  type CommandResult,
  type ProcessOptions,
  runCommand,
} from "../../../tests/support/process.ts";

/** The root of the repository. */
export const ROOT: string = fromFileUrl(
  new URL("../../../", import.meta.url),
);

/** Arguments of the runtime: all that a server may do. */
export function runtimeArguments(): string[] {
  return [
    "run",
    "--quiet",
    "--no-prompt",
    `--config=${ROOT}deno.json`,
    "--allow-ffi",
    `--allow-read=${ROOT}`,
    "--allow-write=vhostd-data",
    `${ROOT}main.ts`,
  ];
}

function options(
  args: readonly string[],
  more: ProcessOptions,
): ProcessOptions {
  return {
    ...more,
    args: [...runtimeArguments(), ...args],
    env: { NO_COLOR: "1" },
    name: `vhostd ${args.join(" ")}`,
  };
}

/** Runs the command to its end. */
export function vhostd(
  args: readonly string[],
  more: ProcessOptions = {},
): Promise<CommandResult> {
  return runCommand(Deno.execPath(), {
    ...options(args, more),
    anyCode: true,
    timeout: 30_000,
  });
}

/** Starts the command. */
export function startVhostd(
  args: readonly string[],
  more: ProcessOptions = {},
): ChildProcess {
  return ChildProcess.start(Deno.execPath(), options(args, more));
}
