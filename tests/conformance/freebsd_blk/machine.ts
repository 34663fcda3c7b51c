/**
 * A machine with FreeBSD in it: vhostd with an image, QEMU's part, and the
 * driver's model on top.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { serve, type Server } from "../../../host/serve.ts";
import { FrontEnd, SharedRegion } from "../../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { MessageBuffer } from "../freebsd/kernel.ts";
import {
  type KernelBuffer,
  type PagePlacement,
  PhysicalMemory,
} from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import { type Attachment, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VHOST_USER_BLK } from "../qemu/vhost_user_blk.ts";
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import type { Bio, BioRequest, Disk } from "./disk.ts";
import { Vtblk } from "./driver.ts";
import type { VtblkProfile } from "./profiles.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;
/** Memory below and above 4 GiB, as a guest of 5 GiB or more has it. */
const LOW = { start: 0, size: 8 * MIB };
const HIGH = { start: 4 * GIB, size: 40 * MIB };
/** What the kernel manages: not the first MiB; high memory is preferred. */
const MANAGED = [HIGH, { start: MIB, size: LOW.size - MIB }];

/** Device identification of all machines: 20 characters, no room for a NUL. */
export const SERIAL = "vhostd-serial-000020";

/** The disk that is served. */
export interface DiskSpec {
  /** Size of the sparse image in bytes (default 5 GiB). */
  readonly imageBytes?: number;
  /** Options of the block device beside path and serial. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Offer indirect descriptors (default true). */
  readonly indirect?: boolean;
}

/** What the server says of the device. */
export interface DeviceStatus {
  readonly cache: string;
  readonly requests: {
    readonly flushes: number;
    readonly durableWrites: number;
    readonly completed: number;
    readonly refused: Record<string, number>;
    readonly errors: Record<string, number>;
  };
}

/** What the server says of itself. */
export interface ServerStatus {
  readonly session: {
    readonly refused: number;
    readonly ignored: number;
    readonly lastError: string | null;
    readonly rings: readonly { readonly running: boolean }[];
  } | null;
  readonly rings: readonly Record<string, unknown>[];
  readonly device: DeviceStatus;
}

/** Bytes that are different for each seed and do not repeat. */
export function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** A running machine. */
export class VtblkMachine implements AsyncDisposable {
  /** The driver's release. */
  readonly profile: VtblkProfile;
  /** How the device is attached. */
  readonly attachment: Attachment;
  /** What is served. */
  readonly spec: DiskSpec;
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
  /** `vtblk0`. */
  driver!: Vtblk;
  readonly #ram: FakeMemory;
  readonly #regions: readonly SharedRegion[];
  readonly #directory: TemporaryDirectory;

  private constructor(
    profile: VtblkProfile,
    attachment: Attachment,
    spec: DiskSpec,
    server: Server,
    device: VhostUserPci,
    regions: readonly SharedRegion[],
    directory: TemporaryDirectory,
  ) {
    this.profile = profile;
    this.attachment = attachment;
    this.spec = spec;
    this.server = server;
    this.device = device;
    this.#regions = regions;
    this.#directory = directory;
    this.#ram = new FakeMemory(regions);
    this.powerOn();
  }

  /** Serves an image and connects QEMU to it; nothing is attached yet. */
  static async start(
    profile: VtblkProfile,
    attachment: Attachment,
    spec: DiskSpec,
  ): Promise<VtblkMachine> {
    const directory = TemporaryDirectory.make("freebsd");
    const path = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    await Deno.writeFile(path, new Uint8Array(0));
    await Deno.truncate(path, spec.imageBytes ?? 5 * GIB);
    const server = await serve({
      device: new URL("../../../backends/blk/mod.ts", import.meta.url),
      options: { path, serial: SERIAL, ...spec.options },
      socket,
      indirect: spec.indirect,
      signals: false,
      logLevel: "error",
    });
    const regions = [LOW, HIGH].map(({ start, size }) =>
      SharedRegion.create(start, size)
    );
    const device = await VhostUserPci.realize(
      FrontEnd.connect(socket),
      VHOST_USER_BLK,
      regions,
    );
    return new VtblkMachine(
      profile,
      attachment,
      spec,
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

  /** `vtbd0`. */
  get disk(): Disk {
    return this.driver.disk!;
  }

  /** Path of the image. */
  get image(): string {
    return this.#directory.file("disk.img");
  }

  /** A new kernel, which knows nothing of what was. */
  powerOn(): void {
    this.memory = new PhysicalMemory(this.#ram, MANAGED);
    this.bus = new VirtioPci(this, this.attachment);
    this.driver = this.newDriver();
  }

  /** `vtblk0` before it is attached: what `kldload` brings. */
  newDriver(): Vtblk {
    return new Vtblk(
      this.profile,
      (message) => this.dmesg.print("vtblk0", message),
    );
  }

  /** Attaches bus and driver: a boot. */
  async boot(): Promise<number> {
    await this.bus.attach();
    return await this.bus.attachChild(this.driver);
  }

  /** A buffer with data in it. */
  buffer(
    data: Uint8Array,
    placement?: PagePlacement,
    offset?: number,
  ): KernelBuffer {
    const buffer = this.memory.buffer(data.length, placement, offset);
    buffer.write(data);
    return buffer;
  }

  /**
   * Does I/O and waits for it.
   *
   * @returns the error of the last part that failed, or 0
   */
  async io(...requests: BioRequest[]): Promise<number> {
    const bios = requests.flatMap((request) => this.disk.start(request));
    await this.driver.wait(bios);
    return errorOf(bios);
  }

  /** Writes data. */
  async write(
    offset: number,
    data: Uint8Array,
    placement?: PagePlacement,
    pageOffset?: number,
  ): Promise<number> {
    using buffer = this.buffer(data, placement, pageOffset);
    const error = await this.io({ command: "write", offset, data: buffer });
    assertEquals(buffer.read(), data, "the device wrote to a buffer to read");
    buffer.checkSurroundings();
    return error;
  }

  /** Reads data. */
  async read(
    offset: number,
    length: number,
    placement?: PagePlacement,
    pageOffset?: number,
  ): Promise<Uint8Array<ArrayBuffer>> {
    using buffer = this.memory.buffer(length, placement, pageOffset);
    const error = await this.io({ command: "read", offset, data: buffer });
    assertEquals(error, 0, `read of ${length} bytes at ${offset}`);
    buffer.checkSurroundings();
    return buffer.read();
  }

  /** Bytes of the image, as the host sees them. */
  async hostRead(
    offset: number,
    length: number,
  ): Promise<Uint8Array<ArrayBuffer>> {
    using file = await Deno.open(this.image);
    await file.seek(offset, Deno.SeekMode.Start);
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length;) {
      const n = await file.read(bytes.subarray(at));
      if (n === null) throw new Error(`The image ends before ${offset + at}`);
      at += n;
    }
    return bytes;
  }

  /** Writes to the image behind the guest's back. */
  async hostWrite(offset: number, bytes: Uint8Array): Promise<void> {
    using file = await Deno.open(this.image, { write: true });
    await file.seek(offset, Deno.SeekMode.Start);
    for (let at = 0; at < bytes.length;) {
      at += await file.write(bytes.subarray(at));
    }
  }

  /**
   * The server's view. When it arrives, the device has done all that it had
   * begun when it was asked for.
   */
  async status(): Promise<ServerStatus> {
    return await this.server.status() as unknown as ServerStatus;
  }

  /** Disconnects QEMU and stops the server. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.device.frontEnd.close();
    await this.server.stop();
    for (const region of this.#regions) region[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

/** The error of an I/O: that of its last part that failed. */
export function errorOf(bios: readonly Bio[]): number {
  return bios.findLast((bio) => bio.error !== 0)?.error ?? 0;
}
