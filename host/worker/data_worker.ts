/**
 * Entry of a data Worker: hosts one device, or several that share state, and the
 * {@linkcode DataLoop} that runs their rings.
 *
 * Theory of operation
 * -------------------
 * The loop blocks the thread, so messages are not delivered while it runs. The
 * main thread counts each command in shared memory; the loop returns as soon as
 * the count exceeds the number of commands handled, and this file then lets
 * JavaScript's event loop deliver them. Commands are handled in the order of
 * their arrival. What takes its time (making a device, a management command):
 * while its promise is pending, turns of the loop alternate with turns of the
 * event loop. The first device is waited for, since there is nothing to serve.
 *
 * The Worker ends when it is told to, after its last device. An error that nobody catches
 * ends it as it is: a device that failed might never give back what it took, so
 * nothing is drained then. Memory stays mapped, since the session is told by the
 * failure of its next request.
 *
 * @module
 */

import type {
  CreateDevice,
  DeviceContext,
  LogLevel,
  VirtioDevice,
} from "../../virtqueue/device.ts";
import type { ConfigLoan } from "../../vhost/data_plane.ts";
import { LentConnection } from "./config_loan.ts";
import { DataLoop } from "./data_loop.ts";
import type { HostedDevice } from "./hosted_device.ts";
import { PollingGovernor } from "./polling.ts";
import { EpollWaiter } from "./waiter.ts";
import type {
  Begin,
  Command,
  CreateCommand,
  DeviceFacts,
  Request,
  WorkerMessage,
  WorkerStatus,
} from "./messages.ts";

/** What is asked of a device that was made. */
type DeviceCommand = Exclude<Command, { type: "create" | "end" }>;

/** The part of a Worker's global scope that is used here. */
interface WorkerScope {
  postMessage(message: WorkerMessage): void;
  onmessage: ((event: MessageEvent<Begin | Request>) => void) | null;
  close(): void;
}

const scope = self as unknown as WorkerScope;
const inbox: (Begin | Request)[] = [];
const devices = new Map<number, HostedDevice>();
/** Connections that are answered here, by device. */
const lent = new Map<number, LentConnection>();
/** What was told to others, or is to be kept, and is not heard by all of them yet. */
const telling = new Map<number, () => void>();
let told = 0;
let arrived: (() => void) | null = null;
let handled = 0;
let pending = 0;
let closed = false;

scope.onmessage = (event) => {
  inbox.push(event.data);
  arrived?.();
};

await main();
scope.close();

async function main(): Promise<void> {
  const begin = await next() as Begin;
  const posted = new Int32Array(begin.posted);
  const loop = new DataLoop(
    begin.controlFd,
    posted,
    new EpollWaiter(),
    new PollingGovernor(begin.poll),
    begin.remainsFd,
  );
  while (!closed) {
    if (handled !== Atomics.load(posted, 0)) {
      const ended = handle(await next() as Request, loop);
      if (devices.size === 0) await ended;
      handled++;
    } else if (pending > 0) {
      loop.run(handled, true);
      await macrotask();
    } else {
      loop.run(handled);
    }
  }
  loop[Symbol.dispose]();
}

/** Resolves when the request was answered; does at once what can be. */
function handle({ id, device, command }: Request, loop: DataLoop): unknown {
  try {
    const value = command.type === "create"
      ? create(device, command, loop)
      : command.type === "end"
      ? void (closed = true)
      : perform(device, hosted(device), command, loop);
    if (!(value instanceof Promise)) return answer(id, value);
    pending++;
    return value.then((result) => answer(id, result), (error) => {
      refuse(id, error);
    }).finally(() => pending--);
  } catch (error) {
    refuse(id, error);
  }
}

function hosted(device: number): HostedDevice {
  const found = devices.get(device);
  if (found === undefined) throw new Error(`There is no device ${device} here`);
  return found;
}

async function create(
  number: number,
  command: CreateCommand,
  loop: DataLoop,
): Promise<DeviceFacts> {
  const hosted = loop.host(command.slotsPerQueue);
  try {
    hosted.log = (level, message) => log(number, level, message);
    hosted.device = await createDevice(number, command, hosted, loop);
  } catch (error) {
    hosted[Symbol.dispose]();
    throw error;
  }
  devices.set(number, hosted);
  const { deviceId, features, queueCount, adjacentQueues = 1, driverWords } =
    hosted.device;
  return {
    deviceId,
    features,
    queueCount,
    adjacentQueues,
    config: configOf(hosted.device),
    driverWords: driverWords ?? null,
  };
}

async function createDevice(
  number: number,
  { module, options, slotsPerQueue, worker, workers, kept }: CreateCommand,
  hosted: HostedDevice,
  loop: DataLoop,
): Promise<VirtioDevice> {
  const loaded = await import(module) as { default?: CreateDevice };
  if (typeof loaded.default !== "function") {
    throw new TypeError(
      `Cannot use "${module}" as a device: its default export is no function that makes a device`,
    );
  }
  let device: VirtioDevice | null = null;
  const context: DeviceContext = {
    memory: hosted.memory,
    slotsPerQueue,
    worker,
    ...(workers > 1
      ? { tellOthers: (value, heard) => tell(number, value, heard) }
      : {}),
    ring: () => loop.useRing((error) => hosted.log("warn", error.message)),
    configChanged: () => device !== null && postConfig(number, device, true),
    resume: (queue) => hosted.resume(queue),
    watch: (fd, ready) => hosted.watch(fd, ready),
    log: (level, message) => log(number, level, message),
    waitsFor: (what) =>
      scope.postMessage({ type: "waits-for", device: number, what }),
    kept,
    keep: (value, kept) => keep(number, value, kept),
  };
  device = await loaded.default(options, context);
  return device;
}

function perform(
  number: number,
  hosted: HostedDevice,
  command: DeviceCommand,
  loop: DataLoop,
): unknown {
  const device = hosted.device;
  switch (command.type) {
    case "negotiate":
      return hosted.negotiate(command.features);
    case "write-config":
      device.writeConfig?.(command.offset, command.data);
      return postConfig(number, device, false);
    case "add-region":
      return hosted.addRegion(command.region);
    case "remove-region":
      return hosted.removeRegion(command.region);
    case "start-ring":
      return hosted.startRing(command.ring);
    case "stop-ring":
      return hosted.stopRing(command.index, command.suspend);
    case "set-call":
      return hosted.setCall(command.index, command.fd);
    case "set-error":
      return hosted.setError(command.index, command.fd);
    case "log-writes":
      return hosted.logWrites(command.log);
    case "set-used-log":
      return hosted.setUsedLog(command.index, command.address);
    case "set-log-fd":
      return hosted.setLogFd(command.fd);
    case "answer-config":
      return answerConfig(number, device, command.loan, loop);
    case "end-loan":
      return endLoan(number);
    case "activate":
      return device.activate?.();
    case "deactivate":
      return device.deactivate?.();
    case "reset":
      device.reset?.();
      return postConfig(number, device, false);
    case "command":
      if (device.command === undefined) {
        throw new Error(`The device knows no command "${command.name}"`);
      }
      return device.command(command.name, command.parameters);
    case "hear":
      return device.hear?.(command.value);
    case "heard":
      telling.get(command.told)?.();
      telling.delete(command.told);
      return undefined;
    case "status":
      return status(hosted, loop);
    case "close":
      // Whatever goes wrong: the device is gone.
      devices.delete(number);
      endLoan(number);
      try {
        hosted.stopRings();
        device.close?.();
      } finally {
        hosted[Symbol.dispose]();
      }
      return undefined;
  }
}

function answerConfig(
  number: number,
  device: VirtioDevice,
  loan: ConfigLoan,
  loop: DataLoop,
): void {
  endLoan(number);
  const connection = new LentConnection(loop, device, loan, () => {
    lent.delete(number);
    scope.postMessage({ type: "loan-over", device: number });
  });
  lent.set(number, connection);
}

function endLoan(number: number): void {
  lent.get(number)?.[Symbol.dispose]();
  lent.delete(number);
}

function status(hosted: HostedDevice, loop: DataLoop): WorkerStatus {
  return {
    rings: hosted.rings.map((ring) => ring.status()),
    device: hosted.device.status?.() ?? {},
    missedWakeUps: loop.missedWakeUps,
  };
}

function log(device: number, level: LogLevel, message: string): void {
  scope.postMessage({ type: "log", device, level, message });
}

function tell(device: number, value: unknown, heard: () => void): void {
  telling.set(++told, heard);
  scope.postMessage({ type: "tell", device, told, value });
}

function keep(device: number, value: unknown, kept?: () => void): void {
  if (kept !== undefined) telling.set(++told, kept);
  const number = kept === undefined ? null : told;
  scope.postMessage({ type: "keep", device, told: number, value });
}

function postConfig(
  number: number,
  device: VirtioDevice,
  notify: boolean,
): void {
  const config = configOf(device);
  scope.postMessage({ type: "config-changed", device: number, config, notify });
}

/** The configuration space as it is now; where it is shared, itself. */
function configOf({ config, driverWords }: VirtioDevice): Uint8Array {
  return driverWords === undefined ? config.slice() : config;
}

function answer(id: number, value: unknown): void {
  scope.postMessage({ type: "answer", id, value });
}

function refuse(id: number, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  const kind = (error as { kind?: unknown } | null)?.kind;
  scope.postMessage({
    type: "refusal",
    id,
    message,
    kind: typeof kind === "string" ? kind : "failed",
  });
}

async function next(): Promise<Begin | Request> {
  while (inbox.length === 0) {
    await new Promise<void>((resolve) => arrived = resolve);
    arrived = null;
  }
  return inbox.shift()!;
}

function macrotask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
