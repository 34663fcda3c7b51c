/**
 * A SCSI host that is really served, and a guest made of our own
 * front-end and driver: what the protocol tests of SCSI are written with.
 *
 * @module
 */

import {
  type Answer,
  parseAnswer,
  requestHead,
  type SendOptions,
} from "../../backends/scsi/testing/bench.ts";
import { serve, type Server } from "../../host/serve.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Guest, type GuestOptions } from "./disk.ts";

export { lunField, taskManagement } from "../../backends/scsi/testing/bench.ts";

const MODULE = new URL("../../backends/scsi/mod.ts", import.meta.url);
/** Indices of the control queue, the event queue, the first request queue. */
export const CONTROL = 0, EVENTS = 1, REQUESTS = 2;
/** Size of the images in bytes. */
export const IMAGE_SIZE: number = 4 << 20;

/** Images in a temporary directory, served as logical units of one SCSI host. */
export class ServedHba implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  readonly #ownsDirectory: boolean;
  readonly server: Server;

  private constructor(
    directory: TemporaryDirectory,
    ownsDirectory: boolean,
    server: Server,
  ) {
    this.#directory = directory;
    this.#ownsDirectory = ownsDirectory;
    this.server = server;
  }

  /** Serves a SCSI host; without `luns` it has one disk, `disk.img`. */
  static async start(
    options: Readonly<Record<string, unknown>> = {},
    shared?: TemporaryDirectory,
    { lockPatience }: {
      /** How long (ms) the lock of an image is waited for. */
      lockPatience?: number;
    } = {},
  ): Promise<ServedHba> {
    const directory = shared ?? TemporaryDirectory.make("scsi");
    try {
      const path = imageIn(directory, "disk.img");
      const server = await serve({
        device: MODULE,
        options: options.luns === undefined ? { path, ...options } : options,
        socket: directory.file("scsi.sock"),
        name: "scsi",
        logLevel: "error",
        lockPatience,
        signals: false,
      });
      return new ServedHba(directory, shared === undefined, server);
    } catch (error) {
      if (shared === undefined) directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Path of the socket. */
  get socket(): string {
    return this.#directory.file("scsi.sock");
  }

  /** Makes an image of zeroes, unless it is there; its path. */
  image(name: string): string {
    return imageIn(this.#directory, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    if (this.#ownsDirectory) this.#directory[Symbol.dispose]();
  }
}

function imageIn(directory: TemporaryDirectory, name: string): string {
  const path = directory.file(name);
  try {
    Deno.statSync(path);
  } catch {
    Deno.writeFileSync(path, new Uint8Array(IMAGE_SIZE));
  }
  return path;
}

/** An event of the event queue. */
export interface ScsiEvent {
  readonly event: number;
  readonly target: number;
  readonly lun: number;
  readonly reason: number;
}

/** A driver of a SCSI host. */
export class ScsiGuest implements Disposable {
  readonly guest: Guest;

  private constructor(guest: Guest) {
    this.guest = guest;
  }

  /** Connects and starts all rings. */
  static async run(
    socket: string,
    options: GuestOptions & { queues?: number } = {},
  ): Promise<ScsiGuest> {
    const rings = REQUESTS + (options.queues ?? 1);
    return new ScsiGuest(await Guest.run(socket, { ...options, rings }));
  }

  /** Makes a command available; its token. */
  send(cdb: readonly number[], options: SendOptions = {}): number {
    const { out, room = 0, senseSize = 96, queue = 0 } = options;
    const ring = REQUESTS + queue;
    const driver = this.guest.drivers[ring];
    const token = driver.submit([
      { readable: requestHead(cdb, options) },
      ...(out === undefined ? [] : [{ readable: out }]),
      { writable: 12 + senseSize },
      ...(room === 0 ? [] : [{ writable: room }]),
    ], { indirect: true });
    if (driver.kickNeeded()) this.guest.frontEnd.kick(ring);
    return token;
  }

  /** The answers of `count` commands, by token. */
  async answers(count: number, queue = 0): Promise<Map<number, Answer>> {
    const done = await this.guest.complete(count, REQUESTS + queue);
    return new Map(done.map((one) => [one.token, parseAnswer(one)]));
  }

  /** One command, from submission to answer. */
  async command(
    cdb: readonly number[],
    options: SendOptions = {},
  ): Promise<Answer> {
    const token = this.send(cdb, options);
    return (await this.answers(1, options.queue)).get(token)!;
  }

  /** Repeats TEST UNIT READY until all unit attention conditions are gone. */
  async settle(options: SendOptions = {}): Promise<number[]> {
    const seen: number[] = [];
    for (;;) {
      const { sense } = await this.command([0, 0, 0, 0, 0, 0], options);
      if (sense?.key !== 6) return seen;
      seen.push(sense.asc);
    }
  }

  /** A request on the control queue: what the device wrote. */
  async control(request: Uint8Array, room = 1): Promise<Uint8Array> {
    const driver = this.guest.drivers[CONTROL];
    driver.submit([{ readable: request }, { writable: room }]);
    if (driver.kickNeeded()) this.guest.frontEnd.kick(CONTROL);
    const [{ data }] = await this.guest.complete(1, CONTROL);
    return data;
  }

  /** Provides buffers for events. */
  provideEvents(count: number): void {
    const driver = this.guest.drivers[EVENTS];
    for (let i = 0; i < count; i++) driver.submit([{ writable: 16 }]);
    if (driver.kickNeeded()) this.guest.frontEnd.kick(EVENTS);
  }

  /** The next event. */
  async event(): Promise<ScsiEvent> {
    const [{ data }] = await this.guest.complete(1, EVENTS);
    const view = new DataView(data.buffer, data.byteOffset);
    return {
      event: view.getUint32(0, true),
      target: data[5],
      lun: (data[6] & 0x3f) << 8 | data[7],
      reason: view.getUint32(12, true),
    };
  }

  [Symbol.dispose](): void {
    this.guest[Symbol.dispose]();
  }
}
