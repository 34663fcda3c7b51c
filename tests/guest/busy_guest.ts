/**
 * A Linux guest whose disk works, and whose memory changes meanwhile.
 *
 * @module
 */

import { serve, type Server } from "../../host/serve.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import {
  type LinuxGuest,
  type LinuxMachine,
  startLinuxGuest,
} from "./rig/linux_guest.ts";

const MODULE = new URL("../../backends/blk/mod.ts", import.meta.url);
const MIB = 1 << 20;

/** What {@linkcode BusyGuest} writes to the disk, in bytes. */
const AREA = 16 * MIB;

/** A guest with a disk that works until it is told to stop. */
export class BusyGuest implements AsyncDisposable {
  /** The guest. */
  readonly guest: LinuxGuest;
  /** Its disk: `known` random bytes, then free ones, then what it works on. */
  readonly image: string;
  #server: Server;
  #directory: TemporaryDirectory;

  private constructor(
    guest: LinuxGuest,
    image: string,
    server: Server,
    directory: TemporaryDirectory,
  ) {
    this.guest = guest;
    this.image = image;
    this.#server = server;
    this.#directory = directory;
  }

  /**
   * Starts a guest. Its /dev/vda is written and read with direct I/O, and
   * compared, all the time.
   *
   * @param known random bytes that the disk begins with, whole MiB
   * @param free bytes behind them that nobody uses, whole MiB
   */
  static async start(
    machine: LinuxMachine,
    known: number,
    free: number,
  ): Promise<BusyGuest> {
    const directory = TemporaryDirectory.make("busy");
    const [image, socket] = [directory.file("disk.img"), directory.file("s")];
    await using stack = new AsyncDisposableStack();
    stack.use(directory);
    makeImage(image, known + free + AREA, known);
    const server = stack.use(
      await serve({
        device: MODULE,
        options: { path: image },
        socket,
        name: "blk",
        logLevel: "warn",
        signals: false,
      }),
    );
    const guest = stack.use(
      await startLinuxGuest({
        ...machine,
        devices: [...vhostUserBlk(socket), ...machine.devices ?? []],
      }),
    );
    const first = (known + free) / 65_536;
    await guest.check(
      ": > /tmp/turns; (i=0; while [ ! -e /tmp/stop ]; do " +
        `j=$((${first}+i%64*4)); ` +
        "dd if=/dev/urandom of=/tmp/a bs=64k count=4 2>/dev/null && " +
        "dd if=/tmp/a of=/dev/vda bs=64k seek=$j oflag=direct " +
        "conv=notrunc 2>/dev/null && " +
        "dd if=/dev/vda of=/tmp/b bs=64k skip=$j count=4 iflag=direct " +
        "2>/dev/null && cmp /tmp/a /tmp/b || { touch /tmp/failed; break; }; " +
        "i=$((i+1)); echo >> /tmp/turns; done; touch /tmp/end) " +
        "> /tmp/log 2>&1 &",
    );
    stack.move();
    return new BusyGuest(guest, image, server, directory);
  }

  /** The regions of memory that the device has. */
  async regions(): Promise<{ guestAddress: number; size: number }[]> {
    const { session } = await this.#server.status() as {
      session: { regions: { guestAddress: number; size: number }[] };
    };
    return session.regions;
  }

  /** How often it has been compared. */
  async turns(): Promise<number> {
    return Number(await this.guest.check("wc -c < /tmp/turns"));
  }

  /** Waits until it has been compared once more. */
  async turn(): Promise<void> {
    const start = await this.turns();
    await waitUntil(async () => await this.turns() > start, {
      what: "the guest's disk to work",
      timeout: 30_000,
      interval: 50,
    });
  }

  /**
   * Ends all of it: nothing must have differed.
   *
   * @returns QEMU's exit code
   */
  async powerOff(): Promise<number> {
    await this.guest.check("touch /tmp/stop");
    await this.guest.check(
      "i=0; while [ ! -e /tmp/end ] && [ $i -lt 300 ]; do sleep 0.1; " +
        "i=$((i+1)); done; [ -e /tmp/end ] && [ ! -e /tmp/failed ]",
      60_000,
    );
    return await this.guest.powerOff();
  }

  /** Ends guest and disk. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    await this.#server.stop();
    this.#directory[Symbol.dispose]();
  }
}
