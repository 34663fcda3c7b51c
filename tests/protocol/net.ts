/**
 * A network device that is really served, and a guest on it made of our own
 * front-end and driver.
 *
 * @module
 */

import { serve, type Server } from "../../host/serve.ts";
import { featureMask, hasFeature } from "../../virtqueue/constants.ts";
import { NetFeature } from "../../backends/net/protocol.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Guest } from "./disk.ts";

const MODULE = new URL("../../backends/net/mod.ts", import.meta.url);
const INDIRECT_DESC = 28, EVENT_IDX = 29, PROTOCOL_FEATURES = 30;
const VERSION_1 = 32;

/** A network device, served on a socket. */
export class ServedNet implements AsyncDisposable {
  readonly server: Server;
  /** Path of the socket. */
  readonly socket: string;
  readonly #directory: TemporaryDirectory | null;

  private constructor(
    directory: TemporaryDirectory | null,
    socket: string,
    server: Server,
  ) {
    this.#directory = directory;
    this.socket = socket;
    this.server = server;
  }

  /** Serves a device with these options, on a socket of its own or a given one. */
  static async start(
    options: Readonly<Record<string, unknown>>,
    { poll, socket: given, workers }: {
      poll?: "auto" | "off";
      socket?: string;
      workers?: number;
    } = {},
  ): Promise<ServedNet> {
    const directory = given === undefined
      ? TemporaryDirectory.make("net")
      : null;
    const socket = given ?? directory!.file("net.sock");
    try {
      const server = await serve({
        device: MODULE,
        options: workers === undefined ? options : { ...options, workers },
        socket,
        name: "net",
        logLevel: "error",
        signals: false,
        poll,
        workers,
      });
      return new ServedNet(directory, socket, server);
    } catch (error) {
      directory?.[Symbol.dispose]();
      throw error;
    }
  }

  /** What the device says of itself. */
  async device(): Promise<Record<string, unknown>> {
    return (await this.server.status()).device as Record<string, unknown>;
  }

  /** A counter of the device. */
  async count(name: string): Promise<number> {
    const { frames } = await this.device();
    return (frames as Record<string, number>)[name];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    this.#directory?.[Symbol.dispose]();
  }
}

/** How a {@linkcode NetGuest} is made. */
export interface NetGuestOptions {
  /** Features to accept of those offered (default: all but MQ). */
  readonly features?: bigint;
  /** Rings to configure (default 3: a pair and the control queue). */
  readonly rings?: number;
  /** Entries of each ring (default 256). */
  readonly size?: number;
  /** Whether completions carry the written bytes (default true). */
  readonly copy?: boolean;
}

/** The driver of a network device. */
export class NetGuest implements Disposable {
  readonly guest: Guest;

  private constructor(guest: Guest) {
    this.guest = guest;
  }

  /** Connects and starts all rings. */
  static async run(
    socket: string,
    options: NetGuestOptions = {},
  ): Promise<NetGuest> {
    const { features = ~featureMask(NetFeature.MQ), rings = 3, size = 256 } =
      options;
    const { copy } = options;
    const guest = await Guest.run(socket, { features, rings, size, copy });
    return new NetGuest(guest);
  }

  /** Features that were accepted. */
  get features(): bigint {
    return this.guest.frontEnd.features;
  }

  /** Bytes of the virtio header. */
  get headerSize(): number {
    return hasFeature(this.features, VERSION_1) ||
        hasFeature(this.features, NetFeature.MRG_RXBUF)
      ? 12
      : 10;
  }

  /** Makes receive buffers available. */
  fill(count: number, size = 1526, pair = 0): void {
    const driver = this.guest.drivers[2 * pair];
    for (let i = 0; i < count; i++) {
      if (driver.submit([{ writable: size }], { flush: i === count - 1 }) < 0) {
        throw new Error("the receive ring is full");
      }
    }
    if (driver.kickNeeded()) this.guest.frontEnd.kick(2 * pair);
  }

  /** Sends frames without a word in their headers; does not wait. */
  send(frames: readonly Uint8Array[], pair = 0): void {
    const ring = 2 * pair + 1;
    const driver = this.guest.drivers[ring];
    for (const frame of frames) {
      const header = new Uint8Array(this.headerSize);
      const buffers = [{ readable: header }, { readable: frame }];
      const indirect = hasFeature(this.features, INDIRECT_DESC);
      if (driver.submit(buffers, { indirect }) < 0) {
        throw new Error("the transmit ring is full");
      }
    }
    if (driver.kickNeeded()) this.guest.frontEnd.kick(ring);
  }

  /** Waits until frames that were sent came back from the device. */
  async sent(count: number, pair = 0): Promise<void> {
    await this.guest.complete(count, 2 * pair + 1);
  }

  /** Waits for frames, each in one buffer. */
  async receive(count: number, pair = 0): Promise<Uint8Array[]> {
    const done = await this.guest.complete(count, 2 * pair);
    return done.map(({ data, length }) => data.slice(this.headerSize, length));
  }

  /** A command on the control queue; its answer. */
  async control(
    index: number,
    kind: number,
    command: number,
    data: readonly number[],
  ): Promise<number> {
    const driver = this.guest.drivers[index];
    driver.submit([
      { readable: new Uint8Array([kind, command]) },
      { readable: new Uint8Array(data) },
      { writable: 1 },
    ]);
    if (driver.kickNeeded()) this.guest.frontEnd.kick(index);
    const [{ data: answer }] = await this.guest.complete(1, index);
    return answer[0];
  }

  [Symbol.dispose](): void {
    this.guest[Symbol.dispose]();
  }
}

/** Feature sets of drivers: all that matters for how frames are laid out. */
export const DRIVERS: readonly { name: string; features: bigint }[] = [
  { name: "modern", features: ~featureMask(NetFeature.MQ) },
  {
    name: "modern, unmerged, no event index",
    features: ~featureMask(NetFeature.MQ, NetFeature.MRG_RXBUF, EVENT_IDX),
  },
  {
    name: "legacy",
    features: ~featureMask(NetFeature.MQ, VERSION_1, NetFeature.MRG_RXBUF),
  },
  {
    name: "legacy, merged",
    features: ~featureMask(NetFeature.MQ, VERSION_1),
  },
  {
    name: "with nothing",
    features: featureMask(PROTOCOL_FEATURES),
  },
];
