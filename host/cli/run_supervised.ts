/**
 * Runs devices in processes of their own until something ends them.
 *
 * Theory of operation: the supervisor starts all processes; when one device
 * cannot be served, all are stopped, and nothing is left behind. From then on
 * two things may end the run: a signal, or the end of the front-ends of all
 * devices that were given connected sockets. The death of a process is the
 * supervisor's own business. Signals count from the first instant; the second
 * one that asks to stop ends all processes at once.
 *
 * @module
 */

import { raiseNofileLimit } from "../../sys/process.ts";
import { Reactor } from "../../sys/reactor.ts";
import { listenForManagement, resizeAll } from "../management/listen.ts";
import type { PlannedDevice } from "../options/device_specs.ts";
import { Supervisor } from "../supervisor/supervisor.ts";
import type { RunOptions } from "./run_devices.ts";
import { ServerSignals } from "./signals.ts";

/**
 * Serves devices until a signal.
 *
 * @returns the exit code
 * @throws {Error} when something cannot start; nothing is served then
 */
export async function runSupervised(
  devices: readonly PlannedDevice[],
  { management, log, onReady }: RunOptions,
): Promise<number> {
  raiseNofileLimit();
  using reactor = new Reactor();
  let supervisor: Supervisor | null = null;
  using signals = new ServerSignals(
    () => void resizeAll(supervisor?.devices ?? [], log),
    () => supervisor?.kill(),
  );
  supervisor = new Supervisor(devices, log, reactor);
  using ends = new DisposableStack();
  let clean = true;
  let end: Deno.Signal | void;
  try {
    const { devices: managed } = supervisor;
    const served = supervisor.start().then((status) => {
      if (management !== null) {
        ends.use(listenForManagement(management, managed, reactor, log));
      }
      onReady?.(status);
      return supervisor.done;
    });
    end = await Promise.race([signals.stop, served]);
    log.info(`Stopping: ${end ?? "every front-end left"}`);
  } finally {
    ends.dispose();
    clean = await supervisor.stop();
  }
  return clean && !supervisor.lost ? 0 : 1;
}
