/**
 * Keeps the devices of one process served.
 *
 * Theory of operation
 * -------------------
 * A keeper has one process at a time. When that ends although nobody asked for
 * it, the keeper says why in one line, waits as long as the back-off says and
 * until the kernel has ended the requests of the dead (see `remains.ts`), and
 * starts another one on the same sockets. The supervisor's copies of the
 * listening sockets stay open all the time: front-ends that connect meanwhile
 * wait in the backlog. A process that cannot start again is tried again for as
 * long as it takes; the reason is logged when it is a new one. One that neither
 * starts nor ends is waited for, and a {@linkcode StartWatch} says so.
 *
 * A device that was given a connected socket is served once: our copy of the
 * socket is closed as soon as the process has it, so that the front-end sees the
 * end of the process, and there is nothing to start again for that device. When
 * no device is left, the keeper is done.
 *
 * @module
 */

import type { Reactor } from "../../sys/reactor.ts";
import type { DeviceSpec } from "../device_host.ts";
import { HostError, messageOf } from "../error.ts";
import type { Logger } from "../log.ts";
import { START_PATIENCE, StartWatch } from "../start_watch.ts";
import { VERSION } from "../version.ts";
import { Backoff } from "./backoff.ts";
import { type Params, RemoteError } from "./control_channel.ts";
import { DeviceProcess, type ProcessEnd } from "./device_process.ts";
import type { Remains } from "./remains.ts";
import type { DeviceSocket } from "./device_socket.ts";
import {
  type FailedParams,
  type FinishedParams,
  FIRST_SOCKET_FD,
  type KeepParams,
  type MakingParams,
  type StartParams,
  type StartResult,
} from "./protocol.ts";

/** What can be told of the process that serves a device. */
export interface ProcessFacts {
  /**
   * `restarting`: it ended and is being started again; `failed`: that did not
   * succeed so far, or there is nothing to start again.
   */
  readonly state: "running" | "restarting" | "failed";
  /** The process that serves, or `null` where there is none. */
  readonly pid: number | null;
  /** How often it was started again. */
  readonly restarts: number;
  /** Why it ended last, or `null`. */
  readonly lastExit: string | null;
  /** Why it cannot be started again, or has not started yet; or `null`. */
  readonly problem: string | null;
}

/** Limits of a {@linkcode ProcessKeeper}. */
export interface KeeperOptions {
  /** How long a process drains before it gives up, in ms. Default 10,000. */
  readonly drainLimit?: number;
  /** How long a process lives that need not wait to come back. Default 10,000. */
  readonly longLife?: number;
  /** How long a start may take before anybody is told. Default 10,000. */
  readonly startPatience?: number;
}

const DRAIN_LIMIT = 10_000;

/** Keeps one process. */
export class ProcessKeeper {
  /** The devices of the process. */
  readonly sockets: readonly DeviceSocket[];
  /** Resolves when no device is left to serve, or after {@linkcode stop}. */
  readonly done: Promise<void>;
  #finish!: () => void;
  readonly #log: Logger;
  readonly #reactor: Reactor;
  readonly #drainLimit: number;
  readonly #startPatience: number | undefined;
  readonly #backoff: Backoff;
  #process: DeviceProcess | null = null;
  /** Of the process that is, or was last. */
  #remains: Remains | null = null;
  /** While the process starts. */
  #start: StartWatch | null = null;
  #state: ProcessFacts["state"] = "running";
  #restarts = 0;
  #lastExit: string | null = null;
  #problem: string | null = null;
  #stopping = false;
  #clean = true;
  #wake = (): void => {};

  /**
   * @param name of the process, `null` for that of one device
   * @param sockets the devices
   * @param options the limits
   */
  constructor(
    name: string | null,
    sockets: readonly DeviceSocket[],
    log: Logger,
    reactor: Reactor,
    options: KeeperOptions,
  ) {
    this.sockets = sockets;
    this.#drainLimit = options.drainLimit ?? DRAIN_LIMIT;
    this.#startPatience = options.startPatience;
    this.#backoff = new Backoff(options.longLife);
    this.done = new Promise((resolve) => this.#finish = resolve);
    this.#reactor = reactor;
    this.#log = log.child(
      name === null ? { device: sockets[0].name } : { process: name },
    );
  }

  /** What can be told of the process. */
  get facts(): ProcessFacts {
    return {
      state: this.#state,
      pid: this.#state === "running" ? this.#process?.pid ?? null : null,
      restarts: this.#restarts,
      lastExit: this.#lastExit,
      problem: this.#start?.problem ?? this.#problem,
    };
  }

  /**
   * Starts the process for the first time, and keeps it from then on.
   *
   * @returns the status of each device
   * @throws {RemoteError} when a device refuses
   * @throws {HostError} of kind `device` when the process dies
   */
  async start(): Promise<StartResult> {
    const [process, status] = await this.#launch();
    void this.#keep(process);
    return status;
  }

  /** Calls a method of the process. */
  async call(method: string, params: Params): Promise<unknown> {
    const process = this.#process;
    if (process !== null && this.#state === "running") {
      return await process.channel.call(method, params);
    }
    const reason = this.facts.problem ?? this.#lastExit;
    throw new HostError("device", `It is not served at present: ${reason}`);
  }

  /**
   * Drains and ends the process. Idempotent.
   *
   * @returns whether it ended as it should
   */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    this.#wake();
    this.#remains?.[Symbol.dispose]();
    const process = this.#process;
    process?.stop();
    const end = await process?.ended;
    if (end !== undefined) this.#judge(end);
    this.#finish();
    return this.#clean;
  }

  /** Ends the process at once, for good. */
  kill(): void {
    this.#stopping = true;
    this.#wake();
    this.#remains?.[Symbol.dispose]();
    this.#process?.kill();
  }

  #judge(end: ProcessEnd): void {
    if (end.code === 0 || !this.#clean) return;
    this.#clean = false;
    this.#log.error(`Cannot stop cleanly: ${end.cause}`);
  }

  async #keep(first: DeviceProcess): Promise<void> {
    let process: DeviceProcess | null = first;
    while (process !== null) {
      const since = performance.now();
      const end: ProcessEnd = await process.ended;
      this.#process = null;
      if (this.#stopping) break;
      this.#backoff.lived(performance.now() - since);
      for (const socket of this.sockets) socket.processEnded();
      const left = this.sockets.some((socket) => socket.state === "open");
      const delay = left ? this.#backoff.next() : null;
      if (left || end.code !== 0) this.#report(process, end, delay);
      process = delay === null ? null : await this.#again(delay);
    }
    this.#finish();
  }

  #report(
    { pid }: DeviceProcess,
    { cause }: ProcessEnd,
    delay: number | null,
  ): void {
    this.#lastExit = cause;
    this.#state = delay === null ? "failed" : "restarting";
    const next = delay === null
      ? "its front-end cannot come back"
      : `starting it again${delay === 0 ? "" : ` in ${delay / 1000} s`}`;
    this.#log.error(`The device process died: ${cause}; ${next}`, { pid });
  }

  /** Starts the process until that succeeds; `null` when it is to stop. */
  async #again(delay: number): Promise<DeviceProcess | null> {
    for (;; delay = this.#backoff.next()) {
      await this.#pause(delay);
      if (this.#stopping) return null;
      this.#restarts++;
      try {
        const [process] = await this.#launch();
        this.#log.info("Served again", { pid: process.pid });
        return process;
      } catch (error) {
        if (this.#stopping) return null;
        this.#refused(messageOf(error));
      }
    }
  }

  /** Waits until the kernel has ended the requests of the process that died. */
  async #outlast(remains: Remains | null): Promise<void> {
    const timer = setTimeout(() => {
      this.#problem = "the kernel has not ended the requests of the process " +
        "that died: its storage does not answer";
      this.#log.warn(`Waiting on: ${this.#problem}`);
    }, this.#startPatience ?? START_PATIENCE);
    await remains?.gone;
    clearTimeout(timer);
  }

  #refused(problem: string): void {
    const level = problem === this.#problem ? "debug" : "error";
    this.#log.log(level, `Cannot serve it again: ${problem}; trying on`);
    this.#problem = problem;
    this.#state = "failed";
  }

  async #pause(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Starts a process and makes it serve. */
  async #launch(): Promise<[DeviceProcess, StartResult]> {
    const sockets = this.sockets.filter(({ state }) => state === "open");
    const others: number[] = [], firstOther = FIRST_SOCKET_FD + sockets.length;
    const devices = sockets.map(({ spec, keptFd }, i) => ({
      ...spec,
      options: handOn(spec, firstOther, others),
      socket: undefined,
      fd: FIRST_SOCKET_FD + i,
      keptFd: firstOther + others.push(keptFd) - 1,
    }));
    const process = DeviceProcess.start(
      sockets,
      others,
      {
        finished: (params) =>
          this.#finished(params as unknown as FinishedParams),
        failed: (params) => this.#failed(params as unknown as FailedParams),
        keep: (params) => this.#keepValue(params as unknown as KeepParams),
        making: (params) => {
          const { device, waitsFor } = params as unknown as MakingParams;
          start.making(device, waitsFor);
        },
      },
      this.#log,
      this.#reactor,
      this.#drainLimit,
    );
    this.#process = process;
    // The process gets ready meanwhile.
    await this.#outlast(this.#remains);
    this.#remains = process.remains;
    if (this.#stopping) {
      this.#remains[Symbol.dispose]();
      await process.ended;
      throw new HostError("device", "It is being stopped");
    }
    using start = new StartWatch(
      sockets.map(({ name }) => name),
      process.pid,
      this.#log,
      this.#startPatience,
    );
    this.#start = start;
    for (const socket of sockets) socket.handedOn();
    const params: StartParams = {
      version: VERSION,
      logLevel: this.#log.level,
      logFormat: this.#log.format,
      drainLimit: this.#drainLimit,
      devices,
    };
    try {
      const status = await process.channel.call("start", { ...params });
      start.started();
      this.#state = "running";
      this.#problem = null;
      return [process, status as StartResult];
    } catch (error) {
      const { cause } = await process.ended;
      this.#process = null;
      if (!(error instanceof RemoteError) || error.kind !== "ended") {
        throw error;
      }
      const names = sockets.map(({ name }) => `"${name}"`).join(", ");
      throw new HostError(
        "device",
        `Cannot serve ${names}: the device process died: ${cause}`,
      );
    } finally {
      this.#start = null;
    }
  }

  #finished({ device, dropped }: FinishedParams): void {
    this.sockets.find(({ name }) => name === device)?.finished(dropped);
  }

  #keepValue({ device, value }: KeepParams): void {
    const socket = this.sockets.find(({ name }) => name === device);
    if (socket !== undefined) socket.spec = { ...socket.spec, kept: value };
  }

  #failed({ device, message }: FailedParams): void {
    const process = this.#process;
    if (process !== null) {
      process.problem ??= `device "${device}" failed: ${message}`;
    }
  }
}

/**
 * The options of a device as its process has them, where descriptors have other
 * numbers.
 *
 * @param first number of the first of all descriptors that are handed on
 * @param fds takes ours, in order
 */
function handOn(
  { options, descriptors = [] }: DeviceSpec,
  first: number,
  fds: number[],
): DeviceSpec["options"] {
  const theirs: Record<string, unknown> = { ...options };
  for (const key of descriptors) {
    const fd = options[key];
    if (typeof fd === "number") theirs[key] = first + fds.push(fd) - 1;
  }
  return theirs;
}
