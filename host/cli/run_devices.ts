/**
 * Runs devices until something ends them.
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

import { raiseNofileLimit } from "../../sys/process.ts";
import { Reactor } from "../../sys/reactor.ts";
import { DeviceHost } from "../device_host.ts";
import { HostError, messageOf } from "../error.ts";
import type { Logger } from "../log.ts";
import {
  registerDeviceMethods,
  resizeDevices,
} from "../management/device_methods.ts";
import { Methods } from "../management/methods.ts";
import { ManagementServer } from "../management/server.ts";
import type { PlannedDevice } from "../options/device_specs.ts";
import { PROGRAM, VERSION } from "../version.ts";
import { ServerSignals } from "./signals.ts";

/** How to run devices. */
export interface RunOptions {
  /** Path of the management socket, or `null` for none. */
  readonly management: string | null;
  /** Takes log lines. */
  readonly log: Logger;
  /** Called when all devices are served. */
  readonly onReady?: (hosts: readonly DeviceHost[]) => Promise<void>;
}

/**
 * Serves devices until a signal, or until one of them fails.
 *
 * @returns the exit code
 * @throws {Error} when something cannot start; nothing is served then
 */
export async function runDevices(
  devices: readonly PlannedDevice[],
  { management, log, onReady }: RunOptions,
): Promise<number> {
  raiseNofileLimit();
  using reactor = new Reactor();
  const hosts: DeviceHost[] = [];
  using signals = new ServerSignals(() => void resizeAll(hosts, log));
  let server: ManagementServer | null = null;
  try {
    for (const { spec } of devices) {
      hosts.push(await DeviceHost.start(spec, log, reactor));
    }
    if (management !== null) {
      server = manage(management, hosts, reactor, log);
    }
    await onReady?.(hosts);
    return await untilEnd(hosts, signals, log);
  } finally {
    server?.close();
    await stopAll(hosts, log);
  }
}

function manage(
  path: string,
  hosts: readonly DeviceHost[],
  reactor: Reactor,
  log: Logger,
): ManagementServer {
  const methods = new Methods({ title: PROGRAM, version: VERSION });
  registerDeviceMethods(methods, hosts, VERSION);
  try {
    return ManagementServer.listen(path, methods, reactor, log);
  } catch (error) {
    throw new HostError(
      "start",
      `${
        messageOf(error)
      }; choose another management socket with --management=PATH, or off`,
      { cause: error },
    );
  }
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
  return 0;
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

async function resizeAll(
  hosts: readonly DeviceHost[],
  log: Logger,
): Promise<void> {
  log.info("Looking at the size of all images again: SIGHUP");
  try {
    await resizeDevices(hosts);
  } catch (error) {
    log.error(messageOf(error));
  }
}
