/**
 * The data plane of a device: a Worker that is asked by messages.
 *
 * Theory of operation
 * -------------------
 * A request is posted, counted in shared memory, and the Worker is woken
 * through its control eventfd; the answer carries the request's number. When
 * the Worker fails, every request that waits, and every later one, is refused
 * with the reason: the session drops its front-end, and the host of the device
 * decides what comes next.
 *
 * A front-end can fill the counter of an eventfd that it shares with us, so that
 * the Worker blocks when it notifies. When an answer is late, full counters are
 * emptied, and the Worker goes on.
 *
 * @module
 */

import { EventFd, relieveEventFd } from "../sys/eventfd.ts";
import type {
  DataPlane,
  DataPlaneEvents,
  MappedRegion,
  RingSetup,
} from "../vhost/data_plane.ts";
import {
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import type { LogLevel } from "../virtqueue/device.ts";
import type {
  Command,
  DeviceFacts,
  RegionAddress,
  Request,
  WorkerMessage,
  WorkerStatus,
} from "./worker/messages.ts";

/** Requests that one queue may have in flight. */
const SLOTS_PER_QUEUE = 256;

/** After how long, in ms, an answer is late, and how often it is looked after. */
const LATE = 200;

/** A request that the data Worker refused, or could not take any more. */
export class DeviceError extends Error {
  /** Stable name of the kind of error. */
  readonly kind: string;

  /**
   * @param kind stable name
   * @param message for people
   */
  constructor(kind: string, message: string) {
    super(message);
    this.name = "DeviceError";
    this.kind = kind;
  }
}

/** How to make a {@linkcode WorkerPlane}. */
export interface WorkerPlaneOptions {
  /** URL of the device module. */
  readonly module: string;
  /** Options of the device. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Offer `VIRTIO_F_EVENT_IDX` (default true). */
  readonly eventIdx?: boolean;
  /** Offer `VIRTIO_F_INDIRECT_DESC` (default true). */
  readonly indirect?: boolean;
  /**
   * How long to look at the rings before sleeping: `auto` (default), `off`, or
   * microseconds.
   */
  readonly poll?: "auto" | "off" | number;
  /** Takes the log lines of the device. */
  readonly log: (level: LogLevel, message: string) => void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Descriptors of a ring that runs; -1: none. */
interface Signalled {
  callFd: number;
  errorFd: number;
}

/** A device in a data Worker, as the main thread sees it. */
export class WorkerPlane implements DataPlane {
  /** Told of changes of the configuration space that the driver did not cause. */
  events: DataPlaneEvents | null = null;
  /** Resolves when the Worker failed. */
  readonly failed: Promise<DeviceError>;
  /** Virtio device ID. */
  readonly deviceId: number;
  readonly features: bigint;
  readonly queueCount: number;
  #config: Uint8Array;
  readonly #channel: WorkerChannel;
  /** The descriptors that the Worker may be signalling, by ring. */
  readonly #signalled = new Map<number, Signalled>();

  private constructor(
    channel: WorkerChannel,
    facts: DeviceFacts,
    options: WorkerPlaneOptions,
  ) {
    this.#channel = channel;
    this.failed = channel.failed;
    this.deviceId = facts.deviceId;
    this.features = facts.features | transportFeatures(options);
    this.queueCount = facts.queueCount;
    this.#config = facts.config;
    channel.onConfig = (config, notify) => {
      this.#config = config;
      if (notify) this.events?.configChanged();
    };
    channel.onLate = () => {
      for (const { callFd, errorFd } of this.#signalled.values()) {
        if (callFd >= 0) relieveEventFd(callFd);
        if (errorFd >= 0) relieveEventFd(errorFd);
      }
    };
  }

  /**
   * Starts the Worker and makes the device in it.
   *
   * @throws {DeviceError} when the module or its options are refused
   */
  static async start(options: WorkerPlaneOptions): Promise<WorkerPlane> {
    const channel = new WorkerChannel(options.log);
    try {
      const facts = await channel.request({
        type: "create",
        module: options.module,
        options: options.options,
        slotsPerQueue: SLOTS_PER_QUEUE,
        poll: options.poll ?? "auto",
        controlFd: channel.control.fd,
        posted: channel.posted.buffer as SharedArrayBuffer,
      });
      return new WorkerPlane(channel, facts as DeviceFacts, options);
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  get config(): Uint8Array {
    return this.#config;
  }

  async writeConfig(offset: number, data: Uint8Array): Promise<void> {
    await this.#channel.request({ type: "write-config", offset, data });
  }

  async negotiate(features: bigint): Promise<void> {
    await this.#channel.request({ type: "negotiate", features });
  }

  async addRegion(region: MappedRegion): Promise<void> {
    await this.#channel.request({
      type: "add-region",
      region: addressOf(region),
    });
  }

  async removeRegion(region: MappedRegion): Promise<void> {
    await this.#channel.request({
      type: "remove-region",
      region: addressOf(region),
    });
  }

  async startRing(ring: RingSetup): Promise<void> {
    const { index, callFd, errorFd } = ring;
    this.#signalled.set(index, { callFd, errorFd });
    try {
      await this.#channel.request({ type: "start-ring", ring });
    } catch (error) {
      this.#signalled.delete(index);
      throw error;
    }
  }

  async stopRing(index: number): Promise<number> {
    const position = await this.#channel.request({ type: "stop-ring", index });
    this.#signalled.delete(index);
    return position as number;
  }

  async setCall(index: number, fd: number): Promise<void> {
    await this.#channel.request({ type: "set-call", index, fd });
    const ring = this.#signalled.get(index);
    if (ring !== undefined) ring.callFd = fd;
  }

  async setError(index: number, fd: number): Promise<void> {
    await this.#channel.request({ type: "set-error", index, fd });
    const ring = this.#signalled.get(index);
    if (ring !== undefined) ring.errorFd = fd;
  }

  async reset(): Promise<void> {
    await this.#channel.request({ type: "reset" });
  }

  /** A management command of the device; returns a JSON value. */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    return this.#channel.request({ type: "command", name, parameters });
  }

  /** The rings that run, and what the device says of itself. */
  async status(): Promise<WorkerStatus> {
    return await this.#channel.request({ type: "status" }) as WorkerStatus;
  }

  /** Closes the device and ends the Worker. Idempotent; never rejects. */
  async close(): Promise<void> {
    if (this.#channel.closed) return;
    // A Worker that failed has nothing left to close.
    await this.#channel.request({ type: "close" }).catch(() => {});
    this.#channel.close();
  }
}

/** Requests and answers between the main thread and one data Worker. */
class WorkerChannel {
  readonly control = EventFd.create();
  readonly posted = new Int32Array(new SharedArrayBuffer(4));
  readonly failed: Promise<DeviceError>;
  onConfig: (config: Uint8Array, notify: boolean) => void = () => {};
  /** Called again and again while an answer is late. */
  onLate: () => void = () => {};
  closed = false;
  #failure: DeviceError | null = null;
  #reportFailure!: (error: DeviceError) => void;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();
  readonly #worker: Worker;
  readonly #log: WorkerPlaneOptions["log"];

  constructor(log: WorkerPlaneOptions["log"]) {
    this.#log = log;
    this.failed = new Promise((resolve) => this.#reportFailure = resolve);
    this.#worker = new Worker(
      new URL("./worker/data_worker.ts", import.meta.url),
      { type: "module" },
    );
    this.#worker.onmessage = (event: MessageEvent<WorkerMessage>) =>
      this.#receive(event.data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new DeviceError("worker-failed", event.message));
    };
  }

  request(command: Command): Promise<unknown> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.closed) {
      return Promise.reject(new DeviceError("closed", "The device is closed"));
    }
    const id = this.#nextId++;
    const request: Request = { id, command };
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(request);
      Atomics.add(this.posted, 0, 1);
      this.control.signal();
    });
    const late = setInterval(() => this.onLate(), LATE);
    return answer.finally(() => clearInterval(late));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#worker.terminate();
    this.control.close();
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
        return this.onConfig(message.config, message.notify);
      case "log":
        return this.#log(message.level, message.message);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #fail(error: DeviceError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#reportFailure(error);
  }
}

function transportFeatures(options: WorkerPlaneOptions): bigint {
  const { eventIdx = true, indirect = true } = options;
  let features = bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_F_ANY_LAYOUT);
  if (eventIdx) features |= bit(VIRTIO_F_EVENT_IDX);
  if (indirect) features |= bit(VIRTIO_F_INDIRECT_DESC);
  return features;
}

function bit(number: number): bigint {
  return 1n << BigInt(number);
}

function addressOf(region: MappedRegion): RegionAddress {
  const { guestAddress, size, hostAddress } = region;
  return { guestAddress, size, hostAddress };
}
