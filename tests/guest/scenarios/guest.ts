/**
 * A guest as scenarios see it, and what they have to ask of its system in its
 * own words.
 *
 * @module
 */

import type { CommandOutput } from "../../support/console.ts";

/** What a scenario does with a guest. */
export interface Guest extends AsyncDisposable {
  /** How its system says things. */
  readonly system: System;
  /** A directory that it may write to, in memory. */
  readonly work: string;
  /** An empty directory to mount disks at. */
  readonly mountPoint: string;
  /** Runs a command line. */
  run(command: string, timeout?: number): Promise<CommandOutput>;
  /** Runs a command line that must succeed; its output. */
  check(command: string, timeout?: number): Promise<string>;
  /** Waits until a command line succeeds, for so many seconds at most. */
  until(condition: string, seconds?: number): Promise<void>;
  /** Whether it has a tool. */
  has(tool: string): Promise<boolean>;
  /** Reboots, and waits for its shell. */
  reboot(): Promise<void>;
  /** Powers off. */
  powerOff(): Promise<PowerOff>;
  /** Whether its shell takes commands; one that hangs is interrupted. */
  answers(): Promise<boolean>;
  /** What its console showed last. */
  readonly lastLines: string;
}

/** How a guest powered off. */
export interface PowerOff {
  /** Whether it ended the machine: a kernel without ACPI only halts. */
  readonly switchedOff: boolean;
  /** QEMU's exit code. */
  readonly code: number;
}

/** The devices that a guest has. */
export type DeviceKind = "net" | "blk" | "scsi" | "balloon";

/** A driver that took a device. */
export interface AttachedDevice {
  readonly kind: DeviceKind;
  /** What its system calls it. */
  readonly name: string;
  /** Feature bits that were negotiated. */
  readonly features: bigint;
  /** Feature bits that were offered; `null` where the system does not say. */
  readonly offered: bigint | null;
  /** Driven by the legacy interface; `null` where the system does not say. */
  readonly legacy: boolean | null;
}

/** What a system says of a disk. */
export interface DiskFacts {
  readonly size: number;
  readonly sectorSize: number;
  /** The serial; `null` where the system does not say. */
  readonly serial: string | null;
  /** Ranges can be given back. */
  readonly trim: boolean;
}

/** The file system on a root disk that no guest has any more. */
export type RootState =
  | { readonly state: "clean" | "in use" | "unknown" }
  | { readonly state: "damaged"; readonly why: string };

/** A command about a SCSI disk, and what it prints. */
export interface ScsiQuestion {
  readonly command: string;
  readonly answer: RegExp;
}

/** A subject that some systems have tools for; a tool that is missing skips it. */
export type Subject =
  | "features"
  | "checksum"
  | "bus"
  | "file system"
  | "disk facts"
  | "scsi"
  | "trim"
  | "partition"
  | "interface"
  | "vlan"
  | "ping"
  | "tcp"
  | "offloads"
  | "reboot"
  | "root";

/** How an operating system says things. */
export interface System {
  /** Its name. */
  readonly name: string;
  /** What a subject takes, beside the shell. */
  readonly tools: Readonly<Record<Subject, readonly string[]>>;
  /** Devices that it drives, as its kernel says. */
  attached(guest: Guest): Promise<AttachedDevice[]>;
  /** Lines of the kernel about devices that failed. */
  complaints(guest: Guest): Promise<string[]>;
  /** How many virtio devices its tool for the bus lists. */
  busCount(guest: Guest): Promise<number>;
  /** Prints a digest of the standard input. */
  readonly digest: string;
  /** The path of the disk with this role. */
  disk(guest: Guest, role: "blk" | "scsi"): Promise<string>;
  /**
   * Whether its root file system is on the root disk that is served; `null`
   * where the system does not say.
   */
  rootIsServed(guest: Guest): Promise<boolean | null>;
  /** Looks at the image of its root disk after a clean power off. */
  rootState(image: string): Promise<RootState>;
  /** Its size in bytes, as the kernel sees it now. */
  diskSize(guest: Guest, disk: string): Promise<number>;
  /** Has the kernel look at the disk again. */
  look(disk: string): string;
  /** What it says of a disk. */
  diskFacts(guest: Guest, disk: string): Promise<DiskFacts>;
  /** Questions about a SCSI disk. */
  scsi(disk: string): readonly ScsiQuestion[];
  /** Arguments of dd that go past every cache: reading, writing. */
  readonly direct: readonly [string, string];
  makeFileSystem(disk: string): string;
  checkFileSystem(disk: string): string;
  mount(disk: string, directory: string): string;
  /** Gives all of a disk back. */
  trimDisk(guest: Guest, disk: string): Promise<string>;
  /** Gives free blocks of a mounted file system back. */
  trimFiles(directory: string): string;
  /** Makes a partition; its path. */
  partition(guest: Guest, disk: string): Promise<string>;
  /** Removes all partitions. */
  unpartition(disk: string): string;
  /** The network interface. */
  readonly net: string;
  /** Gives the interface an address, and has it up. */
  address(name: string, address: string): string;
  link(state: "up" | "down"): string;
  mtu(mtu: number): string;
  /** Makes an interface for a VLAN; its name. */
  vlan(id: number): { readonly name: string; readonly command: string };
  removeVlan(id: number): string;
  ping(host: string, size: number): string;
  /** Sends a file to a port, and ends the connection. */
  send(host: string, port: number, file: string): string;
  /** Takes one connection into a file. */
  receive(port: number, file: string): string;
  /** Offloads of both directions, each alone and together. */
  offloads(on: boolean): readonly string[];
  /** Pages in the balloon; `null` where the system does not say. */
  balloonPages(guest: Guest): Promise<number | null>;
}
