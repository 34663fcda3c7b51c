/**
 * The machine around a guest of the scenarios: a `vhostd serve` with a root disk,
 * a disk, a SCSI host with a disk, a balloon and a switch, and QEMU's arguments
 * for all of them.
 *
 * @module
 */

import { ManagementClient } from "../../../host/management/client.ts";
import { Reactor } from "../../../sys/reactor.ts";
import { waitUntil } from "../../support/deadline.ts";
import { ChildProcess } from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS, ctl, untilServing } from "../../support/vhostd.ts";
import { makeImage } from "../disks.ts";
import type { DeviceKind } from "./guest.ts";

/** Bytes of the disks. */
export const DISK_SIZE: number = 256 * 2 ** 20;
/** What they are told apart by. */
export const SERIALS = {
  blk: "scenario-blk",
  scsi: "scenario-scsi",
  root: "scenario-root",
} as const;
/** The product that the SCSI disk says it is. */
export const PRODUCT = "SCENARIO";

const START_TIMEOUT = 30_000;

/** How devices are attached. */
export type Mode = "legacy" | "modern";

/** What is served. */
export interface BenchOptions {
  /** The interface of the devices; the balloon is modern always. */
  readonly mode: Mode;
  /** The root disk, and what serves it. */
  readonly root?: { readonly path: string; readonly on: "blk" | "scsi" };
}

/** What `ctl status` says of a device, as far as scenarios look at it. */
export interface DeviceStatus {
  readonly name: string;
  readonly pid: number | null;
  readonly state: string;
  readonly restarts: number;
  readonly connected: boolean;
  readonly session: { readonly features: string } | null;
  readonly rings: readonly { readonly completed: number }[];
  readonly device: Readonly<Record<string, unknown>>;
}

/** Served devices for one guest and its peer. */
export class Bench implements AsyncDisposable {
  readonly mode: Mode;
  /** What serves the root disk; `null` when there is none. */
  readonly rootOn: "blk" | "scsi" | null;
  /** The image of the root disk. */
  readonly rootImage: string | null;
  readonly #directory: TemporaryDirectory;
  readonly #server: ChildProcess;
  readonly #reactor = new Reactor();

  private constructor(
    { mode, root }: BenchOptions,
    directory: TemporaryDirectory,
    server: ChildProcess,
  ) {
    this.mode = mode;
    this.rootOn = root?.on ?? null;
    this.rootImage = root?.path ?? null;
    this.#directory = directory;
    this.#server = server;
  }

  /** Makes the disks and serves them. */
  static async start(options: BenchOptions): Promise<Bench> {
    const directory = TemporaryDirectory.make("bench");
    try {
      const file = (name: string) => directory.file(name);
      for (const name of ["blk", "scsi"]) {
        makeImage(file(`${name}.img`), DISK_SIZE);
      }
      const { root } = options;
      const path = root?.path.replaceAll(",", ",,");
      const disks = [
        ...(root?.on === "scsi"
          ? [
            `--lun=hba=scsi,target=0,path=${path},product=ROOT,` +
            `serial=${SERIALS.root}`,
          ]
          : []),
        `--lun=hba=scsi,target=${root?.on === "scsi" ? 1 : 0},` +
        `path=${file("scsi.img")},product=${PRODUCT},serial=${SERIALS.scsi}`,
      ];
      const server = ChildProcess.start(Deno.execPath(), {
        name: "vhostd",
        env: { NO_COLOR: "1" },
        args: [
          ...COMMAND_ARGUMENTS,
          ...["serve", `--management=${file("ctl.sock")}`],
          ...(root?.on === "blk"
            ? [
              `--blk=id=root,path=${path},socket=${file("root.sock")},` +
              `serial=${SERIALS.root}`,
            ]
            : []),
          `--blk=id=blk,path=${file("blk.img")},socket=${file("blk.sock")},` +
          `serial=${SERIALS.blk}`,
          `--scsi=id=scsi,socket=${file("scsi.sock")}`,
          ...disks,
          `--net=id=net,socket=${file("net.sock")},backend=switch,process=lan`,
          `--net=id=peer,socket=${
            file("peer.sock")
          },backend=switch,process=lan`,
          `--balloon=id=balloon,socket=${file("balloon.sock")}`,
        ],
      });
      await untilServing(server, START_TIMEOUT);
      return new Bench(options, directory, server);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  /** Path of the image of a disk. */
  image(role: "blk" | "scsi"): string {
    return this.#directory.file(`${role}.img`);
  }

  /** The device that serves the root disk. */
  get rootDevice(): string | null {
    return this.rootOn === "blk" ? "root" : this.rootOn;
  }

  /** Path of the socket of a device. */
  socket(name: string): string {
    return this.#directory.file(`${name}.sock`);
  }

  /**
   * QEMU's arguments for the guest's devices; the root disk comes first.
   *
   * @param transitional whether legacy devices have the modern interface, too:
   * FreeBSD takes the legacy one then, Linux the modern one
   * @param boots whether the firmware boots from the root disk: QEMU gives the
   * first place to a kernel of its own
   */
  devices(transitional: boolean, boots = false): string[] {
    const devices: string[] = [];
    let slot = 0;
    const add = (name: string, driver: string, before: string[] = []) => {
      const reconnect = name === "balloon" ? "" : ",reconnect-ms=100";
      devices.push(
        "-chardev",
        `socket,id=c-${name},path=${this.socket(name)}${reconnect}`,
        ...before,
      );
      if (this.mode === "legacy") {
        devices.push("-device", driver);
        return;
      }
      // Behind a port there is MSI-X, on the root bus INTx.
      const port = `port${++slot}`;
      devices.push(
        ...[
          "-device",
          `pcie-root-port,id=${port},chassis=${slot},slot=${slot}`,
        ],
        ...["-device", `${driver},bus=${port}`],
      );
    };
    const interfaces = this.mode === "modern"
      ? ",disable-legacy=on"
      : transitional
      ? ""
      : ",disable-modern=on";
    const first = boots ? ",bootindex=0" : "";
    if (this.rootOn === "blk") {
      add("root", `vhost-user-blk-pci,chardev=c-root${first}${interfaces}`);
    }
    add("blk", `vhost-user-blk-pci,chardev=c-blk${interfaces}`);
    const boot = this.rootOn === "scsi" ? first : "";
    add("scsi", `vhost-user-scsi-pci,chardev=c-scsi${boot}${interfaces}`);
    add(
      "net",
      "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:0a:08:01" + interfaces,
      ["-netdev", "vhost-user,id=n0,chardev=c-net"],
    );
    add(
      "balloon",
      "vhost-user-test-device-pci,chardev=c-balloon,virtio-id=5,num_vqs=5," +
        "vq_size=128,config_size=16",
    );
    return devices;
  }

  /** Runs `ctl`; what it prints. */
  ctl(...args: readonly string[]): Promise<string> {
    return ctl(this.socket("ctl"), ...args);
  }

  /** What the server says of a device. */
  async status(name: string): Promise<DeviceStatus> {
    const path = this.socket("ctl");
    using client = ManagementClient.connect(path, this.#reactor);
    const { devices } = await client.call(
      "status",
      { name },
      START_TIMEOUT,
    ) as {
      devices: DeviceStatus[];
    };
    return devices[0];
  }

  /** Features that the guest acknowledged to the server. */
  async features(kind: DeviceKind): Promise<bigint | null> {
    const { session } = await this.status(kind);
    return session === null ? null : BigInt(session.features);
  }

  /** Kills the process of a device, and waits for the next one's front-end. */
  async kill(name: string): Promise<void> {
    const { pid, restarts } = await this.status(name);
    if (pid === null) throw new Error(`"${name}" has no process`);
    Deno.kill(pid, "SIGKILL");
    await waitUntil(async () => {
      const now = await this.status(name);
      return now.restarts > restarts && now.state === "running" &&
        now.connected;
    }, {
      what: `another process of "${name}" and its front-end`,
      timeout: START_TIMEOUT,
      interval: 100,
    });
  }

  /** Waits until a guest that has ended is gone here, too; another can come. */
  async vacated(): Promise<void> {
    const names = ["blk", "scsi", "net", "balloon"];
    if (this.rootOn === "blk") names.push("root");
    for (const name of names) {
      await waitUntil(async () => !(await this.status(name)).connected, {
        what: `the front-end of "${name}" to leave`,
        timeout: START_TIMEOUT,
        interval: 100,
      });
    }
  }

  /** What the server said on stderr. */
  get log(): string {
    return this.#server.stderr.text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    this.#reactor.close();
    this.#directory[Symbol.dispose]();
  }
}
