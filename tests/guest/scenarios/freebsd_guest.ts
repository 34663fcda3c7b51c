/**
 * Starts a FreeBSD guest from what the environment names.
 *
 * @module
 */

import type { TemporaryDirectory } from "../../support/temporary_directory.ts";
import type { ConsoleKind } from "../rig/boot_dialogue.ts";
import { RigError } from "../rig/error.ts";
import { likelyRoots, mountFrom } from "../rig/freebsd_disk.ts";
import {
  copyImage,
  type FreeBsdSource,
  kernelArguments,
  onDisk,
  rawImage,
  useSerialConsole,
} from "../rig/freebsd_source.ts";
import { FREEBSD_TROUBLE } from "../rig/kernel_trouble.ts";
import { startQemu } from "../rig/qemu.ts";
import type { Bench } from "./bench.ts";
import { ConsoleGuest } from "./console_guest.ts";
import { freeBsd } from "./freebsd.ts";

/** A FreeBSD guest, ready to be put on a bench. */
export interface PreparedFreeBsd {
  readonly source: FreeBsdSource;
  /** A raw image of the root disk, not to be written to. */
  readonly root: string | null;
}

/** A root disk that a guest may write to. */
export interface RootDisk {
  readonly path: string;
  /** The console is on the screen: the boot loader has to be told. */
  readonly screen: boolean;
}

/** How a machine runs, from the environment. */
export interface FreeBsdMachine {
  readonly accel: "tcg" | "kvm";
  /** More arguments for QEMU. */
  readonly args: readonly string[];
  /** The password of root, should one be asked for. */
  readonly password?: string;
}

/** Milliseconds for a boot: emulated, and with keys to be made at the first. */
const BOOT_TIMEOUT = 40 * 60_000;

/** Milliseconds of silence after which a boot counts as stuck. */
const SILENCE = 15 * 60_000;

/** Milliseconds to go down; until the next boot's first line. */
const REBOOT_TIMEOUT = 15 * 60_000;

/** Milliseconds for a command that names no limit. */
const COMMAND_TIMEOUT = 10 * 60_000;

/** Reads how machines run. */
export function machineFrom(
  variable: (name: string) => string | undefined,
): FreeBsdMachine {
  const accel = variable("FREEBSD_ACCEL") || "tcg";
  if (accel !== "tcg" && accel !== "kvm") {
    throw new RigError(
      "format",
      `FREEBSD_ACCEL="${accel}" is unknown: tcg or kvm`,
    );
  }
  return {
    accel,
    args: (variable("FREEBSD_QEMU_ARGS") ?? "").split(/\s+/).filter(Boolean),
    password: variable("FREEBSD_PASSWORD"),
  };
}

/** Unpacks what is to be unpacked, in `directory`. */
export async function prepareFreeBsd(
  source: FreeBsdSource,
  directory: string,
): Promise<PreparedFreeBsd> {
  const root = source.kind === "image" ? source.path : source.root;
  return {
    source,
    root: root === null ? null : await rawImage(root, directory),
  };
}

/** A copy of the root disk for one guest. */
export async function rootDisk(
  { source, root }: PreparedFreeBsd,
  directory: TemporaryDirectory,
): Promise<RootDisk | null> {
  if (root === null) return null;
  const path = directory.file("root.img");
  await copyImage(root, path);
  const screen = source.kind === "image" && useSerialConsole(path) === 0;
  return { path, screen };
}

/** What makes a shell ready for scenarios; none of it must succeed. */
const SETUP = [
  // In single-user mode the root file system is read-only.
  "mount -u -o rw / > /dev/null 2>&1 || " +
  "{ fsck_ffs -y /; mount -u -o rw /; } > /dev/null 2>&1; true",
  "for m in virtio_blk virtio_scsi if_vtnet virtio_balloon; do " +
  "kldload -n $m; done > /dev/null 2>&1; true",
  "mkdir -p /tmp > /dev/null 2>&1; true",
  // Messages would come between the lines of commands.
  "sysctl net.link.log_link_state_change=0 > /dev/null 2>&1; true",
  "(cat /dev/klog > /dev/null 2>&1 &)",
  // What else would give the interface addresses, or take them.
  "pkill devd > /dev/null 2>&1; pkill dhclient > /dev/null 2>&1; true",
];

/**
 * A tmpfs at the first folder that takes one, or a folder of the root file system
 * where there is no tmpfs.
 */
const ROOM = "d=; for x in /tmp /mnt /media /var /root; do " +
  "if [ -d $x ] && mount -t tmpfs tmpfs $x; then d=$x; break; fi; done; " +
  '[ -n "$d" ] || { mkdir -p /tmp/room && d=/tmp/room; }; ' +
  "mkdir -p $d/work $d/disk && echo > $d/work/try && rm $d/work/try && " +
  "echo ROOM $d/work $d/disk";

function stop(kind: ConsoleKind, how: "reboot" | "power off"): string {
  if (kind === "login") {
    return how === "reboot" ? "shutdown -r now" : "shutdown -p now";
  }
  return how === "reboot"
    ? "reboot"
    : "if command -v halt > /dev/null; then halt -p; else reboot -p; fi";
}

/** Boots FreeBSD with the devices of a bench. */
export async function startFreeBsd(
  { source }: PreparedFreeBsd,
  machine: FreeBsdMachine,
  bench: Bench,
  root: RootDisk | null,
): Promise<ConsoleGuest> {
  const disk = bench.rootOn === "scsi" ? "da0" : "vtbd0";
  const mounted = root === null ? null : mountFrom(root.path, disk);
  const named = source.kind === "kernel" &&
    source.args.includes("vfs.root.mountfrom=");
  const kernel = source.kind === "kernel"
    ? {
      kernel: source.kernel,
      append: kernelArguments(mounted, onDisk(source.args, disk)),
    }
    : {};
  const qemu = await startQemu({
    name: "freebsd",
    memory: 512,
    accel: machine.accel,
    reboot: true,
    ...kernel,
    devices: [
      // SeaBIOS shows the boot loader's screen on the serial port.
      ...(root?.screen ? ["-machine", "graphics=off"] : []),
      ...bench.devices(true, source.kind === "image"),
      ...machine.args,
    ],
    console: {
      failOn: FREEBSD_TROUBLE,
      timeout: COMMAND_TIMEOUT,
      characterDelay: 1,
      // Its messages and its shell's output share the serial port.
      askAgain: 60_000,
    },
  });
  const guest = new ConsoleGuest(qemu, {
    system: freeBsd(bench.rootOn),
    dialogue: {
      timeout: BOOT_TIMEOUT,
      quiet: 60_000,
      answer: 60_000,
      password: machine.password,
      loader: root?.screen === true,
      silence: SILENCE,
      roots: root !== null && mounted === null && !named
        ? likelyRoots(disk)
        : [],
    },
    setup: SETUP,
    timeout: COMMAND_TIMEOUT,
    room: ROOM,
    stop,
    trouble: FREEBSD_TROUBLE,
    lastWords: 30_000,
    rebootTimeout: REBOOT_TIMEOUT,
    banner: /Copyright \(c\) 1992-\d+ The FreeBSD Project\./,
  });
  try {
    await guest.boot();
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}
