/**
 * The supervisor: owns the sockets of all devices and a process for each group
 * of them, and serves no ring.
 *
 * Theory of operation
 * -------------------
 * Sockets are opened first, here, so that they outlive every process. Then all
 * processes start at the same time. When one device cannot be served, nothing
 * is: that is for whoever calls to decide, by {@linkcode Supervisor.stop}. From
 * then on each {@linkcode ProcessKeeper} looks after its own process; one that
 * dies concerns nobody else.
 *
 * No descriptor is inheritable in this process: `posix_spawn` duplicates those
 * that a child is to have, and those that we inherited ourselves are made
 * close-on-exec before anything starts.
 *
 * @module
 */

import { processMemory } from "../../sys/process.ts";
import type { Reactor } from "../../sys/reactor.ts";
import { closeAllOnExec } from "../../sys/spawn.ts";
import type { Logger } from "../log.ts";
import { toldStatus, UNTOLD } from "../management/told_status.ts";
import { SharedQuestion } from "../shared_question.ts";
import { DeviceSocket } from "./device_socket.ts";
import { type KeeperOptions, ProcessKeeper } from "./process_keeper.ts";
import type { DeviceSpec } from "../device_host.ts";

/** Options of a {@linkcode Supervisor}. */
export interface SupervisorOptions extends KeeperOptions {
  /** How long a process may take to tell its status, in ms. Default 5,000. */
  readonly statusLimit?: number;
}

/** A device, and the process that is to serve it. */
export interface SupervisedSpec {
  /** The device. */
  readonly spec: DeviceSpec;
  /** Name of a process that several devices share; `null`: one of its own. */
  readonly process: string | null;
}

/** Serves devices in processes of their own. */
export class Supervisor {
  /** The devices, in their order. */
  readonly devices: readonly SupervisedDevice[];
  /** Resolves when no device is left to serve. */
  readonly done: Promise<void>;
  readonly #keepers: readonly ProcessKeeper[];
  readonly #sockets: readonly DeviceSocket[];

  /**
   * Opens the sockets; no process runs yet.
   *
   * @throws {SystemError} when a socket cannot be had; none is left open then
   */
  constructor(
    specs: readonly SupervisedSpec[],
    log: Logger,
    reactor: Reactor,
    options: SupervisorOptions = {},
  ) {
    closeAllOnExec();
    this.#sockets = openAll(specs);
    const groups = Map.groupBy(
      specs.keys(),
      (i) => specs[i].process ?? i,
    );
    this.#keepers = Array.from(groups, ([name, members]) =>
      new ProcessKeeper(
        typeof name === "string" ? name : null,
        members.map((i) => this.#sockets[i]),
        log,
        reactor,
        options,
      ));
    this.devices = specs.map(({ process }, i) => {
      const socket = this.#sockets[i];
      const keeper = this.#keepers.find((each) =>
        each.sockets.includes(socket)
      )!;
      return new SupervisedDevice(
        socket,
        keeper,
        process,
        options.statusLimit,
      );
    });
    this.done = Promise.all(this.#keepers.map(({ done }) => done))
      .then(() => {});
  }

  /**
   * Whether a connected socket came to a bad end: its process died, or its
   * front-end broke the protocol.
   */
  get lost(): boolean {
    return this.#sockets.some(({ state }) =>
      state === "lost" || state === "dropped"
    );
  }

  /**
   * Starts all processes.
   *
   * @returns the status of each device, in their order
   * @throws {RemoteError} when a device refuses; the first one in their order
   * @throws {HostError} of kind `device` when a process dies while it starts
   */
  async start(): Promise<Record<string, unknown>[]> {
    const results = await Promise.allSettled(
      this.#keepers.map((keeper) => keeper.start()),
    );
    const status = new Map<DeviceSocket, Record<string, unknown>>();
    for (const [i, result] of results.entries()) {
      if (result.status === "rejected") throw result.reason;
      const { sockets } = this.#keepers[i];
      sockets.forEach((socket, j) => status.set(socket, result.value[j]));
    }
    return this.#sockets.map((socket) => status.get(socket)!);
  }

  /**
   * Removes the sockets, drains and ends all processes.
   *
   * @returns whether all ended as they should
   */
  async stop(): Promise<boolean> {
    for (const socket of this.#sockets) socket[Symbol.dispose]();
    const clean = await Promise.all(
      this.#keepers.map((keeper) => keeper.stop()),
    );
    return clean.every((each) => each);
  }

  /** Removes the sockets, and ends all processes at once. */
  kill(): void {
    for (const socket of this.#sockets) socket[Symbol.dispose]();
    for (const keeper of this.#keepers) keeper.kill();
  }
}

/** A device in another process, as management sees it. */
export class SupervisedDevice {
  readonly #socket: DeviceSocket;
  readonly #keeper: ProcessKeeper;
  readonly #process: string | null;
  readonly #statusLimit: number | undefined;
  readonly #told: SharedQuestion<unknown>;

  /** Made by {@linkcode Supervisor}. */
  constructor(
    socket: DeviceSocket,
    keeper: ProcessKeeper,
    process: string | null,
    statusLimit: number | undefined,
  ) {
    this.#statusLimit = statusLimit;
    this.#socket = socket;
    this.#keeper = keeper;
    this.#process = process;
    this.#told = new SharedQuestion(() =>
      keeper.call("status", { device: socket.name })
    );
  }

  /** Its name. */
  get name(): string {
    return this.#socket.name;
  }

  /** Name of its type. */
  get type(): string {
    return this.#socket.spec.type;
  }

  /** Name of the process that it shares with others, or `null`. */
  get process(): string | null {
    return this.#process;
  }

  /** Changes the options with which the device is started again. */
  amend(
    change: (options: DeviceSpec["options"]) => DeviceSpec["options"],
  ): void {
    const { spec } = this.#socket;
    this.#socket.spec = { ...spec, options: change(spec.options) };
  }

  /** Facts and counters: a JSON object. */
  async status(): Promise<Record<string, unknown>> {
    const { name, type, socket = null } = this.#socket.spec;
    const told = this.#keeper.facts.state === "running"
      ? await toldStatus(this.#told, this.#statusLimit)
      : UNTOLD;
    const { problem, ...facts } = this.#keeper.facts;
    return {
      ...told,
      name,
      type,
      socket,
      process: this.#process,
      ...facts,
      problem: problem ?? told.problem,
      rss: facts.pid === null ? null : processMemory(facts.pid),
    };
  }

  /** A command of the device; returns a JSON value. */
  command(
    name: string,
    params: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    const { name: device } = this.#socket;
    return this.#keeper.call("command", { device, name, params });
  }
}

function openAll(specs: readonly SupervisedSpec[]): DeviceSocket[] {
  using opened = new DisposableStack();
  const sockets = specs.map(({ spec }) => opened.use(DeviceSocket.open(spec)));
  opened.move();
  return sockets;
}
