/**
 * A disk that is really served, and a guest made of our own front-end and
 * driver: what the protocol tests are written with.
 *
 * @module
 */

import { serve, type Server } from "../../host/serve.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import {
  type Completion,
  FakeDriver,
  type FakeDriverOptions,
  FakeMemory,
} from "../../virtqueue/testing/driver.ts";
import type { RingDriver } from "../../virtqueue/testing/buffers.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";

/** Sector of virtio-blk in bytes. */
export const SECTOR = 512;
/** virtio-blk request types. Source: virtio 1.4, section 5.2.6. */
export const T_IN = 0, T_OUT = 1, T_FLUSH = 4;
/** Guest address of the first region that a {@linkcode Guest} shares. */
export const GUEST_BASE = 0x10_0000;

/** The bytes of an image of `sectors` sectors, each stamped with its number. */
export function stampedImage(sectors: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(sectors * SECTOR / 4);
  for (let s = 0; s < sectors; s++) words[s * SECTOR / 4] = s;
  return new Uint8Array(words.buffer);
}

const MODULE = new URL("../../backends/blk/mod.ts", import.meta.url);

/** An image in a temporary directory, served on a socket. */
export class ServedDisk implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  readonly #server: Server;

  private constructor(directory: TemporaryDirectory, server: Server) {
    this.#directory = directory;
    this.#server = server;
  }

  /** Makes an image of `sectors` sectors, each stamped with its number, and serves it. */
  static async start(
    options: Readonly<Record<string, unknown>> = {},
    { sectors = 8192, workers = 1, lockPatience, offer }: {
      sectors?: number;
      workers?: number;
      /** How long (ms) the lock of the image is waited for. */
      lockPatience?: number;
      /** Which kinds of rings to offer (default: all). */
      offer?: { packed: boolean; inOrder: boolean };
    } = {},
  ): Promise<ServedDisk> {
    const directory = TemporaryDirectory.make("disk");
    try {
      const path = directory.file("disk.img");
      Deno.writeFileSync(path, stampedImage(sectors));
      const server = await serve({
        device: MODULE,
        options: { path, ...options },
        socket: directory.file("blk.sock"),
        name: "blk",
        logLevel: "error",
        workers,
        lockPatience,
        ...offer,
        signals: false,
      });
      return new ServedDisk(directory, server);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Path of the socket. */
  get socket(): string {
    return this.#directory.file("blk.sock");
  }

  /** Path of the image. */
  get image(): string {
    return this.#directory.file("disk.img");
  }

  /** The server itself. */
  get server(): Server {
    return this.#server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    this.#directory[Symbol.dispose]();
  }
}

/** How a {@linkcode Guest} is made. */
export interface GuestOptions {
  /** Number of rings to configure (default 1). */
  readonly rings?: number;
  /** Entries of each ring (default 128). */
  readonly size?: number;
  /** Virtio features to accept of those offered (default: all). */
  readonly features?: bigint;
  /** Bytes of memory (default 4 MiB). */
  readonly memory?: number;
  /** Guest address of the memory (default {@linkcode GUEST_BASE}). */
  readonly base?: number;
  /** Whether completions carry the written bytes (default true). */
  readonly copy?: boolean;
}

/** Header of a virtio-blk request. */
export function header(type: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

/** A front-end with memory and drivers of a device's rings, split ones or packed. */
export class Guest<Driver extends RingDriver = FakeDriver>
  implements Disposable {
  /** The front-end; {@linkcode reconnect} makes another one. */
  frontEnd: FrontEnd;
  readonly region: SharedRegion;
  readonly memory: FakeMemory;
  readonly drivers: Driver[] = [];

  private constructor(
    frontEnd: FrontEnd,
    region: SharedRegion,
    memory: FakeMemory,
  ) {
    this.frontEnd = frontEnd;
    this.region = region;
    this.memory = memory;
  }

  /** Connects, negotiates and lays out rings; {@linkcode start} starts them. */
  static connect(socket: string, options: GuestOptions = {}): Promise<Guest> {
    return Guest.#connect(socket, options, FakeDriver, false);
  }

  /** As {@linkcode Guest.connect}, with packed rings. */
  static connectPacked(
    socket: string,
    options: GuestOptions = {},
  ): Promise<Guest<FakePackedDriver>> {
    return Guest.#connect(socket, options, FakePackedDriver, true);
  }

  static async #connect<Driver extends RingDriver>(
    socket: string,
    options: GuestOptions,
    Driver: new (memory: FakeMemory, options: FakeDriverOptions) => Driver,
    packed: boolean,
  ): Promise<Guest<Driver>> {
    const { rings = 1, size = 128, memory: bytes = 4 << 20, copy } = options;
    const frontEnd = FrontEnd.connect(socket);
    const region = SharedRegion.create(options.base ?? GUEST_BASE, bytes);
    const memory = new FakeMemory([region]);
    const guest = new Guest<Driver>(frontEnd, region, memory);
    try {
      await frontEnd.handshake({ features: options.features, packed });
    } catch (error) {
      guest[Symbol.dispose]();
      throw error;
    }
    const eventIdx = (frontEnd.features >> 29n & 1n) === 1n;
    for (let i = 0; i < rings; i++) {
      guest.drivers.push(new Driver(memory, { size, eventIdx, copy }));
    }
    return guest;
  }

  /** Shares the memory and starts every ring. */
  async start(): Promise<void> {
    await this.frontEnd.start([this.region], new Map(this.drivers.entries()));
  }

  /**
   * Connects again after the back-end died, with what a front-end knows then:
   * rings go on behind the last buffer that was used. Nothing is kicked. Of split
   * rings alone.
   */
  async reconnect(this: Guest, socket: string): Promise<void> {
    const { features } = this.frontEnd;
    this.frontEnd.close();
    this.frontEnd = FrontEnd.connect(socket);
    await this.frontEnd.handshake({ features });
    const positions = Object.fromEntries(
      this.drivers.map((driver, i) => [i, driver.usedIndex]),
    );
    const rings = new Map(this.drivers.entries());
    await this.frontEnd.start([this.region], rings, { positions });
  }

  /** Connects and starts. */
  static async run(
    socket: string,
    options: GuestOptions = {},
  ): Promise<Guest> {
    const guest = await Guest.connect(socket, options);
    await guest.start();
    return guest;
  }

  /** As {@linkcode Guest.run}, with packed rings. */
  static async runPacked(
    socket: string,
    options: GuestOptions = {},
  ): Promise<Guest<FakePackedDriver>> {
    const guest = await Guest.connectPacked(socket, options);
    await guest.start();
    return guest;
  }

  /** Makes a request available and kicks if the device wants it; its token. */
  submit(
    type: number,
    sector: number,
    data: Uint8Array | number,
    ring = 0,
  ): number {
    const buffer = typeof data === "number"
      ? (data > 0 ? [{ writable: data }] : [])
      : [{ readable: data }];
    const driver = this.drivers[ring];
    const token = driver.submit([
      { readable: header(type, sector) },
      ...buffer,
      { writable: 1 },
    ], { indirect: true });
    if (driver.kickNeeded()) this.frontEnd.kick(ring);
    return token;
  }

  /** Waits for completions until there are `count`, in the order they came. */
  async complete(count: number, ring = 0): Promise<Completion[]> {
    const driver = this.drivers[ring];
    const done: Completion[] = [];
    while (done.length < count) {
      done.push(...driver.reap());
      if (done.length >= count || driver.enableInterrupt()) continue;
      await this.frontEnd.waitCall(ring);
    }
    return done;
  }

  /** One request, from submission to completion: status byte and data. */
  async request(
    type: number,
    sector: number,
    data: Uint8Array | number = 0,
    ring = 0,
  ): Promise<{ status: number; data: Uint8Array; length: number }> {
    this.submit(type, sector, data, ring);
    const [{ data: written, length }] = await this.complete(1, ring);
    return {
      status: written[written.length - 1],
      data: written.subarray(0, -1),
      length,
    };
  }

  [Symbol.dispose](): void {
    this.frontEnd.close();
    this.region[Symbol.dispose]();
  }
}
