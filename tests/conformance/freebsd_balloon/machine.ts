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
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import { VHOST_USER_BALLOON } from "../qemu/vhost_user_test_device.ts";
import { Vtballoon } from "./driver.ts";
import type { VtballoonProfile } from "./profiles.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;
/** Memory below 4 GiB. */
const LOW: PhysicalSegment = { start: 0, size: 8 * MIB };
/** Memory above 4 GiB: page numbers of more than 20 bits. */
const HIGH: PhysicalSegment = { start: 4 * GIB, size: 40 * MIB };
/** What the kernel manages: not the first MiB. */
const MANAGED = [HIGH, { start: MIB, size: LOW.size - MIB }];
/** All memory of the machine, in bytes. */
export const MEMORY: number = LOW.size + HIGH.size;

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
  /** QEMU's device. */
  readonly device: VhostUserPci;
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
  readonly #regions: readonly SharedRegion[];
  readonly #ram: FakeMemory;
  readonly #directory: TemporaryDirectory;

  private constructor(
    profile: VtballoonProfile,
    attachment: Attachment,
    server: Server,
    device: VhostUserPci,
    regions: readonly SharedRegion[],
    directory: TemporaryDirectory,
  ) {
    this.profile = profile;
    this.attachment = attachment;
    this.server = server;
    this.device = device;
    this.#regions = regions;
    this.#ram = new FakeMemory(regions);
    this.#directory = directory;
    this.powerOn();
  }

  /** Serves a balloon and connects QEMU to it; nothing is attached yet. */
  static async start(
    profile: VtballoonProfile,
    attachment: Attachment,
    options: Readonly<Record<string, unknown>> = {},
  ): Promise<VtballoonMachine> {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(TemporaryDirectory.make("freebsd"));
    const socket = directory.file("balloon.sock");
    const server = undo.use(
      await serve({
        device: new URL("../../../backends/balloon/mod.ts", import.meta.url),
        options,
        socket,
        signals: false,
        logLevel: "error",
      }),
    );
    const regions = [LOW, HIGH].map(({ start, size }) =>
      undo.use(SharedRegion.create(start, size))
    );
    const device = await VhostUserPci.realize(
      FrontEnd.connect(socket),
      VHOST_USER_BALLOON,
      attachment.modern,
      regions,
    );
    undo.move();
    return new VtballoonMachine(
      profile,
      attachment,
      server,
      device,
      regions,
      directory,
    );
  }

  /** The release that runs. */
  get release(): FreeBsdRelease {
    return this.profile.release;
  }

  /** Space that all memory takes on the host, in bytes. */
  get allocated(): number {
    return this.#regions.reduce(
      (sum, { fd }) => sum + statFd(fd).blocks * 512,
      0,
    );
  }

  /** A new kernel, which knows nothing of what was. */
  powerOn(): void {
    this.memory = new PhysicalMemory(this.#ram, MANAGED);
    this.bus = new VirtioPci(this, this.attachment);
    this.driver = this.newDriver();
    this.programs.clear();
    for (const region of this.#regions) region.bytes.fill(0x11);
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

  /** Asks for a target, on the host: what `ctl` does. */
  async setTarget(size: string): Promise<number> {
    await this.server.command("balloon-set", { size });
    return (await this.status()).device.target / PAGE_SIZE;
  }

  /** The server's view, when it has done all that QEMU told it. */
  async status(): Promise<ServerStatus> {
    await this.device.frontEnd.getFeatures();
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
    for (const region of this.#regions) region[Symbol.dispose]();
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
