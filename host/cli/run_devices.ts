/**
 * Runs devices in this process until something ends them.
 *
 * Theory of operation: devices start one after the other; when one cannot, those
 * that run are stopped, and nothing is left behind. From then on four things may
 * end the run: a signal, the failure of a device (the others are stopped, too,
 * and the exit code tells), the departure of the front-ends of all devices that
 * were given connected sockets, or a failure while stopping. Signals count from
 * the first instant.
 *
 * @module
 */

import { processMemory, raiseNofileLimit } from "../../sys/process.ts";
import { Reactor } from "../../sys/reactor.ts";
import { DeviceHost } from "../device_host.ts";
import { messageOf } from "../error.ts";
import type { Logger } from "../log.ts";
import type { ManagedDevice } from "../management/device_methods.ts";
import { listenForManagement, resizeAll } from "../management/listen.ts";
import { toldStatus } from "../management/told_status.ts";
import type { PlannedDevice } from "../options/device_specs.ts";
import { requireModules } from "../requirements.ts";
import { SharedQuestion } from "../shared_question.ts";
import { StartWatch } from "../start_watch.ts";
import { WorkerPool } from "../worker_plane.ts";
import { ServerSignals } from "./signals.ts";

/** How to run devices. */
export interface RunOptions {
  /** Path of the management socket, or `null` for none. */
  readonly management: string | null;
  /** Takes log lines. */
  readonly log: Logger;
  /** Called with the status of each device when all are served. */
  readonly onReady?: (status: readonly Record<string, unknown>[]) => void;
  /** How long a device may take to tell its status, in ms. Default 5,000. */
  readonly statusLimit?: number;
}

/**
 * Serves devices until a signal, or until one of them fails.
 *
 * @returns the exit code
 * @throws {Error} when something cannot start; nothing is served then
 */
export async function runDevices(
  devices: readonly PlannedDevice[],
  { management, log, onReady, statusLimit }: RunOptions,
): Promise<number> {
  requireModules();
  raiseNofileLimit();
  using reactor = new Reactor();
  const pool = new WorkerPool();
  const hosts: DeviceHost[] = [];
  const managed: ManagedDevice[] = [];
  using signals = new ServerSignals(() => void resizeAll(managed, log));
  let server: Disposable | null = null;
  try {
    const names = devices.map(({ spec }) => spec.name);
    using start = new StartWatch(names, Deno.pid, log);
    for (const { spec } of devices) {
      const { name } = spec;
      start.making(name);
      const host = await DeviceHost.start(
        spec,
        log,
        reactor,
        pool,
        undefined,
        (what) => start.making(name, what),
      );
      hosts.push(host);
      managed.push(managedHere(host, statusLimit));
    }
    start.started();
    if (management !== null) {
      server = listenForManagement(management, managed, reactor, log);
    }
    onReady?.(await Promise.all(hosts.map((host) => host.status())));
    return await untilEnd(hosts, signals, log);
  } finally {
    server?.[Symbol.dispose]();
    await stopAll(hosts, log);
  }
}

/** A device of this process, as management sees it. */
function managedHere(
  host: DeviceHost,
  statusLimit: number | undefined,
): ManagedDevice {
  const question = new SharedQuestion(() => host.status());
  return {
    name: host.name,
    type: host.spec.type,
    process: null,
    // Nothing starts it again.
    amend: () => {},
    status: async () => ({
      ...await toldStatus(question, statusLimit),
      name: host.name,
      type: host.spec.type,
      socket: host.spec.socket ?? null,
      process: null,
      state: "running",
      pid: Deno.pid,
      rss: processMemory(Deno.pid),
      restarts: 0,
      lastExit: null,
    }),
    command: (name, parameters) => host.command(name, parameters),
  };
}

async function untilEnd(
  hosts: readonly DeviceHost[],
  signals: ServerSignals,
  log: Logger,
): Promise<number> {
  const failures = hosts.map(async (host) => ({
    host,
    error: await host.failed,
  }));
  const end = await Promise.race([
    signals.stop,
    Promise.all(hosts.map((host) => host.done)),
    ...failures,
  ]);
  if (typeof end === "string") {
    log.info(`Stopping: ${end}`);
  } else if ("error" in end) {
    log.error(`Stopping: device failed: ${messageOf(end.error)}`, {
      device: end.host.name,
    });
    return 1;
  } else {
    log.info("Stopping: every front-end left");
  }
  return hosts.some(({ dropped }) => dropped) ? 1 : 0;
}

async function stopAll(
  hosts: readonly DeviceHost[],
  log: Logger,
): Promise<void> {
  const results = await Promise.allSettled(hosts.map((host) => host.stop()));
  for (const [i, result] of results.entries()) {
    if (result.status === "rejected") {
      log.error(`Cannot stop cleanly: ${messageOf(result.reason)}`, {
        device: hosts[i].name,
      });
    }
  }
}
