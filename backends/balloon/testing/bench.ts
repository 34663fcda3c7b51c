/**
 * A balloon with drivers for its queues, over memory whose pages are fakes.
 *
 * @module
 */

import type { DeviceContext } from "../../../virtqueue/device.ts";
import { writeWords } from "../../../virtqueue/config_words.ts";
import { GuestMemory } from "../../../virtqueue/memory.ts";
import { startRing } from "../../../virtqueue/testing/queue.ts";
import {
  type Completion,
  type FakeBuffer,
  FakeMemory,
  type RingDriver,
} from "../../../virtqueue/testing/driver.ts";
import type { RunningQueue } from "../../../virtqueue/queue.ts";
import { NotificationCheck } from "../../../virtqueue/testing/notification_check.ts";
import {
  makeDriver,
  profileFeatures,
} from "../../../virtqueue/testing/ring_profile.ts";
import { BalloonDevice } from "../device.ts";
import { type BalloonOptions, resolveBalloonOptions } from "../options.ts";
import { FakePages } from "./fake_pages.ts";

/** Memory where nothing else is said: 4 MiB at 1 MiB. */
export const DATA_PAGES = { page: 256, pages: 1024 } as const;

/** Beyond what page numbers reach. */
const RING_MEMORY = 0x4000_0000_0000;
const RING_FD = 1000;
/** Turns after which a request must have been answered. */
const MOST_TURNS = 10_000;

/** A region of guest memory. */
export interface BenchRegion {
  /** Guest address in pages of 4 KiB. */
  readonly page: number;
  /** Length in pages of 4 KiB. */
  readonly pages: number;
  /** Descriptor; -1: it is not backed by anything. */
  readonly fd?: number;
  /** Offset in the file in bytes (default 0). */
  readonly offset?: number;
  /** Page size of the file (default 4096). */
  readonly pageSize?: number;
}

/** What a {@linkcode BalloonBench} is made with. */
export interface BalloonBenchOptions {
  readonly balloon?: BalloonOptions;
  /** Features that the driver acknowledges (default: all that are offered). */
  readonly features?: bigint;
  /** Memory beside that of the rings (default: 1024 pages at page 256, fd 3). */
  readonly regions?: readonly BenchRegion[];
  /** Entries of each ring (default 64). */
  readonly ringSize?: number;
}

/** Little-endian page numbers. */
export function pfns(...pages: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.from(pages).buffer);
}

/** A buffer with statistics. */
export function stats(
  ...entries: readonly (readonly [tag: number, value: bigint])[]
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(10 * entries.length);
  const view = new DataView(bytes.buffer);
  entries.forEach(([tag, value], i) => {
    view.setUint16(10 * i, tag, true);
    view.setBigUint64(10 * i + 2, value, true);
  });
  return bytes;
}

/** A device, its queues, and a driver for each. */
export class BalloonBench implements Disposable {
  readonly pages = new FakePages();
  readonly memory = new GuestMemory();
  readonly device: BalloonDevice;
  readonly drivers: RingDriver[] = [];
  readonly queues: RunningQueue[] = [];
  readonly #checks: NotificationCheck[] = [];
  /** Log lines of the device. */
  readonly lines: string[] = [];
  /** How often the device said that its configuration changed. */
  configChanges = 0;
  /** Descriptors that the device watches. */
  readonly watched = new Map<number, () => void>();
  /** Queues that the device resumed. */
  readonly resumed: number[] = [];

  constructor(options: BalloonBenchOptions = {}) {
    const bytes = new Uint8Array(4 << 20);
    const rings = new FakeMemory([{ guestAddress: RING_MEMORY, bytes }]);
    this.memory.add({
      guestAddress: RING_MEMORY,
      size: bytes.length,
      buffer: bytes.buffer,
      backing: { fd: RING_FD, offset: 0, pageSize: 4096 },
    });
    const regions = options.regions ?? [{ ...DATA_PAGES, fd: 3 }];
    for (const region of regions) this.addRegion(region);
    this.device = new BalloonDevice(
      resolveBalloonOptions({ ...options.balloon }),
      this.pages,
      this.#context(),
    );
    this.device.negotiate(
      profileFeatures(options.features ?? this.device.features),
    );
    this.device.activate();
    for (let index = 0; index < this.device.queueCount; index++) {
      const driver = makeDriver(rings, {
        size: options.ringSize ?? 64,
        copy: false,
      });
      this.drivers.push(driver);
      const { memory } = this;
      const { maxSegments, alwaysNotify } = this.device;
      const queue = startRing(driver, {
        memory,
        index,
        maxSegments,
        alwaysNotify,
      });
      this.queues.push(queue);
      this.#checks.push(new NotificationCheck(driver, queue));
    }
  }

  #context(): DeviceContext {
    return {
      memory: this.memory,
      slotsPerQueue: 64,
      worker: 0,
      ring: () => null,
      configChanged: () => this.configChanges++,
      resume: (queue) => this.resumed.push(queue.index),
      watch: (fd, ready) => {
        if (ready === null) this.watched.delete(fd);
        else this.watched.set(fd, ready);
      },
      log: (level, message) => this.lines.push(`${level} ${message}`),
    };
  }

  /** Adds memory. */
  addRegion({ page, pages, fd = -1, ...backing }: BenchRegion): void {
    const size = pages * 4096, guestAddress = page * 4096;
    const { offset = 0, pageSize = 4096 } = backing;
    const file = new Uint8Array(offset + size).fill(0xaa);
    if (fd >= 0) this.pages.files.set(fd, file);
    this.memory.add({
      guestAddress,
      size,
      buffer: file.buffer,
      byteOffset: offset,
      ...(fd >= 0 ? { backing: { fd, offset, pageSize } } : {}),
    });
  }

  /** Writes the configuration space, as a driver does. */
  writeConfig(offset: number, data: Uint8Array): void {
    const { config, driverWords } = this.device;
    writeWords(config, driverWords, offset, data);
  }

  /** Serves every queue once and publishes. */
  turn(): void {
    for (const check of this.#checks) check.wake();
    for (const queue of this.queues) this.device.serve(queue, 8);
    this.device.poll();
    for (const check of this.#checks) check.publish();
  }

  /** Makes a chain available. */
  offer(queue: number, buffers: readonly FakeBuffer[]): number {
    const indirect = buffers.length > 1;
    const token = this.drivers[queue].submit(buffers, { indirect });
    if (token < 0) throw new Error("The ring has no room");
    return token;
  }

  /** Hands in one chain and waits for its answer. */
  submit(queue: number, ...buffers: readonly FakeBuffer[]): Completion {
    const token = this.offer(queue, buffers);
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      this.turn();
      const answers = this.#checks[queue].reap();
      const answer = answers.find((one) => one.token === token);
      if (answer !== undefined) return answer;
    }
    throw new Error("A request was never answered");
  }

  /** Puts pages into the balloon. */
  inflate(...pages: readonly number[]): Completion {
    return this.submit(0, { readable: pfns(...pages) });
  }

  /** Takes pages out of the balloon. */
  deflate(...pages: readonly number[]): Completion {
    return this.submit(1, { readable: pfns(...pages) });
  }

  /** Reports ranges as free: page and number of pages. */
  report(
    ...ranges: readonly (readonly [page: number, pages: number])[]
  ): Completion {
    return this.submit(
      3,
      ...ranges.map(([page, pages]) => ({
        address: page * 4096,
        length: pages * 4096,
        write: true,
      })),
    );
  }

  /** The device's counters. */
  get counters(): Record<string, unknown> {
    return this.device.metrics.toJSON();
  }

  [Symbol.dispose](): void {
    for (const queue of this.queues) this.device.quiesce(queue);
    this.device.deactivate();
    this.device.close();
  }
}
