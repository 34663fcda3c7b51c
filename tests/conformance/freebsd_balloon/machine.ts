/**
 * A machine with FreeBSD in it: a served balloon, QEMU's part, and the driver's
 * model on top.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { equals } from "@std/bytes";
import { serve, type Server } from "../../../host/serve.ts";
import { statFd } from "../../../sys/statx.ts";
import { FrontEnd, SharedRegion } from "../../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import type { BalloonStatus } from "../../protocol/balloon.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { MessageBuffer, PAGE_SIZE } from "../freebsd/kernel.ts";
import {
  type KernelBuffer,
  type PagePlacement,
  PhysicalMemory,
  type PhysicalSegment,
} from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import { type Attachment, VirtioPci } from "../freebsd/virtio_pci.ts";
import type { VirtioPciDevice } from "../freebsd/device.ts";
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import { VHOST_USER_BALLOON } from "../qemu/vhost_user_test_device.ts";
import { Vtballoon } from "./driver.ts";
import type { VtballoonProfile } from "./profiles.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;
/** Memory below 4 GiB. */
export const LOW: PhysicalSegment = { start: 0, size: 8 * MIB };
/** Memory above 4 GiB: page numbers of more than 20 bits. */
export const HIGH: PhysicalSegment = { start: 4 * GIB, size: 40 * MIB };
/** What the kernel manages: not the first MiB. */
const MANAGED = [HIGH, { start: MIB, size: LOW.size - MIB }];
/** What of the machine's memory is used, in bytes. */
export const MEMORY: number = LOW.size + HIGH.size;

/** The hardware around a kernel. */
export interface Hardware {
  /** The balloon's device. */
  readonly device: VirtioPciDevice;
  /** {@linkcode LOW} and {@linkcode HIGH}. */
  readonly ram: FakeMemory;
  /** Space that they take on the host, in bytes. */
  allocated(): number;
  /** Waits until the back-end has done all that it was told. */
  settle(): Promise<void>;
  /** Gives the memory back, when the device is gone. */
  unmap(): void;
}

/** Puts a machine together around a socket that a balloon is served on. */
export type MakeHardware = (
  socket: string,
  attachment: Attachment,
) => Promise<Hardware>;

/** The model of QEMU. */
export const modelHardware: MakeHardware = async (socket, { modern }) => {
  const regions = [LOW, HIGH].map(({ start, size }) =>
    SharedRegion.create(start, size)
  );
  const frontEnd = FrontEnd.connect(socket);
  const device = await VhostUserPci.realize(
    frontEnd,
    VHOST_USER_BALLOON,
    modern,
    regions,
  );
  return {
    device,
    ram: new FakeMemory(regions),
    allocated: () =>
      regions.reduce((sum, { fd }) => sum + statFd(fd).blocks * 512, 0),
    async settle() {
      await frontEnd.getFeatures();
    },
    unmap() {
      for (const region of regions) region[Symbol.dispose]();
    },
  };
};

/** How the memory of programs lies. */
const PLACEMENTS: readonly PagePlacement[] = [
  "scattered",
  "pairs",
  "contiguous",
];

/** What the server says of itself. */
export interface ServerStatus {
  readonly session: {
    readonly refused: number;
    readonly ignored: number;
    readonly lastError: string | null;
    readonly rings: readonly { readonly running: boolean }[];
  } | null;
  readonly rings: readonly {
    readonly index: number;
    readonly badChains: number;
    readonly broken: string | null;
    readonly lastError: string | null;
  }[];
  readonly device: BalloonStatus;
}

/** A running machine. */
export class VtballoonMachine implements AsyncDisposable {
  /** The driver's release. */
  readonly profile: VtballoonProfile;
  /** How the device is attached. */
  readonly attachment: Attachment;
  /** The server under test. */
  readonly server: Server;
  /** Verbose boot messages, of all boots. */
  readonly dmesg = new MessageBuffer();
  /** The kernel's memory; a reboot makes it anew. */
  memory!: PhysicalMemory;
  /** `virtio_pci0`. */
  bus!: VirtioPci;
  /** `vtballoon0`. */
  driver!: Vtballoon;
  /** Memory of programs, by what is in it: that must stay. */
  readonly programs = new Map<number, KernelBuffer>();
  readonly #hardware: Hardware;
  readonly #directory: TemporaryDirectory;

  private constructor(
    profile: VtballoonProfile,
    attachment: Attachment,
    server: Server,
    hardware: Hardware,
    directory: TemporaryDirectory,
  ) {
    this.profile = profile;
    this.attachment = attachment;
    this.server = server;
    this.#hardware = hardware;
    this.#directory = directory;
    this.powerOn();
  }

  /** Serves a balloon and connects QEMU to it; nothing is attached yet. */
  static async start(
    profile: VtballoonProfile,
    attachment: Attachment,
    makeHardware: MakeHardware = modelHardware,
  ): Promise<VtballoonMachine> {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(TemporaryDirectory.make("freebsd"));
    const socket = directory.file("balloon.sock");
    const server = undo.use(
      await serve({
        device: new URL("../../../backends/balloon/mod.ts", import.meta.url),
        socket,
        signals: false,
        logLevel: "error",
      }),
    );
    const hardware = await makeHardware(socket, attachment);
    undo.move();
    return new VtballoonMachine(
      profile,
      attachment,
      server,
      hardware,
      directory,
    );
  }

  /** The release that runs. */
  get release(): FreeBsdRelease {
    return this.profile.release;
  }

  /** The balloon's device. */
  get device(): VirtioPciDevice {
    return this.#hardware.device;
  }

  /** Space that the memory in use takes on the host, in bytes. */
  get allocated(): number {
    return this.#hardware.allocated();
  }

  /** A new kernel, which knows nothing of what was. */
  powerOn(): void {
    this.memory = new PhysicalMemory(this.#hardware.ram, MANAGED);
    this.bus = new VirtioPci(this, this.attachment);
    this.driver = this.newDriver();
    this.programs.clear();
    for (const { start, size } of [LOW, HIGH]) {
      this.#hardware.ram.bytes(start, size).fill(0x11);
    }
  }

  /** `vtballoon0` before it is attached: what `kldload` brings. */
  newDriver(): Vtballoon {
    const driver = new Vtballoon(this.profile);
    driver.reserve = 2 * MIB;
    return driver;
  }

  /** Attaches bus and driver, and starts programs: a boot. */
  async boot(): Promise<number> {
    await this.bus.attach();
    const error = await this.bus.attachChild(this.driver);
    for (const [seed, placement] of PLACEMENTS.entries()) {
      const buffer = this.memory.buffer(2 * MIB, placement, 100 * seed);
      buffer.write(stamp(buffer.length, seed));
      this.programs.set(seed, buffer);
    }
    return error;
  }

  /**
   * Asks for a balloon of so many bytes, on the host: what `ctl` does.
   *
   * @returns its pages
   */
  async setBalloon(bytes: number): Promise<number> {
    const { memory } = (await this.status()).device;
    await this.server.command("balloon-set", { size: memory - bytes });
    return (await this.status()).device.target / PAGE_SIZE;
  }

  /** The server's view, when it has done all that QEMU told it. */
  async status(): Promise<ServerStatus> {
    await this.#hardware.settle();
    return await this.server.status() as unknown as ServerStatus;
  }

  /** Checks that programs find what they wrote, and the balloon is what it is. */
  async check(): Promise<void> {
    for (const [seed, buffer] of this.programs) {
      assert(
        equals(buffer.read(), stamp(buffer.length, seed)),
        `the data of program ${seed} changed`,
      );
      buffer.checkSurroundings();
    }
    const { device, rings } = await this.status();
    const bytes = this.driver.current * PAGE_SIZE;
    assertEquals([device.actual, device.reclaimed], [bytes, bytes]);
    assertEquals(rings.map(({ index }) => index), [0, 1], "two rings run");
  }

  /** Disconnects QEMU and stops the server. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    await this.server.stop();
    this.#hardware.unmap();
    this.#directory[Symbol.dispose]();
  }
}

/** Bytes that are different in each place. */
function stamp(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0; i < words.length; i++) {
    words[i] = Math.imul(i + seed * 1e6, 2654435761) | 1;
  }
  return new Uint8Array(words.buffer, 0, length);
}
