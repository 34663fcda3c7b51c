/**
 * The data plane of a device: one Worker or several, asked by messages.
 *
 * Theory of operation
 * -------------------
 * Every Worker has a device object of its own over the same options; rings are
 * dealt out by index, those together that belong together. What one object tells
 * the others (a network driver's commands, say) goes by way of this thread. What
 * concerns the device as a whole (memory, features, configuration, reset,
 * commands) is told to all Workers, one after the other, the first one first; it
 * is the one that is asked about the configuration. The devices are activated,
 * all of them, before the first ring runs on any, and deactivated, the first one
 * last, when the last ring has stopped, unless it is about to start again: nobody
 * else is to take the lock of a disk between the two.
 *
 * Words of the configuration space that a device only looks up lie in memory
 * that all threads share, and are written here: a Worker that is woken for each
 * of them costs more than what they are about. Where a driver writes and reads
 * them between its requests, the Worker answers the front-end itself
 * ({@linkcode WorkerPlane.configDelegate}).
 *
 * @module
 */

import { ignoreFileSizeSignal } from "../sys/process.ts";
import type {
  ConfigDelegate,
  DataPlane,
  DataPlaneEvents,
  MappedLog,
  MappedRegion,
  RingSetup,
} from "../vhost/data_plane.ts";
import {
  featureMask,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import { writeWords } from "../virtqueue/config_words.ts";
import type { LogLevel } from "../virtqueue/device.ts";
import { WorkerConfigDelegate } from "./config_delegate.ts";
import { LOCK_PATIENCE, LockPatience } from "./lock_patience.ts";
import { SharedQuestion } from "./shared_question.ts";
import { Signalled } from "./signalled.ts";
import {
  type DeviceError,
  type WorkerChannel,
  WorkerPool,
} from "./worker/channel.ts";
import type {
  Command,
  DeviceFacts,
  RegionAddress,
  WorkerStatus,
} from "./worker/messages.ts";

export { DeviceError, WorkerPool } from "./worker/channel.ts";

/** Requests that one queue may have in flight. */
const SLOTS_PER_QUEUE = 256;

/** How to make a {@linkcode WorkerPlane}. */
export interface WorkerPlaneOptions {
  /** URL of the device module. */
  readonly module: string;
  /** Options of the device. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Number of Workers that share the rings (default 1). */
  readonly workers?: number;
  /** Offer `VIRTIO_F_EVENT_IDX` (default true). */
  readonly eventIdx?: boolean;
  /** Offer `VIRTIO_F_INDIRECT_DESC` (default true). */
  readonly indirect?: boolean;
  /** Offer `VIRTIO_F_RING_PACKED` (default true). */
  readonly packed?: boolean;
  /** Offer `VIRTIO_F_IN_ORDER` (default true). */
  readonly inOrder?: boolean;
  /**
   * How long to look at the rings before sleeping: `auto` (default), `off`, or
   * microseconds.
   */
  readonly poll?: "auto" | "off" | number;
  /** Where Workers of groups are known (default: one of its own). */
  readonly pool?: WorkerPool;
  /**
   * Name of a group of devices that share one Worker; `null` (default): the
   * device has Workers of its own.
   */
  readonly group?: string | null;
  /**
   * How long (ms) a lock is waited for that a predecessor may still hold (default
   * {@linkcode LOCK_PATIENCE}).
   */
  readonly lockPatience?: number;
  /** What the device's predecessor kept for it. */
  readonly kept?: unknown;
  /** Takes what the device keeps for a successor; resolves when it would have it. */
  readonly onKeep?: (value: unknown) => void | Promise<void>;
  /** Takes what the device waits for while it is made. */
  readonly onWaitsFor?: (what: string) => void;
  /** Takes the log lines of the device. */
  readonly log: (level: LogLevel, message: string) => void;
}

/** A device in data Workers, as the main thread sees it. */
export class WorkerPlane implements DataPlane {
  /** Whether the front-end is still there: nothing is waited for without it. */
  frontEndPresent: () => boolean = () => true;
  /** Told of changes of the configuration space that the driver did not cause. */
  events: DataPlaneEvents | null = null;
  /** Resolves when a Worker failed. */
  readonly failed: Promise<DeviceError>;
  /** Virtio device ID. */
  readonly deviceId: number;
  readonly features: bigint;
  readonly queueCount: number;
  readonly configDelegate: ConfigDelegate | null;
  #config: Uint8Array;
  readonly #driverWords: readonly number[] | null;
  readonly #channels: readonly WorkerChannel[];
  /** Adjacent queues that one Worker serves. */
  readonly #adjacent: number;
  readonly #signalled: Signalled;
  /** The devices are activated. */
  #active = false;
  /** Rings that stop are going to start again. */
  #restarting = false;
  readonly #patience: LockPatience;
  readonly #status = new SharedQuestion(() => this.#askStatus());

  private constructor(
    channels: readonly WorkerChannel[],
    facts: DeviceFacts,
    options: WorkerPlaneOptions,
  ) {
    this.#channels = channels;
    this.failed = Promise.race(channels.map((channel) => channel.failed));
    this.deviceId = facts.deviceId;
    this.features = facts.features | transportFeatures(options);
    this.queueCount = facts.queueCount;
    this.#adjacent = facts.adjacentQueues;
    this.#config = facts.config;
    this.#driverWords = facts.driverWords;
    this.#signalled = new Signalled(
      (type, index) =>
        type === "set-log-fd"
          ? this.#tellAll({ type, fd: -1 })
          : this.#workerOf(index).request({ type, index, fd: -1 }),
      options.log,
    );
    this.configDelegate = facts.driverWords === null
      ? null
      : new WorkerConfigDelegate(channels[0]);
    this.#patience = new LockPatience(
      options.lockPatience ?? LOCK_PATIENCE,
      (reason) =>
        options.log(
          "info",
          `Waits for a process that may be ending: ${reason}`,
        ),
    );
    channels[0].onConfig = (config, notify) => {
      this.#config = config;
      if (notify) this.events?.configChanged();
    };
    for (const channel of channels) {
      channel.onLate = (shared) => this.#signalled.relieve(shared);
      channel.onTell = (told, value) => void this.#pass(channel, told, value);
    }
  }

  /**
   * Starts the Workers and makes the device in each.
   *
   * @throws {DeviceError} when the module or its options are refused
   */
  static async start(options: WorkerPlaneOptions): Promise<WorkerPlane> {
    ignoreFileSizeSignal();
    const { pool = new WorkerPool(), group = null, workers = 1 } = options;
    if (group !== null && workers !== 1) {
      throw new TypeError(
        `A device of the group "${group}" has one Worker, not ${workers}`,
      );
    }
    const channels: WorkerChannel[] = [];
    let facts: DeviceFacts | null = null;
    let made = 0;
    try {
      for (let worker = 0; worker < workers; worker++) {
        const thread = pool.acquire(group, options.poll ?? "auto");
        const channel = thread.open(options.log);
        if (worker === 0 && options.onKeep) channel.onKeep = options.onKeep;
        if (options.onWaitsFor) channel.onWaitsFor = options.onWaitsFor;
        channels.push(channel);
        const answer = await channel.request({
          type: "create",
          worker,
          module: options.module,
          options: options.options,
          slotsPerQueue: SLOTS_PER_QUEUE,
          workers,
          kept: options.kept,
        });
        facts ??= answer as DeviceFacts;
        made++;
        if (facts.driverWords !== null && workers !== 1) {
          throw new TypeError(
            `A device that shares words of its configuration space has one Worker, not ${workers}`,
          );
        }
      }
      return new WorkerPlane(channels, facts!, options);
    } catch (error) {
      await closeAll(channels.slice(0, made));
      for (const channel of channels) await channel.close();
      throw error;
    }
  }

  get config(): Uint8Array {
    return this.#config;
  }

  async writeConfig(offset: number, data: Uint8Array): Promise<void> {
    if (this.#driverWords === null) {
      await this.#tellAll({ type: "write-config", offset, data });
    } else writeWords(this.#config, this.#driverWords, offset, data);
  }

  async negotiate(features: bigint): Promise<void> {
    await this.#tellAll({ type: "negotiate", features });
  }

  async addRegion(region: MappedRegion): Promise<void> {
    const command: Command = { type: "add-region", region: addressOf(region) };
    const told: WorkerChannel[] = [];
    try {
      for (const channel of this.#channels) {
        await channel.request(command);
        told.push(channel);
      }
    } catch (error) {
      for (const channel of told) {
        await channel.request({ ...command, type: "remove-region" });
      }
      throw error;
    }
  }

  async removeRegion(region: MappedRegion): Promise<void> {
    await this.#tellAll({ type: "remove-region", region: addressOf(region) });
  }

  async startRing(ring: RingSetup): Promise<void> {
    const { index, callFd, errorFd } = ring;
    if (!this.#active) {
      await this.#patience.outlast(
        () => this.#activate(),
        () => this.frontEndPresent(),
      );
      this.#active = true;
    }
    this.#signalled.rings.set(index, { callFd, nextCallFd: -1, errorFd });
    try {
      await this.#workerOf(index).request({ type: "start-ring", ring });
    } catch (error) {
      this.#signalled.rings.delete(index);
      await this.#rest();
      throw error;
    }
  }

  async stopRing(index: number, suspend = false): Promise<number> {
    const position = await this.#workerOf(index)
      .request({ type: "stop-ring", index, suspend });
    this.#signalled.rings.delete(index);
    await this.#rest();
    return position as number;
  }

  async restart(work: () => Promise<void>): Promise<void> {
    this.#restarting = true;
    try {
      await work();
    } finally {
      this.#restarting = false;
      await this.#rest();
    }
  }

  async setCall(index: number, fd: number): Promise<void> {
    const ring = this.#signalled.rings.get(index);
    // Until it is answered, the Worker may be signalling either of them.
    if (ring !== undefined) ring.nextCallFd = fd;
    await this.#workerOf(index).request({ type: "set-call", index, fd });
    if (ring === undefined) return;
    ring.callFd = fd;
    ring.nextCallFd = -1;
  }

  async setError(index: number, fd: number): Promise<void> {
    await this.#workerOf(index).request({ type: "set-error", index, fd });
    const ring = this.#signalled.rings.get(index);
    if (ring !== undefined) ring.errorFd = fd;
  }

  async logWrites(log: MappedLog | null): Promise<void> {
    const area = log && { address: log.address, size: log.size };
    await this.#tellAll({ type: "log-writes", log: area });
  }

  async setUsedLog(index: number, address: number): Promise<void> {
    await this.#workerOf(index)
      .request({ type: "set-used-log", index, address });
  }

  async setLogFd(fd: number): Promise<void> {
    // Until it is answered, a Worker may be signalling either of them.
    this.#signalled.logFds.push(fd);
    await this.#tellAll({ type: "set-log-fd", fd });
    this.#signalled.logFds = [fd];
  }

  async reset(): Promise<void> {
    await this.#tellAll({ type: "reset" });
  }

  /**
   * A management command of the device; returns a JSON value. The first Worker
   * comes last: when it tells the driver of a change, all have made it.
   */
  async command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    let answer: unknown;
    for (const channel of this.#channels.toReversed()) {
      answer = await channel.request({ type: "command", name, parameters });
    }
    return answer;
  }

  /**
   * The rings that run, and what the device says of itself. With several Workers
   * `device.workers` has what each of them says. A Worker is asked once at a time,
   * for all who want to know.
   */
  status(): Promise<WorkerStatus> {
    return this.#status.ask();
  }

  async #askStatus(): Promise<WorkerStatus> {
    const all: WorkerStatus[] = [];
    for (const channel of this.#channels) {
      all.push(await channel.request({ type: "status" }) as WorkerStatus);
    }
    const rings = all.flatMap((status) => status.rings)
      .toSorted((a, b) => a.index - b.index);
    const missedWakeUps = Math.max(...all.map((each) => each.missedWakeUps));
    const [{ device }] = all;
    return all.length === 1 ? all[0] : {
      rings,
      missedWakeUps,
      device: { ...device, workers: all.map((status) => status.device) },
    };
  }

  /** The device is about to be closed: nothing is waited for any more. */
  hurry(): void {
    this.#patience.end();
  }

  /** Closes the device and ends the Workers. Idempotent; never rejects. */
  async close(): Promise<void> {
    await closeAll(this.#channels);
  }

  /** Asks all Workers; the answer of the first. */
  async #tellAll(command: Command): Promise<unknown> {
    const answers: unknown[] = [];
    for (const channel of this.#channels) {
      answers.push(await channel.request(command));
    }
    return answers[0];
  }

  async #activate(): Promise<void> {
    const active: WorkerChannel[] = [];
    try {
      for (const channel of this.#channels) {
        await channel.request({ type: "activate" });
        active.push(channel);
      }
    } catch (error) {
      for (const channel of active.reverse()) {
        await channel.request({ type: "deactivate" });
      }
      throw error;
    }
  }

  /** Deactivates the devices when no ring runs, nor is about to. */
  async #rest(): Promise<void> {
    const runs = this.#restarting || this.#signalled.rings.size > 0;
    if (runs || !this.#active) return;
    this.#active = false;
    for (const channel of this.#channels.toReversed()) {
      await channel.request({ type: "deactivate" });
    }
  }

  #workerOf(index: number): WorkerChannel {
    const group = Math.floor(index / this.#adjacent);
    return this.#channels[group % this.#channels.length];
  }

  /** Has all other Workers hear what one tells, and says so. */
  async #pass(
    from: WorkerChannel,
    told: number,
    value: unknown,
  ): Promise<void> {
    const others = this.#channels.filter((channel) => channel !== from);
    // A Worker that failed ends the device; one that is closed has ended.
    await Promise.allSettled(
      others.map((channel) => channel.request({ type: "hear", value })),
    );
    await from.request({ type: "heard", told }).catch(() => {});
  }
}

async function closeAll(channels: readonly WorkerChannel[]): Promise<void> {
  for (const channel of channels) {
    if (channel.closed) continue;
    // A Worker that failed has nothing left to close.
    await channel.request({ type: "close" }).catch(() => {});
    await channel.close();
  }
}

function transportFeatures(options: WorkerPlaneOptions): bigint {
  const { eventIdx = true, indirect = true, packed = true, inOrder = true } =
    options;
  // Rings are accessed with fences, so the platform's ordering is kept.
  let features = featureMask(
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_F_ORDER_PLATFORM,
  );
  if (packed) features |= featureMask(VIRTIO_F_RING_PACKED);
  if (inOrder) features |= featureMask(VIRTIO_F_IN_ORDER);
  if (eventIdx) features |= featureMask(VIRTIO_F_EVENT_IDX);
  if (indirect) features |= featureMask(VIRTIO_F_INDIRECT_DESC);
  return features;
}

function addressOf(region: MappedRegion): RegionAddress {
  const { guestAddress, size, hostAddress, fd, fileOffset, pageSize } = region;
  const backing = { fd, offset: fileOffset, pageSize };
  return { guestAddress, size, hostAddress, backing };
}
