/**
 * A machine with FreeBSD in it: vhostd with logical units, QEMU's part, the
 * driver's model, and as much of CAM as a probe needs.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { serve, type Server } from "../../../host/serve.ts";
import { FrontEnd, SharedRegion } from "../../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { MessageBuffer } from "../freebsd/kernel.ts";
import { PhysicalMemory, type PhysicalSegment } from "../freebsd/memory.ts";
import type { FreeBsdRelease } from "../freebsd/releases.ts";
import { type Attachment, VirtioPci } from "../freebsd/virtio_pci.ts";
import { VhostUserPci } from "../qemu/vhost_user_pci.ts";
import { VHOST_USER_SCSI } from "../qemu/vhost_user_scsi.ts";
import { type CcbResult, Vtscsi } from "./driver.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;
const LOW: PhysicalSegment = { start: 0, size: 8 * MIB };
const HIGH: PhysicalSegment = { start: 4 * GIB, size: 40 * MIB };
const MANAGED = [HIGH, { start: MIB, size: LOW.size - MIB }];
/** Size of each image in bytes. */
export const IMAGE_SIZE: number = 64 * MIB;

/** A running machine. */
export class VtscsiMachine implements AsyncDisposable {
  readonly release: FreeBsdRelease;
  readonly attachment: Attachment;
  readonly server: Server;
  readonly device: VhostUserPci;
  readonly dmesg = new MessageBuffer();
  memory!: PhysicalMemory;
  bus!: VirtioPci;
  driver!: Vtscsi;
  readonly #regions: readonly SharedRegion[];
  readonly #directory: TemporaryDirectory;

  private constructor(
    release: FreeBsdRelease,
    attachment: Attachment,
    server: Server,
    device: VhostUserPci,
    regions: readonly SharedRegion[],
    directory: TemporaryDirectory,
  ) {
    this.release = release;
    this.attachment = attachment;
    this.server = server;
    this.device = device;
    this.#regions = regions;
    this.#directory = directory;
    this.powerOn();
  }

  /**
   * Serves disks as target 0, LUN 0 and 2, and as target 5, LUN 0; connects
   * QEMU; nothing is attached yet.
   */
  static async start(
    release: FreeBsdRelease,
    attachment: Attachment,
  ): Promise<VtscsiMachine> {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(TemporaryDirectory.make("vtscsi"));
    const luns = [[0, 0], [0, 2], [5, 0]].map(([target, lun]) => {
      const path = directory.file(`${target}-${lun}.img`);
      Deno.writeFileSync(path, new Uint8Array());
      Deno.truncateSync(path, IMAGE_SIZE);
      return { target, lun, path, serial: `SN${target}${lun}` };
    });
    const socket = directory.file("scsi.sock");
    const server = undo.use(
      await serve({
        device: new URL("../../../backends/scsi/mod.ts", import.meta.url),
        options: { luns },
        socket,
        signals: false,
        logLevel: "error",
      }),
    );
    const regions = [LOW, HIGH].map(({ start, size }) =>
      SharedRegion.create(start, size)
    );
    const device = await VhostUserPci.realize(
      FrontEnd.connect(socket),
      VHOST_USER_SCSI,
      attachment.modern,
      regions,
    );
    undo.move();
    return new VtscsiMachine(
      release,
      attachment,
      server,
      device,
      regions,
      directory,
    );
  }

  /** A new kernel. */
  powerOn(): void {
    const ram = new FakeMemory(this.#regions);
    this.memory = new PhysicalMemory(ram, MANAGED);
    this.bus = new VirtioPci(this, this.attachment);
    this.driver = new Vtscsi();
  }

  /** Attaches bus and driver: a boot. */
  async boot(): Promise<void> {
    await this.bus.attach();
    assertEquals(await this.bus.attachChild(this.driver), 0);
  }

  /** Path of an image. */
  image(name: string): string {
    return this.#directory.file(name);
  }

  /**
   * A command with Data-In of `length` bytes. A unit attention condition is
   * retried, as `cam_periph_error` does.
   */
  async command(
    target: number,
    lun: number,
    cdb: readonly number[],
    length = 0,
  ): Promise<CcbResult & { data: Uint8Array<ArrayBuffer> }> {
    for (;;) {
      using dataIn = length > 0 ? this.memory.buffer(length) : undefined;
      const ccb = { target, lun, cdb, dataIn };
      const [result] = await this.driver.scsiIo(ccb);
      dataIn?.checkSurroundings();
      const attention = (result.sense[2] & 0xf) === 6;
      if (result.status === "CAM_SCSI_STATUS_ERROR" && attention) continue;
      const data = dataIn?.read().slice(0, length - result.resid) ??
        new Uint8Array();
      return { ...result, data };
    }
  }

  /** Disconnects QEMU and stops the server. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    await this.server.stop();
    for (const region of this.#regions) region[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}
