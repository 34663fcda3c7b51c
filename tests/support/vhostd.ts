/**
 * The command under test, as a child process.
 *
 * @module
 */

import { ChildProcess, waitForListener } from "./process.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** Arguments that make Deno run the command from any working directory. */
export const COMMAND_ARGUMENTS: readonly string[] = [
  "run",
  "--quiet",
  "--allow-all",
  `--config=${ROOT}deno.json`,
  `${ROOT}main.ts`,
];

/** How {@linkcode startVhostd} serves a disk. */
export interface VhostdOptions {
  /** The image. */
  readonly image: string;
  /** The socket it listens on. */
  readonly socket: string;
  /** More keys of `--blk`, `queues=2,serial=x` say. */
  readonly keys?: string;
  /** Management socket (none). */
  readonly management?: string;
}

/**
 * Serves a disk and waits until the socket listens.
 *
 * @throws {ProcessError} when the command ends first, with what it said
 */
export async function startVhostd(
  options: VhostdOptions,
): Promise<ChildProcess> {
  const { image, socket, keys, management = "off" } = options;
  const blk = [`path=${image}`, `socket=${socket}`, ...(keys ? [keys] : [])];
  const child = ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [
      ...COMMAND_ARGUMENTS,
      "serve",
      `--management=${management}`,
      `--blk=${blk.join(",")}`,
    ],
  });
  try {
    await waitForListener(socket, child);
    return child;
  } catch (error) {
    await child.stop();
    throw error;
  }
}

/** Runs `ctl` against a management socket; what it prints on stdout. */
export async function ctl(
  management: string,
  ...args: readonly string[]
): Promise<string> {
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: [...COMMAND_ARGUMENTS, "ctl", `--management=${management}`, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  if (!success) {
    throw new Error(`ctl ${args.join(" ")}: ${decoder.decode(stderr)}`);
  }
  return decoder.decode(stdout);
}

/**
 * Waits until a server that was started says that it serves.
 *
 * @throws {ProcessError} `timeout` or `ended`; it is stopped then
 */
export async function untilServing(
  server: ChildProcess,
  timeout = 30_000,
): Promise<ChildProcess> {
  try {
    await server.expect("Stop with Ctrl-C", timeout, "stdout");
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}
