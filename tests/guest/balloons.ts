/**
 * What tests of balloons in guests share.
 *
 * @module
 */

import { serve, type Server } from "../../host/serve.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import type { BalloonStatus } from "../protocol/balloon.ts";
import { memoryFiles, spaceOf } from "./guest_memory.ts";
import type { Qemu } from "./rig/qemu.ts";

const MODULE = new URL("../../backends/balloon/mod.ts", import.meta.url);

/** QEMU's arguments for a balloon. */
export function vhostUserBalloon(socket: string): string[] {
  const properties = "virtio-id=5,num_vqs=5,vq_size=128,config_size=16";
  return [
    ...["-chardev", `socket,id=balloon,path=${socket}`],
    "-device",
    `vhost-user-test-device-pci,chardev=balloon,${properties}`,
  ];
}

/** A balloon that is served to guests. */
export class GuestBalloon implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  readonly #server: Server;

  private constructor(directory: TemporaryDirectory, server: Server) {
    this.#directory = directory;
    this.#server = server;
  }

  /** Serves a balloon. */
  static async start(
    options: Readonly<Record<string, unknown>> = {},
  ): Promise<GuestBalloon> {
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
      return new GuestBalloon(directory, server);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** QEMU's arguments. */
  get devices(): string[] {
    return vhostUserBalloon(this.#directory.file("balloon.sock"));
  }

  /** What the device says of itself. */
  async status(): Promise<BalloonStatus> {
    return (await this.#server.status()).device as BalloonStatus;
  }

  /** Sets how much memory the guest is to have; the balloon's target. */
  async set(size: string): Promise<number> {
    const status = await this.#server.command("balloon-set", { size });
    return (status as BalloonStatus).target;
  }

  /** New statistics. */
  async stats(): Promise<Readonly<Record<string, number>>> {
    const { stats } = await this.#server.command("stats") as BalloonStatus;
    return stats;
  }

  /** Waits until the driver is where it is to be. */
  async settled(timeout = 60_000): Promise<void> {
    await waitUntil(async () => (await this.status()).progress === 1, {
      what: "the balloon to reach its target",
      timeout,
      interval: 20,
    });
  }

  /** Sets the guest's memory and waits for it; the balloon's bytes. */
  async move(size: string): Promise<number> {
    const target = await this.set(size);
    await this.settled();
    return target;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    this.#directory[Symbol.dispose]();
  }
}

/** Space that the memory of a guest takes on the host, in bytes. */
export function memorySpace(qemu: Qemu): number {
  return spaceOf(memoryFiles(qemu)[0]);
}
