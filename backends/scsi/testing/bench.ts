/**
 * A SCSI host with a driver: real guest memory, real rings, real images.
 *
 * @module
 */

import { mapAnonymous, type Mapping } from "../../../sys/mapping.ts";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import {
  featureMask,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import type { DeviceContext } from "../../../virtqueue/device.ts";
import { GuestMemory } from "../../../virtqueue/memory.ts";
import {
  type Completion,
  type FakeBuffer,
  FakeMemory,
  type RingDriver,
} from "../../../virtqueue/testing/driver.ts";
import type { RunningQueue } from "../../../virtqueue/queue.ts";
import { startRing } from "../../../virtqueue/testing/queue.ts";
import { NotificationCheck } from "../../../virtqueue/testing/notification_check.ts";
import {
  makeDriver,
  profileFeatures,
} from "../../../virtqueue/testing/ring_profile.ts";
import { pattern } from "../../storage/testing/buffers.ts";
import { engineOptions } from "../../storage/testing/engines.ts";
import { FakeStorage } from "../../storage/testing/fake_storage.ts";
import { TestRing } from "../../storage/testing/test_ring.ts";
import type { ScsiDevice } from "../device.ts";
import createScsi from "../mod.ts";
import type { ScsiOptions } from "../options.ts";
import {
  CONTROL_QUEUE,
  EVENT_QUEUE,
  EVENT_SIZE,
  FIRST_REQUEST_QUEUE,
  VIRTIO_SCSI_F_CHANGE,
  VIRTIO_SCSI_F_HOTPLUG,
} from "../protocol.ts";
import { decodeSense, type Sense } from "../target/sense.ts";

/** Room for the longest chains, also where each buffer takes a descriptor. */
const QUEUE_SIZE = 1024;
/** Chain objects of each queue. */
export const SLOTS = 64;
const GUEST_BASE = 0x10_0000;
const MEMORY = 16 * 2 ** 20;
const MOST_TURNS = 10_000;
/** Features of a driver that wants to know of everything. */
export const ALL_FEATURES: bigint = featureMask(
  VIRTIO_F_VERSION_1,
  VIRTIO_SCSI_F_HOTPLUG,
  VIRTIO_SCSI_F_CHANGE,
);

/** An answered command. */
export interface Answer {
  readonly response: number;
  readonly status: number;
  readonly residual: number;
  readonly sense: Sense | null;
  readonly data: Uint8Array<ArrayBuffer>;
  /** Length in the used ring. */
  readonly length: number;
}

/** What a command is sent with. */
export interface SendOptions {
  readonly out?: Uint8Array;
  readonly room?: number;
  readonly target?: number;
  readonly lun?: number;
  /** The whole LUN field. */
  readonly field?: readonly number[];
  readonly tag?: number;
  readonly attribute?: number;
  /** Request queue, from 0. */
  readonly queue?: number;
  readonly cdbSize?: number;
  readonly senseSize?: number;
}

/** The LUN field of a target and a logical unit number. */
export function lunField(target: number, lun: number): number[] {
  const high = lun < 256 ? 0 : 0x40 | lun >> 8;
  return [1, target, high, lun & 0xff, 0, 0, 0, 0];
}

/** The readable head of a command request. */
export function requestHead(
  cdb: readonly number[],
  options: SendOptions = {},
): Uint8Array<ArrayBuffer> {
  const { target = 0, lun = 0, tag = 0, attribute = 0, cdbSize = 32 } = options;
  const bytes = new Uint8Array(19 + cdbSize);
  bytes.set(options.field ?? lunField(target, lun));
  new DataView(bytes.buffer).setUint32(8, tag, true);
  bytes[16] = attribute;
  bytes.set(cdb.slice(0, cdbSize), 19);
  return bytes;
}

/** Reads what the device wrote for a command. */
export function parseAnswer(
  { data, length }: Pick<Completion, "data" | "length">,
  senseSize = 96,
): Answer {
  const view = new DataView(data.buffer, data.byteOffset);
  const senseLength = view.getUint32(0, true);
  return {
    response: data[11],
    status: data[10],
    residual: view.getUint32(4, true),
    sense: senseLength === 0
      ? null
      : decodeSense(data.subarray(12, 12 + senseLength)),
    data: data.slice(12 + senseSize, length),
    length,
  };
}

/** A task management request. */
export function taskManagement(
  subtype: number,
  field: readonly number[],
  tag = 0,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, subtype, true);
  bytes.set(field, 8);
  view.setUint32(16, tag, true);
  return bytes;
}

/** What a {@linkcode ScsiBench} is made with. */
export interface BenchOptions {
  /** Options of the device; without `luns` there is one disk of 1 MiB. */
  readonly scsi?: ScsiOptions;
  /** Directory of the images (default: one of its own). */
  readonly directory?: TemporaryDirectory;
  /** Features that the driver acknowledges (default all). */
  readonly features?: bigint;
  /** What a predecessor of the device kept. */
  readonly kept?: unknown;
  /** Commands are answered in the order in which they came (VIRTIO_F_IN_ORDER). */
  readonly inOrder?: boolean;
  /** Entries of each ring (default 1024). */
  readonly ringSize?: number;
}

/** The options with the engine of the test for each logical unit. */
function withEngine(options: ScsiOptions): Record<string, unknown> {
  const { luns, ...host } = options;
  const engine = engineOptions();
  const own = host.path === undefined ? host : { ...engine, ...host };
  if (luns === undefined) return own;
  return { ...own, luns: luns.map((lun) => ({ ...engine, ...lun })) };
}

/** A SCSI host and its driver. */
export class ScsiBench implements Disposable {
  readonly device: ScsiDevice;
  readonly memory: FakeMemory;
  readonly drivers: RingDriver[] = [];
  readonly queues: RunningQueue[] = [];
  readonly #checks: NotificationCheck[] = [];
  readonly lines: string[] = [];
  /** Indices of queues that the device wanted to be served. */
  readonly resumed: number[] = [];
  /** What the device watches, by descriptor. */
  readonly watched: Map<number, () => void> = new Map();
  /** What the device keeps for its successor. */
  kept: unknown;
  /** True: what is kept is so when the test calls {@linkcode keeping}. */
  keepsLate = false;
  /** Told when what they are about is kept. */
  readonly keeping: (() => void)[] = [];
  readonly directory: TemporaryDirectory;
  readonly #owned: boolean;
  readonly #ring = new TestRing();
  readonly #mapping: Mapping;

  /** Makes a device and starts its queues. */
  constructor(options: BenchOptions = {}) {
    this.#owned = options.directory === undefined;
    this.directory = options.directory ?? TemporaryDirectory.make("scsi");
    this.#mapping = mapAnonymous(MEMORY);
    this.memory = new FakeMemory([{
      guestAddress: GUEST_BASE,
      bytes: new Uint8Array(this.#mapping.buffer),
      hostAddress: this.#mapping.address,
    }]);
    const memory = this.memory.share(new GuestMemory());
    const context: DeviceContext = {
      memory,
      slotsPerQueue: SLOTS,
      worker: 0,
      ring: this.#ring.get,
      configChanged: () => {},
      resume: (queue) => this.resumed.push(queue.index),
      watch: (fd, ready) => {
        if (ready === null) this.watched.delete(fd);
        else this.watched.set(fd, ready);
      },
      log: (level, message) => this.lines.push(`${level} ${message}`),
      kept: options.kept,
      keep: (value, kept) => {
        this.kept = value;
        if (kept !== undefined) this.keeping.push(kept);
        if (!this.keepsLate) {
          for (const each of this.keeping.splice(0)) {
            each();
          }
        }
      },
    };
    try {
      const scsi = options.scsi ?? { path: this.image("disk.img") };
      this.device = createScsi(withEngine(scsi), context) as ScsiDevice;
    } catch (error) {
      this.#release();
      throw error;
    }
    this.device.negotiate(profileFeatures(options.features ?? ALL_FEATURES));
    this.device.activate();
    for (let index = 0; index < this.device.queueCount; index++) {
      const { ringSize: size = QUEUE_SIZE } = options;
      const driver = makeDriver(this.memory, { size });
      this.drivers.push(driver);
      const queue = startRing(driver, {
        index,
        memory,
        maxSegments: this.device.maxSegments,
        slots: SLOTS,
        slotBase: index * SLOTS,
        inOrder: options.inOrder,
      });
      this.queues.push(queue);
      this.#checks.push(new NotificationCheck(driver, queue));
      this.device.start(queue);
    }
  }

  /** Makes an image of random bytes, unless it is there; its path. */
  image(name: string, size = 2 ** 20): string {
    const path = this.directory.file(name);
    try {
      Deno.statSync(path);
    } catch {
      Deno.writeFileSync(path, pattern(size, 1));
    }
    return path;
  }

  /** Replaces the storage of a logical unit by one that the test completes. */
  fake(target = 0, lun = 0): FakeStorage {
    const nexus = this.device.bus.target(target)!.luns.get(lun)!;
    const storage = new FakeStorage(nexus.unit.capacity * 512);
    storage.attach(nexus.table!);
    storage.onComplete = nexus.storage!.onComplete;
    nexus.storage!.close();
    nexus.storage = storage;
    return storage;
  }

  /** Forgets the unit attention conditions of all logical units. */
  clearAttentions(): this {
    for (const [, , nexus] of this.device.bus.entries()) nexus.clearAttention();
    return this;
  }

  /** Waits for asynchronous I/O, if there is any; whether some has ended. */
  wait(): boolean {
    return this.#ring.wait();
  }

  /** Serves every queue once, and publishes. */
  turn(): void {
    for (const check of this.#checks) check.wake();
    for (const queue of this.queues) this.device.serve(queue, 8);
    this.device.poll();
    while (this.wait()) this.device.poll();
    for (const check of this.#checks) check.publish();
  }

  /** Hands in a chain whose writable bytes are 0xff before. */
  offer(queue: number, buffers: readonly FakeBuffer[]): number {
    const prepared = buffers.map((buffer): FakeBuffer => {
      if (!("writable" in buffer)) return buffer;
      const length = buffer.writable;
      const address = this.memory.allocate(length);
      this.memory.write(address, new Uint8Array(length).fill(0xff));
      return { address, length, write: true };
    });
    const token = this.drivers[queue].submit(prepared, { indirect: true });
    if (token < 0) throw new Error("The ring has no room");
    return token;
  }

  /** Waits for the completion of a chain. */
  complete(queue: number, token: number): Completion {
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      this.turn();
      const found = this.#checks[queue].reap()
        .find((completion) => completion.token === token);
      if (found !== undefined) return found;
    }
    throw new Error("A request was never answered");
  }

  /** Hands in a command. */
  send(cdb: readonly number[], options: SendOptions = {}): number {
    const { out, room = 0, senseSize = 96 } = options;
    return this.offer(FIRST_REQUEST_QUEUE + (options.queue ?? 0), [
      { readable: requestHead(cdb, options) },
      ...(out === undefined ? [] : [{ readable: out }]),
      { writable: 12 + senseSize },
      ...(room === 0 ? [] : [{ writable: room }]),
    ]);
  }

  /** Hands in a command and waits for its answer. */
  run(cdb: readonly number[], options: SendOptions = {}): Answer {
    const queue = FIRST_REQUEST_QUEUE + (options.queue ?? 0);
    return parseAnswer(
      this.complete(queue, this.send(cdb, options)),
      options.senseSize,
    );
  }

  /** Answers of a request queue that can be reaped now, by token. */
  reap(queue = 0): Map<number, Answer> {
    return new Map(
      this.#checks[FIRST_REQUEST_QUEUE + queue].reap()
        .map((completion) => [completion.token, parseAnswer(completion)]),
    );
  }

  /** A request on the control queue; the writable bytes, as many as were written. */
  control(request: Uint8Array, room = 1): Uint8Array {
    const token = this.offer(CONTROL_QUEUE, [
      { readable: request },
      { writable: room },
    ]);
    const { data, length } = this.complete(CONTROL_QUEUE, token);
    return data.subarray(0, length);
  }

  /** Provides buffers for events. */
  provideEvents(count: number, size = EVENT_SIZE): void {
    for (let i = 0; i < count; i++) {
      this.offer(EVENT_QUEUE, [{ writable: size }]);
    }
  }

  /** Events that the device put into buffers: event, LUN field, reason. */
  events(): { event: number; lun: number[]; reason: number }[] {
    this.turn();
    return this.#checks[EVENT_QUEUE].reap().map((completion) => {
      const data = new Uint8Array(EVENT_SIZE);
      data.set(completion.data);
      const view = new DataView(data.buffer);
      return {
        event: view.getUint32(0, true),
        lun: [...data.subarray(4, 12)],
        reason: view.getUint32(12, true),
      };
    });
  }

  [Symbol.dispose](): void {
    for (const queue of this.queues) this.device.quiesce(queue);
    this.device.deactivate();
    this.device.close();
    this.#release();
  }

  #release(): void {
    this.#ring[Symbol.dispose]();
    this.#mapping.unmap();
    if (this.#owned) this.directory[Symbol.dispose]();
  }
}
