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
import type { VirtioPciDevice } from "../freebsd/device.ts";
import { MessageBuffer } from "../freebsd/kernel.ts";
import {
  type KernelBuffer,
  type PagePlacement,
  PhysicalMemory,
  type PhysicalSegment,
} from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import { type Attachment, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VHOST_USER_BLK } from "../qemu/vhost_user_blk.ts";
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import type { Bio, BioRequest, Disk } from "./disk.ts";
import { Vtblk } from "./driver.ts";
import type { VtblkProfile } from "./profiles.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;
/** Memory below and above 4 GiB that is used, of a guest that has both. */
export const LOW: PhysicalSegment = { start: 0, size: 8 * MIB };
/** The part above 4 GiB. */
export const HIGH: PhysicalSegment = { start: 4 * GIB, size: 40 * MIB };
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

/** The hardware around a kernel. */
export interface Hardware {
  /** The disk's device. */
  readonly device: VirtioPciDevice;
  /** {@linkcode LOW} and {@linkcode HIGH}. */
  readonly ram: FakeMemory;
  /** Gives the memory back, when the device is gone. */
  unmap(): void;
}

/** Puts a machine together around a socket that a disk is served on. */
export type MakeHardware = (
  socket: string,
  attachment: Attachment,
  directory: TemporaryDirectory,
) => Promise<Hardware>;

/** The model of QEMU. */
export const modelHardware: MakeHardware = async (socket, { modern }) => {
  const regions = [LOW, HIGH].map(({ start, size }) =>
    SharedRegion.create(start, size)
  );
  const device = await VhostUserPci.realize(
    FrontEnd.connect(socket),
    VHOST_USER_BLK,
    modern,
    regions,
  );
  return {
    device,
    ram: new FakeMemory(regions),
    unmap() {
      for (const region of regions) region[Symbol.dispose]();
    },
  };
};

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
  /** Verbose boot messages, of all boots. */
  readonly dmesg = new MessageBuffer();
  /** The kernel's memory; a reboot makes it anew. */
  memory!: PhysicalMemory;
  /** `virtio_pci0`. */
  bus!: VirtioPci;
  /** `vtblk0`. */
  driver!: Vtblk;
  readonly #hardware: Hardware;
  readonly #directory: TemporaryDirectory;

  private constructor(
    profile: VtblkProfile,
    attachment: Attachment,
    spec: DiskSpec,
    server: Server,
    hardware: Hardware,
    directory: TemporaryDirectory,
  ) {
    this.profile = profile;
    this.attachment = attachment;
    this.spec = spec;
    this.server = server;
    this.#hardware = hardware;
    this.#directory = directory;
    this.powerOn();
  }

  /** Serves an image and connects QEMU to it; nothing is attached yet. */
  static async start(
    profile: VtblkProfile,
    attachment: Attachment,
    spec: DiskSpec,
    makeHardware: MakeHardware = modelHardware,
  ): Promise<VtblkMachine> {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(TemporaryDirectory.make("freebsd"));
    const path = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    await Deno.writeFile(path, new Uint8Array(0));
    await Deno.truncate(path, spec.imageBytes ?? 5 * GIB);
    const server = undo.use(
      await serve({
        device: new URL("../../../backends/blk/mod.ts", import.meta.url),
        options: { path, serial: SERIAL, ...spec.options },
        socket,
        indirect: spec.indirect,
        signals: false,
        logLevel: "error",
      }),
    );
    const hardware = await makeHardware(socket, attachment, directory);
    undo.move();
    return new VtblkMachine(
      profile,
      attachment,
      spec,
      server,
      hardware,
      directory,
    );
  }

  /** The disk's device. */
  get device(): VirtioPciDevice {
    return this.#hardware.device;
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
    this.memory = new PhysicalMemory(this.#hardware.ram, MANAGED);
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
    await this.device.close();
    await this.server.stop();
    this.#hardware.unmap();
    this.#directory[Symbol.dispose]();
  }
}

/** The error of an I/O: that of its last part that failed. */
export function errorOf(bios: readonly Bio[]): number {
  return bios.findLast((bio) => bio.error !== 0)?.error ?? 0;
}
