/**
 * A machine with FreeBSD in it: a served network device that echoes, QEMU's part,
 * and the driver's model on top.
 *
 * @module
 */

import { serve, type Server } from "../../../host/serve.ts";
import { FrontEnd, SharedRegion } from "../../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { MessageBuffer } from "../freebsd/kernel.ts";
import { PhysicalMemory, type PhysicalSegment } from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import { type Attachment, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VirtioNetPci } from "../qemu/virtio_net_pci.ts";
import { vhostUserNetModel } from "../qemu/vhost_user_net.ts";
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import { Vtnet } from "./driver.ts";

const MAC = [0x58, 0x9c, 0xfc, 0, 0, 1];
const MIB = 2 ** 20, GIB = 2 ** 30;
const LOW: PhysicalSegment = { start: 0, size: 8 * MIB };
const HIGH: PhysicalSegment = { start: 4 * GIB, size: 56 * MIB };
const MANAGED = [HIGH, { start: MIB, size: LOW.size - MIB }];

/** What the server says of itself. */
export interface ServerStatus {
  readonly session: {
    readonly refused: number;
    readonly ignored: number;
    readonly lastError: string | null;
  } | null;
  readonly rings: readonly Record<string, unknown>[];
  readonly device: {
    readonly mac: string | null;
    readonly queuePairs: number;
    readonly receiveOffloads: readonly string[];
    readonly filter: Record<string, unknown>;
    readonly frames: Record<string, unknown>;
  };
}

/** What is served, and to whom. */
export interface NetMachineOptions {
  /** The release that runs. */
  readonly release: FreeBsdRelease;
  /** How the device is attached. */
  readonly attachment: Attachment;
  /** Options of the device, beside its backend. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Offer indirect descriptors (default true). */
  readonly indirect?: boolean;
  /** Queue pairs of the device (default 1). */
  readonly pairs?: number;
  /** QEMU's virtio-net-pci, which answers commands itself (default false). */
  readonly qemuAnswers?: boolean;
  /** Processors of the machine (default 1). */
  readonly cpus?: number;
}

/** A running machine. */
export class VtnetMachine implements AsyncDisposable {
  /** The release that runs. */
  readonly release: FreeBsdRelease;
  /** The server under test. */
  readonly server: Server;
  /** The device has a control queue, and it is the back-end's. */
  readonly controlQueue: boolean;
  /** QEMU answers the control queue, and the back-end does not see it. */
  readonly qemuAnswers: boolean;
  /** QEMU's device. */
  readonly device: VhostUserPci | VirtioNetPci;
  /** Verbose boot messages. */
  readonly dmesg = new MessageBuffer();
  /** The kernel's memory. */
  readonly memory: PhysicalMemory;
  /** `virtio_pci0`. */
  readonly bus: VirtioPci;
  /** `vtnet0`. */
  driver: Vtnet;
  readonly #cpus: number;
  readonly #regions: readonly SharedRegion[];
  readonly #directory: TemporaryDirectory;

  private constructor(
    given: NetMachineOptions,
    server: Server,
    device: VhostUserPci | VirtioNetPci,
    regions: readonly SharedRegion[],
    directory: TemporaryDirectory,
  ) {
    const { release, attachment, cpus = 1, options } = given;
    this.release = release;
    this.qemuAnswers = given.qemuAnswers ?? false;
    this.controlQueue = options?.ctrlVq !== false && !this.qemuAnswers;
    this.server = server;
    this.device = device;
    this.#regions = regions;
    this.#directory = directory;
    this.#cpus = cpus;
    this.memory = new PhysicalMemory(new FakeMemory(regions), MANAGED);
    this.bus = new VirtioPci(this, attachment);
    this.driver = this.newDriver();
  }

  /** Serves a device and connects QEMU to it; nothing is attached yet. */
  static async start(options: NetMachineOptions): Promise<VtnetMachine> {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(TemporaryDirectory.make("freebsd"));
    const socket = directory.file("net.sock");
    const { pairs = 1, attachment, indirect } = options;
    const server = undo.use(
      await serve({
        device: new URL("../../../backends/net/mod.ts", import.meta.url),
        options: {
          backend: "echo",
          mac: "58:9c:fc:00:00:01",
          queues: pairs,
          ...options.options,
        },
        socket,
        indirect,
        signals: false,
        logLevel: "error",
      }),
    );
    const regions = [LOW, HIGH].map(({ start, size }) =>
      undo.use(SharedRegion.create(start, size))
    );
    const frontEnd = FrontEnd.connect(socket);
    const device = options.qemuAnswers
      ? await VirtioNetPci.realize(
        frontEnd,
        MAC,
        pairs,
        attachment.modern,
        regions,
      )
      : await VhostUserPci.realize(
        frontEnd,
        vhostUserNetModel(pairs, options.options?.ctrlVq !== false),
        attachment.modern,
        regions,
      );
    undo.move();
    return new VtnetMachine(options, server, device, regions, directory);
  }

  /** `vtnet0` before it is attached: what `kldload` brings. */
  newDriver(): Vtnet {
    return new Vtnet(this.#cpus, this.release);
  }

  /** The server's view, when it has done all that QEMU told it. */
  async status(): Promise<ServerStatus> {
    await this.device.frontEnd.getFeatures();
    return await this.server.status() as unknown as ServerStatus;
  }

  /** Disconnects QEMU and stops the server. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    await this.server.stop();
    for (const region of this.#regions) region[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}
