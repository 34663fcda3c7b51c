/**
 * Entry of a data Worker: hosts one device and its {@linkcode DataLoop}.
 *
 * Theory of operation
 * -------------------
 * The loop blocks the thread, so messages are not delivered while it runs. The
 * main thread counts each command in shared memory; the loop returns as soon as
 * the count exceeds the number of commands handled, and this file then lets
 * JavaScript's event loop deliver them. Commands are handled in the order of
 * their arrival. A management command of a device may take its time: while its
 * promise is pending, turns of the loop alternate with turns of the event loop.
 *
 * An error that nobody catches ends the Worker as it is: a device that failed
 * might never give back what it took, so nothing is drained then. Memory stays
 * mapped, since the session is told by the failure of its next request.
 *
 * @module
 */

import type {
  CreateDevice,
  DeviceContext,
  VirtioDevice,
} from "../../virtqueue/device.ts";
import { DataLoop } from "./data_loop.ts";
import { PollingGovernor } from "./polling.ts";
import { EpollWaiter } from "./waiter.ts";
import type {
  Command,
  CreateCommand,
  DeviceFacts,
  Request,
  WorkerMessage,
  WorkerStatus,
} from "./messages.ts";

/** The part of a Worker's global scope that is used here. */
interface WorkerScope {
  postMessage(message: WorkerMessage): void;
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  close(): void;
}

const scope = self as unknown as WorkerScope;
const inbox: Request[] = [];
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
  const { id, command: create } = await nextRequest();
  if (create.type !== "create") {
    throw new Error(`The first command is "${create.type}", not "create"`);
  }
  const posted = new Int32Array(create.posted);
  const loop = new DataLoop(
    create.controlFd,
    posted,
    create.slotsPerQueue,
    new EpollWaiter(),
    new PollingGovernor(create.poll),
  );
  try {
    loop.device = await createDevice(create, loop);
    answer(id, facts(loop.device));
  } catch (error) {
    loop[Symbol.dispose]();
    refuse(id, error);
    return;
  }
  handled++;
  while (!closed) {
    if (pending > 0) {
      loop.run(handled, true);
      await macrotask();
    } else {
      loop.run(handled);
    }
    while (!closed && handled !== Atomics.load(posted, 0)) {
      handle(await nextRequest(), loop);
      handled++;
    }
  }
}

async function createDevice(
  { module, options, slotsPerQueue, worker }: CreateCommand,
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
    memory: loop.memory,
    slotsPerQueue,
    worker,
    ring: () => loop.useRing(),
    configChanged: () => device !== null && postConfig(device, true),
    resume: (queue) => loop.resume(queue),
    watch: (fd, ready) => loop.watch(fd, ready),
    log: (level, message) => scope.postMessage({ type: "log", level, message }),
  };
  device = await loaded.default(options, context);
  return device;
}

function handle({ id, command }: Request, loop: DataLoop): void {
  try {
    const value = perform(command, loop);
    if (!(value instanceof Promise)) return answer(id, value);
    pending++;
    value.then((result) => answer(id, result), (error) => refuse(id, error))
      .finally(() => pending--);
  } catch (error) {
    refuse(id, error);
  }
}

function perform(command: Command, loop: DataLoop): unknown {
  const device = loop.device;
  switch (command.type) {
    case "create":
      throw new Error("The device was created before");
    case "negotiate":
      return loop.negotiate(command.features);
    case "write-config":
      device.writeConfig?.(command.offset, command.data);
      return postConfig(device, false);
    case "add-region":
      return loop.addRegion(command.region);
    case "remove-region":
      return loop.removeRegion(command.region);
    case "start-ring":
      return loop.startRing(command.ring);
    case "stop-ring":
      return loop.stopRing(command.index);
    case "set-call":
      return loop.setCall(command.index, command.fd);
    case "set-error":
      return loop.setError(command.index, command.fd);
    case "activate":
      return device.activate?.();
    case "deactivate":
      return device.deactivate?.();
    case "reset":
      device.reset?.();
      return postConfig(device, false);
    case "command":
      if (device.command === undefined) {
        throw new Error(`The device knows no command "${command.name}"`);
      }
      return device.command(command.name, command.parameters);
    case "status":
      return status(loop);
    case "close":
      // Whatever goes wrong: nobody could end a Worker that sleeps.
      closed = true;
      try {
        loop.stopRings();
        device.close?.();
      } finally {
        loop[Symbol.dispose]();
      }
      return undefined;
  }
}

function facts(device: VirtioDevice): DeviceFacts {
  const { deviceId, features, queueCount, config } = device;
  return { deviceId, features, queueCount, config: config.slice() };
}

function status(loop: DataLoop): WorkerStatus {
  return {
    rings: Array.from(loop.rings.values(), (ring) => ring.status()),
    device: loop.device.status?.() ?? {},
  };
}

function postConfig(device: VirtioDevice, notify: boolean): void {
  const config = device.config.slice();
  scope.postMessage({ type: "config-changed", config, notify });
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

async function nextRequest(): Promise<Request> {
  while (inbox.length === 0) {
    await new Promise<void>((resolve) => arrived = resolve);
    arrived = null;
  }
  return inbox.shift()!;
}

function macrotask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
