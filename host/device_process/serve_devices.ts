/**
 * A device process: serves what the supervisor says, until it says stop.
 *
 * Theory of operation
 * -------------------
 * The process is asked through the control channel, and ends for one of these
 * reasons: the supervisor asks for it or is gone, a signal, a device cannot
 * start or fails, or every device was given a connected socket and all
 * front-ends have left. In each case the rings of all devices are drained first,
 * in bounded time: storage may hang for as long as it likes.
 *
 * Ctrl-C does not come here, because the process has a process group of its
 * own. SIGHUP is left to the supervisor.
 *
 * @module
 */

import { writeFd } from "../../sys/fd.ts";
import { raiseNofileLimit } from "../../sys/process.ts";
import { Reactor } from "../../sys/reactor.ts";
import type { UnixSocket } from "../../sys/unix_socket.ts";
import { ServerSignals } from "../cli/signals.ts";
import { DeviceHost } from "../device_host.ts";
import { HostError, messageOf } from "../error.ts";
import { Logger } from "../log.ts";
import { ControlChannel, type Params } from "../supervisor/control_channel.ts";
import type {
  CommandParams,
  DeviceParams,
  StartParams,
  StartResult,
} from "../supervisor/protocol.ts";
import { VERSION } from "../version.ts";
import { WorkerPool } from "../worker_plane.ts";

/** How long the supervisor may take to note what a device keeps, in ms. */
const KEEP_LIMIT = 5000;

/** Why the process ends. */
interface End {
  /** The exit code, if draining succeeds. */
  readonly code: number;
  /** What the log says, if anything is left to say. */
  readonly reason?: string;
}

/**
 * Serves devices until something ends that.
 *
 * @param control the supervisor's socket; it is taken over
 * @param logFd where log lines go
 * @param remainsFd what is to last until the requests of the process have ended
 * @returns the exit code
 */
export async function serveDevices(
  control: UnixSocket,
  logFd: number,
  remainsFd: number,
): Promise<number> {
  raiseNofileLimit();
  using reactor = new Reactor();
  using signals = new ServerSignals(() => {});
  const devices = new Devices(logFd, remainsFd, reactor);
  using channel: ControlChannel = new ControlChannel(control, reactor, {
    start: (params) => devices.start(params as unknown as StartParams, channel),
    status: (params) => devices.find(params).status(),
    command: (params) => {
      const { name, params: own } = params as unknown as CommandParams;
      return devices.find(params).command(name, own);
    },
    stop: () => devices.end({ code: 0 }),
  });
  const { code, reason } = await Promise.race([
    devices.ended,
    signals.stop.then((signal): End => ({ code: 0, reason: signal })),
    channel.ended.then((): End => ({
      code: 0,
      reason: channel.problem ?? "the supervisor is gone",
    })),
  ]);
  if (reason !== undefined) devices.log.info(`Stopping: ${reason}`);
  return await devices.stop() ? code : 1;
}

/** The devices of the process. */
class Devices {
  log: Logger;
  /** Resolves when the devices want the process to end. */
  readonly ended: Promise<End>;
  readonly end: (end: End) => void;
  readonly #logFd: number;
  readonly #reactor: Reactor;
  readonly #pool: WorkerPool;
  readonly #hosts: DeviceHost[] = [];
  readonly #failed = new Set<DeviceHost>();
  #drainLimit = 0;
  #stopping = false;

  constructor(logFd: number, remainsFd: number, reactor: Reactor) {
    const { promise, resolve } = Promise.withResolvers<End>();
    this.ended = promise;
    this.end = resolve;
    this.#logFd = logFd;
    this.#pool = new WorkerPool(remainsFd);
    this.#reactor = reactor;
    this.log = this.#logger({});
  }

  /** Starts all devices, or none. */
  async start(
    { version, logLevel, logFormat, drainLimit, devices }: StartParams,
    channel: ControlChannel,
  ): Promise<StartResult> {
    this.#drainLimit = drainLimit;
    this.log = this.#logger({ level: logLevel, format: logFormat });
    try {
      if (version !== VERSION) {
        throw new HostError(
          "start",
          `The server is version ${version}, its devices are ${VERSION}: restart it`,
        );
      }
      for (const spec of devices) {
        const { name: device } = spec;
        channel.tell("making", { device });
        const host = await DeviceHost.start(
          spec,
          this.log,
          this.#reactor,
          this.#pool,
          // Without a supervisor there is no successor.
          (value) =>
            settled(channel.call("keep", { device, value }), KEEP_LIMIT),
          (waitsFor) => channel.tell("making", { device, waitsFor }),
        );
        if (this.#stopping) await host.stop();
        this.#hosts.push(host);
      }
      const status = await Promise.all(
        this.#hosts.map((host) => host.status()),
      );
      this.#watch(channel);
      return status;
    } catch (error) {
      // The answer leaves first: this is settled in a later turn.
      setTimeout(() => this.end({ code: 1 }));
      throw error;
    }
  }

  /** The device of that name. */
  find(params: Params): DeviceHost {
    const { device } = params as unknown as DeviceParams;
    const host = this.#hosts.find(({ name }) => name === device);
    if (host !== undefined) return host;
    throw new HostError("usage", `There is no device "${device}" here`);
  }

  /** Drains all devices; false when one of them could not. */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    const limit = this.#drainLimit;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => {
        this.log.error(`Cannot stop cleanly: not drained in ${limit} ms`);
        resolve(false);
      }, limit);
    });
    const drained = Promise.all(this.#hosts.map((host) => this.#drain(host)))
      .then((all) => all.every((each) => each));
    try {
      return await Promise.race([drained, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #drain(host: DeviceHost): Promise<boolean> {
    try {
      await host.stop();
      return true;
    } catch (error) {
      // The supervisor has been told why.
      if (this.#failed.has(host)) return false;
      this.log.error(`Cannot stop cleanly: ${messageOf(error)}`, {
        device: host.name,
      });
      return false;
    }
  }

  /** Tells the supervisor what becomes of the devices. */
  #watch(channel: ControlChannel): void {
    for (const host of this.#hosts) {
      const { name: device, done, failed } = host;
      void done.then(() => {
        channel.tell("finished", { device, dropped: host.dropped });
      });
      void failed.then((error) => {
        this.#failed.add(host);
        channel.tell("failed", { device, message: messageOf(error) });
        this.end({ code: 1 });
      });
    }
    void Promise.all(this.#hosts.map(({ done }) => done)).then(() =>
      // The supervisor, which was told, says why.
      this.end({ code: 0 })
    );
  }

  #logger(options: ConstructorParameters<typeof Logger>[0]): Logger {
    const encoder = new TextEncoder();
    return new Logger({
      ...options,
      write: (line) => {
        try {
          writeFd(this.#logFd, encoder.encode(line));
        } catch {
          // A log that cannot be written stops nothing.
        }
      },
    });
  }
}

/** Resolves when something has come to an end, or after so many ms. */
async function settled(what: Promise<unknown>, limit: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, limit);
  await Promise.race([what.catch(() => {}), late.promise]);
  clearTimeout(timer);
}
