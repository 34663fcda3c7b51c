/**
 * Requests and answers between the main thread and data Workers.
 *
 * Theory of operation
 * -------------------
 * A {@linkcode DataWorker} is a thread, a {@linkcode WorkerChannel} one device in
 * it. A request is posted, counted in shared memory, and the Worker is woken
 * through its control eventfd; the answer carries the request's number. When
 * the Worker fails, every request that waits, and every later one, is refused
 * with the reason: the sessions drop their front-ends, and the hosts of the
 * devices decide what comes next.
 *
 * A thread can be kept by what it waits for: an eventfd of a front-end's that is
 * full. While an answer is late, devices are asked again and again to look for that;
 * and where several share a Worker also while its pulse stands still, since nobody
 * may be asking, and others wait.
 *
 * Devices that share state (the ports of a switch, SCSI hosts with a common disk)
 * live in one Worker: they name a group, and a {@linkcode WorkerPool} knows the
 * Worker of each. It lives from its first device to its last.
 *
 * @module
 */

import { EventFd } from "../../sys/eventfd.ts";
import type { LogLevel } from "../../virtqueue/device.ts";
import {
  type Begin,
  type Command,
  PULSE,
  type Request,
  type WorkerMessage,
} from "./messages.ts";

/** After how long, in ms, an answer is late, and how often it is looked after. */
const LATE = 200;

/** How often, in ms, the pulse of a Worker that devices share is looked at. */
const PULSE_LOOK = 250;

/** A request that the data Worker refused, or could not take any more. */
export class DeviceError extends Error {
  /** Stable name of the kind of error. */
  readonly kind: string;

  /**
   * Makes an error.
   *
   * @param kind stable name
   * @param message for people
   */
  constructor(kind: string, message: string) {
    super(message);
    this.name = "DeviceError";
    this.kind = kind;
  }
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A data Worker, as the main thread talks to it. */
export class DataWorker {
  /** Resolves when the Worker failed. */
  readonly failed: Promise<DeviceError>;
  readonly #control: EventFd = EventFd.create();
  readonly #posted = new Int32Array(new SharedArrayBuffer(8));
  readonly #channels = new Map<number, WorkerChannel>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #worker: Worker;
  readonly #ended: () => void;
  #reportFailure!: (error: DeviceError) => void;
  #failure: DeviceError | null = null;
  /** While an answer is awaited. */
  #late: ReturnType<typeof setInterval> | undefined;
  /** While several devices are here. */
  #watch: ReturnType<typeof setInterval> | undefined;
  #nextId = 1;
  #nextDevice = 0;
  #closed = false;

  /**
   * Starts a thread.
   *
   * @param poll how long to look at rings before sleeping
   * @param remainsFd see {@linkcode WorkerPool}
   * @param ended called when it is about to end: it takes no more devices
   */
  constructor(
    poll: "auto" | "off" | number,
    remainsFd: number,
    ended: () => void = () => {},
  ) {
    this.#ended = ended;
    this.failed = new Promise((resolve) => this.#reportFailure = resolve);
    this.#worker = new Worker(
      new URL("./data_worker.ts", import.meta.url),
      { type: "module" },
    );
    this.#worker.onmessage = (event: MessageEvent<WorkerMessage>) =>
      this.#receive(event.data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new DeviceError("worker-failed", event.message));
    };
    const begin: Begin = {
      controlFd: this.#control.fd,
      posted: this.#posted.buffer,
      poll,
      remainsFd,
    };
    this.#worker.postMessage(begin);
  }

  /** A channel for one more device. */
  open(log: (level: LogLevel, message: string) => void): WorkerChannel {
    const device = this.#nextDevice++;
    const channel: WorkerChannel = new WorkerChannel(this, device, log);
    this.#channels.set(device, channel);
    this.#watchPulse();
    return channel;
  }

  /** See {@linkcode WorkerChannel.request}. */
  request(device: number, command: Command): Promise<unknown> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const request: Request = { id, device, command };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(request);
      Atomics.add(this.#posted, 0, 1);
      this.#control.signal();
      this.#late ??= setInterval(() => this.#isLate(), LATE);
    });
  }

  /** A device is closed, or could not be made: the last one ends the thread. */
  async leave(device: number): Promise<void> {
    this.#channels.delete(device);
    this.#watchPulse();
    if (this.#channels.size > 0 || this.#closed) return;
    this.#closed = true;
    this.#ended();
    // A Worker that sleeps ends by its own hand only; one that failed has ended.
    await this.request(device, { type: "end" }).catch(() => {});
    this.#worker.terminate();
    this.#control.close();
  }

  #receive(message: WorkerMessage): void {
    switch (message.type) {
      case "answer":
        return this.#take(message.id)?.resolve(message.value);
      case "refusal":
        return this.#take(message.id)?.reject(
          new DeviceError(message.kind, message.message),
        );
      case "config-changed":
        return this.#channels.get(message.device)
          ?.onConfig(message.config, message.notify);
      case "loan-over":
        return this.#channels.get(message.device)?.onLoanOver();
      case "keep":
        return void this.#channels.get(message.device)
          ?.keep(message.told, message.value);
      case "waits-for":
        return this.#channels.get(message.device)?.onWaitsFor(message.what);
      case "tell":
        return this.#channels.get(message.device)
          ?.onTell(message.told, message.value);
      case "log":
        return this.#channels.get(message.device)
          ?.log(message.level, message.message);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#nothingIsLate();
    return waiting;
  }

  /** Whatever it is that the thread waits for. */
  #isLate(): void {
    const shared = this.#channels.size > 1;
    for (const channel of this.#channels.values()) channel.onLate(shared);
  }

  #watchPulse(): void {
    const shared = this.#channels.size > 1 && this.#failure === null;
    if (shared === (this.#watch !== undefined)) return;
    clearInterval(this.#watch);
    this.#watch = undefined;
    if (!shared) return;
    let before = 0;
    this.#watch = setInterval(() => {
      const pulse = Atomics.load(this.#posted, PULSE);
      if (pulse !== 0 && pulse === before) this.#isLate();
      before = pulse;
    }, PULSE_LOOK);
    Deno.unrefTimer(this.#watch);
  }

  #nothingIsLate(): void {
    clearInterval(this.#late);
    this.#late = undefined;
  }

  #fail(error: DeviceError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#ended();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#nothingIsLate();
    this.#watchPulse();
    this.#reportFailure(error);
  }
}

/** One device in a data Worker, as the main thread talks to it. */
export class WorkerChannel {
  /** Called when the configuration space changed. */
  onConfig: (config: Uint8Array, notify: boolean) => void = () => {};
  /** Called when a connection that was lent is not used any more. */
  onLoanOver: () => void = () => {};
  /** Called with what the device keeps for a successor; resolves when it is. */
  onKeep: (value: unknown) => void | Promise<void> = () => {};
  /** Called with what the device waits for while it is made. */
  onWaitsFor: (what: string) => void = () => {};
  /** Called with what the device has for its objects in other Workers. */
  onTell: (told: number, value: unknown) => void = () => {};
  /**
   * Called again and again while an answer of the thread is late, or it is kept from
   * going on; with whether it has other devices, too.
   */
  onLate: (shared: boolean) => void = () => {};
  /** The device has left the Worker. */
  closed = false;
  readonly #worker: DataWorker;
  readonly #device: number;

  /** Made by {@linkcode DataWorker.open}. */
  constructor(
    worker: DataWorker,
    device: number,
    readonly log: (level: LogLevel, message: string) => void,
  ) {
    this.#worker = worker;
    this.#device = device;
  }

  /** Resolves when the Worker failed. */
  get failed(): Promise<DeviceError> {
    return this.#worker.failed;
  }

  /** Asks the device; its answer. Rejects with a {@linkcode DeviceError}. */
  request(command: Command): Promise<unknown> {
    if (this.closed) {
      return Promise.reject(new DeviceError("closed", "The device is closed"));
    }
    return this.#worker.request(this.#device, command);
  }

  /** Keeps a value, and tells the device so if it wants to know. */
  async keep(told: number | null, value: unknown): Promise<void> {
    await this.onKeep(value);
    // A device that is closed waits for nothing.
    if (told !== null) {
      await this.request({ type: "heard", told }).catch(() => {});
    }
  }

  /** Forgets a device that was closed, or could not be made. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.#worker.leave(this.#device);
  }
}

/** The Workers of a process, by the group of devices that each is for. */
export class WorkerPool {
  readonly #groups = new Map<string, DataWorker>();
  readonly #remainsFd: number;

  /**
   * @param remainsFd a descriptor that the kernel is to keep open until the
   * requests of all Workers' rings have ended (default: none)
   */
  constructor(remainsFd: number = -1) {
    this.#remainsFd = remainsFd;
  }

  /**
   * The Worker of a group, started if need be; one of its own without a group.
   *
   * @param poll how long to look at rings before sleeping; the first device of
   * a group decides
   */
  acquire(group: string | null, poll: "auto" | "off" | number): DataWorker {
    if (group === null) return new DataWorker(poll, this.#remainsFd);
    const known = this.#groups.get(group);
    if (known !== undefined) return known;
    const worker: DataWorker = new DataWorker(poll, this.#remainsFd, () => {
      if (this.#groups.get(group) === worker) this.#groups.delete(group);
    });
    this.#groups.set(group, worker);
    return worker;
  }
}
