/**
 * A balloon that is really served, and a guest made of our own front-end and
 * driver, whose memory is a memfd: what the tests of the balloon are written
 * with.
 *
 * @module
 */

import { serve, type Server } from "../../host/serve.ts";
import { statFd } from "../../sys/statx.ts";
import type { UnixSocket } from "../../sys/unix_socket.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import {
  type Completion,
  type FakeBuffer,
  FakeDriver,
  FakeMemory,
} from "../../virtqueue/testing/driver.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";

/** Bytes of a page of the balloon. */
export const PAGE = 4096;
/** Guest address of the memory with the rings. */
const RING_BASE = 0x10_0000;
/** Guest address of the memory that goes into the balloon. */
export const DATA_BASE = 0x4000_0000;
/** The first page of it. */
export const FIRST_PAGE: number = DATA_BASE / PAGE;

/** Queues as QEMU numbers them when all features are negotiated. */
export const INFLATE = 0, DEFLATE = 1, STATS = 2, REPORTING = 3;

const MODULE = new URL("../../backends/balloon/mod.ts", import.meta.url);

/** A balloon, served on a socket. */
export class ServedBalloon implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  /** The server itself. */
  readonly server: Server;

  private constructor(directory: TemporaryDirectory, server: Server) {
    this.#directory = directory;
    this.server = server;
  }

  /** Serves a balloon. */
  static async start(
    options: Readonly<Record<string, unknown>> = {},
  ): Promise<ServedBalloon> {
    const directory = TemporaryDirectory.make("balloon");
    try {
      const server = await serve({
        device: MODULE,
        options,
        socket: directory.file("balloon.sock"),
        name: "balloon",
        logLevel: "error",
        signals: false,
      });
      return new ServedBalloon(directory, server);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Path of the socket. */
  get socket(): string {
    return this.#directory.file("balloon.sock");
  }

  /** What the device says of itself. */
  async status(): Promise<BalloonStatus> {
    return (await this.server.status()).device as BalloonStatus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    this.#directory[Symbol.dispose]();
  }
}

/** The part of the device's status that tests look at. */
export interface BalloonStatus {
  readonly memory: number;
  readonly target: number;
  readonly actual: number;
  readonly reclaimed: number;
  readonly progress: number;
  readonly inhibited: boolean;
  readonly waiting: number;
  readonly poison: number | null;
  readonly stats: Readonly<Record<string, number>>;
  readonly requests: {
    readonly completed: number;
    readonly inflatedPages: number;
    readonly deflatedPages: number;
    readonly badPages: number;
    readonly reportedBytes: number;
    readonly keptBytes: number;
    readonly discardedBytes: number;
    readonly discards: number;
    readonly statistics: number;
    readonly refused: Readonly<Record<string, number>>;
    readonly errors: Readonly<Record<string, number>>;
  };
}

/** How a {@linkcode BalloonGuest} is made. */
export interface BalloonGuestOptions {
  /** Queues to configure (default: inflate, deflate, statistics, reports). */
  readonly queues?: readonly number[];
  /** Virtio features to accept of those offered (default: all). */
  readonly features?: bigint;
  /** Bytes of memory beside that of the rings (default 16 MiB). */
  readonly memory?: number;
  /** Offset of that memory in its memfd (default 0). */
  readonly fileOffset?: number;
  /** That memory has huge pages (default false). */
  readonly hugetlb?: boolean;
  /** Entries of each ring (default 128). */
  readonly size?: number;
}

/** Little-endian page numbers. */
export function pfns(pages: Iterable<number>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.from(pages).buffer);
}

/** Numbers of consecutive pages. */
export function pages(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

/** A front-end with memory and drivers of a balloon's rings. */
export class BalloonGuest implements Disposable {
  readonly frontEnd: FrontEnd;
  /** Memory that goes into the balloon: every byte is 0xaa at first. */
  readonly data: SharedRegion;
  readonly drivers = new Map<number, FakeDriver>();
  readonly #rings = SharedRegion.create(RING_BASE, 8 << 20);

  private constructor(frontEnd: FrontEnd, options: BalloonGuestOptions) {
    this.frontEnd = frontEnd;
    const { memory = 16 << 20, fileOffset, hugetlb } = options;
    this.data = SharedRegion.create(DATA_BASE, memory, { fileOffset, hugetlb });
    this.data.bytes.fill(0xaa);
  }

  /**
   * Connects and starts the rings.
   *
   * @param socket its path, or one that is connected, which is taken over
   */
  static async run(
    socket: string | UnixSocket,
    options: BalloonGuestOptions = {},
  ): Promise<BalloonGuest> {
    const frontEnd = FrontEnd.connect(socket);
    const guest = new BalloonGuest(frontEnd, options);
    try {
      await frontEnd.handshake({ features: options.features });
      const memory = new FakeMemory([guest.#rings]);
      const eventIdx = (frontEnd.features >> 29n & 1n) === 1n;
      const { size = 128 } = options;
      const queues = options.queues ?? [INFLATE, DEFLATE, STATS, REPORTING];
      for (const queue of queues) {
        guest.drivers.set(
          queue,
          new FakeDriver(memory, { size, eventIdx, copy: false }),
        );
      }
      await guest.start();
      return guest;
    } catch (error) {
      guest[Symbol.dispose]();
      throw error;
    }
  }

  /** Starts the rings where they stood. */
  async start(positions: Readonly<Record<number, number>> = {}): Promise<void> {
    await this.frontEnd.start([this.#rings, this.data], this.drivers, {
      positions,
    });
  }

  /** Space that the memory takes on the host, in bytes. */
  get allocated(): number {
    return statFd(this.data.fd).blocks * 512;
  }

  /** The driver of a queue. */
  driver(queue: number): FakeDriver {
    return this.drivers.get(queue)!;
  }

  /** Makes a chain available; its token. */
  submit(queue: number, ...buffers: readonly FakeBuffer[]): number {
    const driver = this.driver(queue);
    const indirect = buffers.length > 1;
    const token = driver.submit(buffers, { indirect });
    if (token < 0) throw new Error(`Ring ${queue} is full`);
    if (driver.kickNeeded()) this.frontEnd.kick(queue);
    return token;
  }

  /** Waits for completions until there are `count`. */
  async complete(queue: number, count = 1): Promise<Completion[]> {
    const driver = this.driver(queue);
    const done: Completion[] = [];
    while (done.length < count) {
      done.push(...driver.reap());
      if (done.length >= count || driver.enableInterrupt()) continue;
      await this.frontEnd.waitCall(queue);
    }
    return done;
  }

  /** One request, from submission to completion. */
  async request(
    queue: number,
    ...buffers: readonly FakeBuffer[]
  ): Promise<Completion> {
    this.submit(queue, ...buffers);
    const [done] = await this.complete(queue);
    return done;
  }

  /** Puts pages into the balloon, 256 at a time. */
  async inflate(list: readonly number[]): Promise<void> {
    for (let i = 0; i < list.length; i += 256) {
      await this.request(INFLATE, { readable: pfns(list.slice(i, i + 256)) });
    }
  }

  /** Takes pages out of the balloon, 256 at a time. */
  async deflate(list: readonly number[]): Promise<void> {
    for (let i = 0; i < list.length; i += 256) {
      await this.request(DEFLATE, { readable: pfns(list.slice(i, i + 256)) });
    }
  }

  /** Reports ranges of whole pages as free. */
  async report(
    ...ranges: readonly (readonly [page: number, count: number])[]
  ): Promise<void> {
    await this.request(
      REPORTING,
      ...ranges.map(([page, count]) => ({
        address: page * PAGE,
        length: count * PAGE,
        write: true,
      })),
    );
  }

  /** Writes `actual`, as QEMU does: the whole space. */
  async writeActual(value: number): Promise<void> {
    const config = (await this.frontEnd.getConfig(0, 16)).slice();
    new DataView(config.buffer).setUint32(4, value, true);
    await this.frontEnd.setConfig(0, config);
  }

  /** `num_pages` and `actual`. */
  async config(): Promise<number[]> {
    const bytes = (await this.frontEnd.getConfig(0, 8)).slice();
    return [...new Uint32Array(bytes.buffer)];
  }

  [Symbol.dispose](): void {
    this.frontEnd.close();
    this.data[Symbol.dispose]();
    this.#rings[Symbol.dispose]();
  }
}
