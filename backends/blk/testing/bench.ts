/**
 * A block device with a driver: real guest memory, real rings, a real image.
 *
 * @module
 */

import { TestRing } from "../../storage/testing/test_ring.ts";
import { mapAnonymous, type Mapping } from "../../../sys/mapping.ts";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import {
  featureMask,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import type { DeviceContext } from "../../../virtqueue/device.ts";
import { GuestMemory } from "../../../virtqueue/memory.ts";
import { packedInflightSize } from "../../../virtqueue/packed_inflight.ts";
import {
  type FakeBuffer,
  FakeMemory,
  type RingDriver,
} from "../../../virtqueue/testing/driver.ts";
import type { RunningQueue } from "../../../virtqueue/queue.ts";
import { startRing, startTracked } from "../../../virtqueue/testing/queue.ts";
import { NotificationCheck } from "../../../virtqueue/testing/notification_check.ts";
import {
  makeDriver,
  profileFeatures,
} from "../../../virtqueue/testing/ring_profile.ts";
import type { Storage } from "../../storage/storage.ts";
import { pattern } from "../../storage/testing/buffers.ts";
import { engineOptions, testedEngine } from "../../storage/testing/engines.ts";
import { BlkDevice } from "../device.ts";
import createBlk from "../mod.ts";
import { type BlkOptions, resolveBlkOptions } from "../options.ts";
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../protocol.ts";

export { pattern };

const TWO_32 = 4294967296;
/** Room for the longest chains, also where each buffer takes a descriptor. */
const QUEUE_SIZE = 2048;
const SLOTS = 256;
const GUEST_BASE = 0x10_0000;
/** Turns after which a request must have been answered. */
const MOST_TURNS = 10_000;

/** A modern driver that flushes. */
export const MODERN: bigint = featureMask(
  VIRTIO_F_VERSION_1,
  VIRTIO_BLK_F_FLUSH,
);
/** A modern driver that also switches the cache mode. */
export const MODERN_WCE: bigint = MODERN | featureMask(VIRTIO_BLK_F_CONFIG_WCE);
/** A legacy driver that flushes. */
export const LEGACY: bigint = featureMask(VIRTIO_BLK_F_FLUSH);

/** What a {@linkcode BlkBench} is made with. */
export interface BenchOptions {
  /** Options of the device but for its path. */
  readonly blk?: Partial<BlkOptions>;
  /** An image that exists (default: a new one). */
  readonly path?: string;
  /** Size of a new image in bytes (default 1 MiB). */
  readonly size?: number;
  /** A storage instead of an image. */
  readonly storage?: Storage;
  /** Features that the driver acknowledges (default {@linkcode MODERN}). */
  readonly features?: bigint;
  /** Sizes of the memory regions, which follow each other (default one of 16 MiB). */
  readonly regions?: readonly number[];
  /** Requests are tracked (default: they are not). */
  readonly tracked?: boolean;
}

/** An answered request. */
export interface Answer {
  /** The status byte: the last writable one. */
  readonly status: number;
  /** The writable bytes before it. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Length in the used ring. */
  readonly length: number;
}

/** Bytes of a request header. */
export function header(type: number, sector: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(8, sector % TWO_32, true);
  view.setUint32(12, Math.floor(sector / TWO_32), true);
  return bytes;
}

/** Bytes of discard or write zeroes ranges: sector, number of sectors, flags. */
export function ranges(
  ...list: readonly (readonly [number, number, number?])[]
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16 * list.length);
  const view = new DataView(bytes.buffer);
  list.forEach(([sector, count, flags = 0], i) => {
    view.setUint32(16 * i, sector % TWO_32, true);
    view.setUint32(16 * i + 4, Math.floor(sector / TWO_32), true);
    view.setUint32(16 * i + 8, count, true);
    view.setUint32(16 * i + 12, flags, true);
  });
  return bytes;
}

/** Bytes one after the other. */
export function join(
  ...parts: readonly Uint8Array[]
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Paths of the disks in memory that this process has. */
function memoryDisks(): string[] {
  return Array.from(Deno.readDirSync("/proc/self/fd"), ({ name }) => {
    const path = `/proc/self/fd/${name}`;
    try {
      return Deno.readLinkSync(path).includes("memfd:vhostd-disk") ? path : "";
    } catch (error) {
      // The descriptor of the listing itself is gone.
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }).filter((path) => path !== "");
}

/** A device, its queues, and a driver for each. */
export class BlkBench implements Disposable {
  readonly device: BlkDevice;
  readonly drivers: RingDriver[] = [];
  readonly queues: RunningQueue[] = [];
  readonly #checks: NotificationCheck[] = [];
  readonly #areas: Uint8Array<ArrayBuffer>[] = [];
  /** The driver's memory. */
  readonly memory: FakeMemory;
  #path: string;
  /** Log lines of the device. */
  readonly lines: string[] = [];
  /** How often the device said that its configuration changed. */
  configChanges = 0;
  readonly #directory = TemporaryDirectory.make("blk");
  readonly #mappings: Mapping[] = [];
  readonly #ring = new TestRing();

  /** Makes a device and starts its queues. */
  constructor(options: BenchOptions = {}) {
    this.#path = options.path ?? this.#directory.file("disk.img");
    this.memory = new FakeMemory([]);
    try {
      if (options.storage === undefined && options.path === undefined) {
        Deno.writeFileSync(this.path, pattern(options.size ?? 2 ** 20, 1));
      }
      this.#map(options.regions ?? [32 * 2 ** 20]);
      this.device = this.#start(options);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  #map(sizes: readonly number[]): void {
    let guestAddress = GUEST_BASE;
    for (const size of sizes) {
      const mapping = mapAnonymous(size);
      this.#mappings.push(mapping);
      const bytes = new Uint8Array(mapping.buffer);
      const hostAddress = mapping.address;
      this.memory.add({ guestAddress, bytes, hostAddress });
      guestAddress += size;
    }
  }

  #start(options: BenchOptions): BlkDevice {
    const memory = this.memory.share(new GuestMemory());
    const queueCount = options.blk?.queues ?? 1;
    const context: DeviceContext = {
      memory,
      slotsPerQueue: SLOTS,
      worker: 0,
      ring: this.#ring.get,
      configChanged: () => this.configChanges++,
      resume: () => {},
      watch: () => {},
      log: (level, message) => this.lines.push(`${level} ${message}`),
    };
    const device = this.#create(options, context);
    try {
      device.negotiate(profileFeatures(options.features ?? MODERN));
      device.activate();
    } catch (error) {
      device.close();
      throw error;
    }
    for (let index = 0; index < queueCount; index++) {
      const driver = makeDriver(this.memory, { size: QUEUE_SIZE });
      this.drivers.push(driver);
      if (options.tracked) {
        this.#areas.push(new Uint8Array(packedInflightSize(QUEUE_SIZE)));
      }
      this.#startQueue(index, memory, device.maxSegments, driver.start);
    }
    return device;
  }

  #startQueue(
    index: number,
    memory: GuestMemory,
    maxSegments: number,
    position: number,
  ): void {
    const driver = this.drivers[index];
    const options = {
      index,
      memory,
      maxSegments,
      position,
      slots: SLOTS,
      slotBase: index * SLOTS,
    };
    const area = this.#areas[index];
    const queue = area === undefined
      ? startRing(driver, options)
      : startTracked(driver, area, options);
    this.queues[index] = queue;
    this.#checks[index] = new NotificationCheck(driver, queue);
  }

  /** Starts another queue on a ring that was suspended, where the one before ended. */
  goOn(index = 0): void {
    const memory = this.memory.share(new GuestMemory());
    const { suspendedBase } = this.queues[index];
    this.#startQueue(index, memory, this.device.maxSegments, suspendedBase);
  }

  #create(options: BenchOptions, context: DeviceContext): BlkDevice {
    const { blk, path, storage } = options;
    const plain = { ...blk, path: this.path };
    if (storage !== undefined) {
      return new BlkDevice(resolveBlkOptions(plain), storage, context);
    }
    if (path !== undefined || testedEngine() !== "memory") {
      return createBlk({ ...engineOptions(), ...plain }, context) as BlkDevice;
    }
    const before = memoryDisks();
    const size = options.size ?? 2 ** 20;
    const device = createBlk(
      { ...blk, storage: "memory", size },
      context,
    ) as BlkDevice;
    // What lies in memory is looked at, and made, by way of its descriptor.
    this.#path = memoryDisks().find((path) => !before.includes(path))!;
    using file = Deno.openSync(this.path, { write: true });
    const image = pattern(size, 1);
    for (let at = 0; at < size;) at += file.writeSync(image.subarray(at));
    return device;
  }

  /** The path of the image. */
  get path(): string {
    return this.#path;
  }

  /** Serves every queue once. */
  turn(): void {
    for (const check of this.#checks) check.wake();
    for (const queue of this.queues) this.device.serve(queue, 8);
    this.device.poll();
    while (this.#ring.wait()) this.device.poll();
    this.publish();
  }

  /** Shows the drivers what was completed. */
  publish(): void {
    for (const check of this.#checks) check.publish();
  }

  /** Answers that a driver can reap now, by token. */
  reap(queue = 0): Map<number, Answer> {
    return new Map(
      this.#checks[queue].reap().map(({ token, length, data }) => [token, {
        status: data.length === 0 ? -1 : data[data.length - 1],
        data: data.subarray(0, -1),
        length,
      }]),
    );
  }

  /**
   * Hands in one chain. All memory that the device may write is 0xff before, so
   * that nothing from earlier passes for an answer; it is not used again.
   */
  offer(
    buffers: readonly FakeBuffer[],
    indirect = buffers.length > 1,
    queue = 0,
  ): number {
    const prepared = buffers.map((buffer): FakeBuffer => {
      if (!("writable" in buffer)) return buffer;
      const length = buffer.writable;
      const address = this.memory.allocate(length);
      this.memory.write(address, new Uint8Array(length).fill(0xff));
      return { address, length, write: true };
    });
    const token = this.drivers[queue].submit(prepared, { indirect });
    if (token < 0) throw new Error("The ring has no room");
    return token;
  }

  /** Hands in one chain and waits for its answer. */
  submit(
    buffers: readonly FakeBuffer[],
    indirect = buffers.length > 1,
    queue = 0,
  ): Answer {
    const token = this.offer(buffers, indirect, queue);
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      this.turn();
      const answer = this.reap(queue).get(token);
      if (answer !== undefined) return answer;
    }
    throw new Error("A request was never answered");
  }

  /** Reads. */
  read(sector: number, length: number): Answer {
    return this.submit([
      { readable: header(VIRTIO_BLK_T_IN, sector) },
      { writable: length },
      { writable: 1 },
    ]);
  }

  /** Writes. */
  write(sector: number, data: Uint8Array): Answer {
    return this.submit([
      { readable: header(VIRTIO_BLK_T_OUT, sector) },
      { readable: data },
      { writable: 1 },
    ]);
  }

  /** Sends a request with a payload and room for nothing but the status. */
  request(
    type: number,
    payload: Uint8Array = new Uint8Array(),
    sector = 0,
  ): Answer {
    return this.submit([
      { readable: header(type, sector) },
      { readable: payload },
      { writable: 1 },
    ]);
  }

  /** The image, or a part of it. */
  image(offset = 0, length = Infinity): Uint8Array<ArrayBuffer> {
    return Deno.readFileSync(this.path).slice(offset, offset + length);
  }

  /** The device's counters. */
  get requests(): Record<string, unknown> {
    return this.device.metrics.toJSON();
  }

  [Symbol.dispose](): void {
    this.device.deactivate();
    this.device.close();
    this.#release();
  }

  #release(): void {
    this.#ring[Symbol.dispose]();
    for (const mapping of this.#mappings) mapping.unmap();
    this.#directory[Symbol.dispose]();
  }
}
