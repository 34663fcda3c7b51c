/**
 * Network devices served by the command as in production: with few permissions,
 * in a process of their own under the supervisor.
 *
 * @module
 */

import { runtimeArguments } from "../../host/cli/testing/vhostd.ts";
import { untilServing } from "../support/vhostd.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";

/** How long (ms) the command may take to start. */
const START_TIMEOUT = 20_000;

/**
 * Starts the command and waits until it serves.
 *
 * @param devices the keys of each device
 * @param wrapper command that runs it, in a namespace say
 */
export async function serveNet(
  devices: readonly string[],
  wrapper: readonly string[] = [],
): Promise<ChildProcess> {
  const [program, ...args] = [
    ...wrapper,
    Deno.execPath(),
    ...runtimeArguments(),
    ...["serve", "--management=off"],
    ...devices.map((keys) => `--net=${keys}`),
  ];
  const env = { NO_COLOR: "1" };
  const server = ChildProcess.start(program, { name: "vhostd", args, env });
  return await untilServing(server, START_TIMEOUT);
}

/** Ids of the processes that a process has started and that are not reaped. */
export function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task`;
  return [...Deno.readDirSync(path)].flatMap(({ name }) =>
    Deno.readTextFileSync(`${path}/${name}/children`).split(" ")
      .filter(Boolean).map(Number)
  );
}

/** Kills the process of the devices and waits for another; its id. */
export async function killDevices(server: ChildProcess): Promise<number> {
  const [before] = childrenOf(server.pid);
  Deno.kill(before, "SIGKILL");
  let after = 0;
  await waitUntil(() => {
    [after = 0] = childrenOf(server.pid);
    return after !== 0 && after !== before;
  }, { what: "another process of the devices", timeout: START_TIMEOUT });
  return after;
}
