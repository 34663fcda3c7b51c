/**
 * A network device in the thread of the test, with a driver of its rings in real
 * memory: for tests that need no front-end.
 *
 * @module
 */

import { Epoll, EPOLLIN } from "../../../sys/epoll.ts";
import { mapAnonymous, type Mapping } from "../../../sys/mapping.ts";
import {
  featureMask,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import type { DeviceContext, LogLevel } from "../../../virtqueue/device.ts";
import { GuestMemory } from "../../../virtqueue/memory.ts";
import type { RunningQueue, VirtQueue } from "../../../virtqueue/queue.ts";
import {
  type Completion,
  type FakeBuffer,
  FakeMemory,
  type RingDriver,
} from "../../../virtqueue/testing/driver.ts";
import { NotificationCheck } from "../../../virtqueue/testing/notification_check.ts";
import {
  makeDriver,
  profileFeatures,
} from "../../../virtqueue/testing/ring_profile.ts";
import { startRing } from "../../../virtqueue/testing/queue.ts";
import type { NetDevice } from "../device.ts";
import createNet from "../mod.ts";
import { NetFeature } from "../protocol.ts";
import { virtioHeader } from "./packets.ts";

const MEMORY = 16 << 20;
const BASE = 0x10_0000;
const SLOTS = 128;
const BUDGET = 8;

/** Transport feature that modern drivers accept. */
export const MODERN: bigint = featureMask(VIRTIO_F_VERSION_1);
/** What a modern driver that takes everything but MQ accepts. */
export const EVERYTHING: bigint = ~featureMask(NetFeature.MQ);

/** How a {@linkcode NetBench} is made. */
export interface NetBenchOptions {
  /** Features to accept of those offered and VERSION_1 (default: all but MQ). */
  readonly features?: bigint;
  /** Entries of each ring (default 64). */
  readonly size?: number;
  /** Queue pairs to start (default 1). */
  readonly pairs?: number;
  /** Tells the device's objects in other Workers; absent: there are none. */
  readonly tellOthers?: DeviceContext["tellOthers"];
  /** Start the control queue (default true). */
  readonly control?: boolean;
}

/** A frame that the driver received. */
export interface Received {
  readonly header: Uint8Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Buffers that it took. */
  readonly buffers: number;
}

/** A device with its driver. */
export class NetBench implements Disposable {
  readonly device: NetDevice;
  readonly memory: FakeMemory;
  readonly drivers = new Map<number, RingDriver>();
  readonly queues = new Map<number, RunningQueue>();
  readonly #checks = new Map<number, NotificationCheck>();
  /** Log lines of the device. */
  readonly log: string[] = [];
  /** How often the configuration space changed. */
  configChanges = 0;
  /** Features that were negotiated. */
  readonly features: bigint;
  readonly #guest = new GuestMemory();
  readonly #mapping: Mapping;
  readonly #epoll = new Epoll();
  readonly #watched = new Map<number, () => void>();
  readonly #parked = new Set<VirtQueue>();
  readonly #size: number;

  /** Makes a device and starts its rings. */
  constructor(
    options: Readonly<Record<string, unknown>>,
    bench: NetBenchOptions = {},
  ) {
    this.#size = bench.size ?? 64;
    this.#mapping = mapAnonymous(MEMORY);
    this.memory = new FakeMemory([{
      guestAddress: BASE,
      bytes: new Uint8Array(this.#mapping.buffer),
      hostAddress: this.#mapping.address,
    }]);
    this.memory.share(this.#guest);
    try {
      const { tellOthers } = bench;
      const others = tellOthers === undefined ? {} : { tellOthers };
      this.device = createNet(options, {
        ...this.#context(),
        ...others,
      }) as NetDevice;
    } catch (error) {
      this.#epoll.close();
      this.#mapping.unmap();
      throw error;
    }
    const offered = this.device.features | MODERN;
    this.features = profileFeatures(offered & (bench.features ?? EVERYTHING));
    this.device.negotiate(this.features);
    this.device.activate();
    for (let i = 0; i < 2 * (bench.pairs ?? 1); i++) this.start(i);
    const control = this.controlIndex;
    if (control >= 0 && bench.control !== false) this.start(control);
  }

  /** Index of the control queue; -1: there is none. */
  get controlIndex(): number {
    const has = (bit: number) => (this.features >> BigInt(bit) & 1n) === 1n;
    if (!has(NetFeature.CTRL_VQ)) return -1;
    return has(NetFeature.MQ) ? 2 * this.device.pairs : 2;
  }

  /** Bytes of the virtio header. */
  get headerSize(): number {
    const twelve = MODERN | featureMask(NetFeature.MRG_RXBUF);
    return (this.features & twelve) !== 0n ? 12 : 10;
  }

  /** Starts a ring, at a position. */
  start(index: number, start = 0): void {
    const driver = makeDriver(this.memory, { size: this.#size, start });
    this.drivers.set(index, driver);
    const queue = startRing(driver, {
      index,
      memory: this.#guest,
      maxSegments: this.device.maxSegments,
      slots: SLOTS,
      slotBase: index * SLOTS,
    });
    this.device.start(queue);
    this.queues.set(index, queue);
    this.#checks.set(index, new NotificationCheck(driver, queue));
  }

  /** Stops a ring; what the driver has submitted is forgotten. */
  stop(index: number): void {
    const queue = this.queues.get(index)!;
    this.device.quiesce(queue);
    if (queue.inFlight > 0) throw new Error(`ring ${index} is not drained`);
    this.#parked.delete(queue);
    this.queues.delete(index);
    this.#checks.delete(index);
  }

  /** Serves the rings until nothing moves; the number of turns. */
  run(): number {
    for (let turns = 0; turns < 10_000; turns++) {
      const woken = this.#epoll.wait(0);
      for (let i = 0; i < woken; i++) {
        this.#watched.get(this.#epoll.token(i))?.();
      }
      let progress = woken > 0;
      for (const check of this.#checks.values()) check.wake();
      for (const queue of this.queues.values()) {
        if (this.#parked.has(queue) || !queue.ready) continue;
        this.#parked.add(queue);
        if (this.device.serve(queue, BUDGET)) this.#parked.delete(queue);
        progress = true;
      }
      if (this.device.poll() > 0) progress = true;
      for (const check of this.#checks.values()) check.publish();
      if (!progress) return turns;
    }
    throw new Error("the device does not come to rest");
  }

  /** Waits for a descriptor that the device watches, then serves. */
  async until(condition: () => boolean): Promise<void> {
    const end = performance.now() + 20_000;
    for (;;) {
      this.run();
      if (condition()) return;
      if (performance.now() > end) {
        throw new Error(`nothing came of it: ${this.log.join("; ")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Makes receive buffers available, of the size of a frame of 1514 bytes. */
  fill(count: number, size = 1526, pair = 0): void {
    for (let i = 0; i < count; i++) {
      const token = this.drivers.get(2 * pair)!.submit([{ writable: size }]);
      if (token < 0) throw new Error("the receive ring is full");
    }
  }

  /** Sends a frame behind a header, and serves. */
  send(
    bytes: Uint8Array,
    header: Uint8Array = virtioHeader(),
    pair = 0,
  ): Completion[] {
    return this.transmit([
      { readable: header.subarray(0, this.headerSize) },
      { readable: bytes },
    ], pair);
  }

  /** Makes a chain available for sending, and serves. */
  transmit(buffers: readonly FakeBuffer[], pair = 0): Completion[] {
    const driver = this.drivers.get(2 * pair + 1)!;
    if (driver.submit(buffers, { indirect: true }) < 0) {
      throw new Error("the transmit ring is full");
    }
    this.run();
    return this.#checks.get(2 * pair + 1)!.reap();
  }

  /** Sends a command; what the device answers. */
  control(kind: number, command: number, data: readonly number[]): number {
    const driver = this.drivers.get(this.controlIndex)!;
    driver.submit([
      { readable: new Uint8Array([kind, command]) },
      { readable: new Uint8Array(data) },
      { writable: 1 },
    ]);
    this.run();
    const [done] = this.#checks.get(this.controlIndex)!.reap();
    if (done.length !== 1) throw new Error("the command was not answered");
    return done.data[0];
  }

  /** The frames that came, put together from their buffers. */
  received(pair = 0): Received[] {
    const frames: Received[] = [];
    this.run();
    const done = this.#checks.get(2 * pair)!.reap();
    const size = this.headerSize;
    for (let i = 0; i < done.length;) {
      // A buffer that no frame could be put into.
      if (done[i].length === 0) {
        i++;
        continue;
      }
      const header = done[i].data.slice(0, size);
      const merged =
        (this.features >> BigInt(NetFeature.MRG_RXBUF) & 1n) === 1n;
      const buffers = merged ? header[10] | header[11] << 8 : 1;
      const parts = done.slice(i, i + buffers).map(({ data, length }, n) =>
        data.subarray(n === 0 ? size : 0, length)
      );
      const bytes = new Uint8Array(parts.flatMap((part) => [...part]));
      frames.push({ header, bytes, buffers });
      i += buffers;
    }
    return frames;
  }

  /** A counter of the device. */
  count(name: string): number {
    const value = this.device.metrics.toJSON()[name];
    if (typeof value !== "number") throw new Error(`no counter "${name}"`);
    return value;
  }

  /** Closes the device. */
  [Symbol.dispose](): void {
    for (const index of [...this.queues.keys()]) this.stop(index);
    this.device.close();
    this.#epoll.close();
    this.#mapping.unmap();
  }

  #context(): DeviceContext {
    return {
      memory: this.#guest,
      slotsPerQueue: SLOTS,
      worker: 0,
      ring: () => null,
      configChanged: () => this.configChanges++,
      resume: (queue) => this.#parked.delete(queue),
      watch: (fd, ready) => {
        if (this.#watched.delete(fd)) this.#epoll.remove(fd);
        if (ready === null) return;
        this.#watched.set(fd, ready);
        this.#epoll.add(fd, (EPOLLIN | 0x8000_0000) >>> 0, fd);
      },
      log: (level: LogLevel, message) => this.log.push(`${level}: ${message}`),
    };
  }
}
