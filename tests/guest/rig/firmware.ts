/**
 * Firmware as a guest: SeaBIOS with a boot sector of ours, and U-Boot's
 * shell. Both bring virtio drivers that share no code with Linux or FreeBSD,
 * and boot in well under a second.
 *
 * @module
 */

import type { CommandOutput, ExpectOptions } from "../../support/console.ts";
import type { RigOptions } from "./cache.ts";
import { findFile, sysroot, type SysrootSpec } from "./packages.ts";
import { type Qemu, type QemuOptions, startQemu } from "./qemu.ts";

/** U-Boot's packages. */
export const U_BOOT_PACKAGES: SysrootSpec = {
  name: "u-boot",
  suites: ["trixie", "trixie-backports"],
  packages: ["u-boot-qemu"],
  only: "^u-boot-qemu$",
};

/** What the boot sector program reported. */
export interface BootSectorResult {
  /** QEMU's exit code: one of `BootSectorExit`. */
  readonly exitCode: number;
  /** The line that the program printed, `S1f02 S1f02 OK` say. */
  readonly line: string;
  /** The checksums, in four hexadecimal digits each. */
  readonly sums: readonly string[];
}

/** How the boot sector program is run. */
export interface BootSectorOptions
  extends Pick<QemuOptions, "machine" | "memory" | "name" | keyof RigOptions> {
  /** The arguments of the disk; its device has `bootindex=0`. */
  devices: readonly string[];
  /** The limit in milliseconds (20,000). */
  timeout?: number;
}

/**
 * Boots SeaBIOS from a disk that starts with a boot sector of
 * `boot_sector.ts`, and returns what that reports.
 *
 * @throws {ConsoleError} when it reports nothing in time
 */
export async function runBootSector(
  options: BootSectorOptions,
): Promise<BootSectorResult> {
  const timeout = options.timeout ?? 20_000;
  await using qemu = await startQemu({
    name: "boot-sector",
    ...options,
    devices: [
      ...["-device", "isa-debug-exit,iobase=0x501,iosize=1"],
      ...options.devices,
    ],
  });
  const { text } = await qemu.console.expect(
    /^(S[0-9a-f]{4} )*(OK|BAD|E[0-9a-f]{4} )$/m,
    { timeout },
  );
  return {
    exitCode: await qemu.wait(timeout),
    line: text.trim(),
    sums: Array.from(text.matchAll(/S(\w+)/g), ([, sum]) => sum),
  };
}

/** How U-Boot is started. */
export interface UBootOptions
  extends Pick<QemuOptions, "machine" | "memory" | "name" | keyof RigOptions> {
  /** The arguments of the devices. */
  devices: readonly string[];
  /** The limit in milliseconds until U-Boot's prompt (20,000). */
  timeout?: number;
}

/** U-Boot at its prompt. Numbers in its commands are hexadecimal. */
export class UBoot implements AsyncDisposable {
  /** The machine. */
  readonly qemu: Qemu;

  /** Use {@linkcode startUBoot}. */
  constructor(qemu: Qemu) {
    this.qemu = qemu;
  }

  /** Runs a command line; its output and status. */
  run(command: string, options?: ExpectOptions): Promise<CommandOutput> {
    return this.qemu.console.run(command, options);
  }

  /** Runs a command line that must succeed; its output. */
  check(command: string, options?: ExpectOptions): Promise<string> {
    return this.qemu.console.check(command, options);
  }

  /**
   * Initialises the virtio devices.
   *
   * @returns what U-Boot says of each disk, numbered from 0
   */
  async scan(): Promise<string[]> {
    await this.check("virtio scan");
    const info = await this.check("virtio info");
    return info.split(/^Device \d+: /m).slice(1).map((text) => text.trim());
  }

  /** Reads `count` blocks from `block` of the current disk to `address`. */
  async read(address: number, block: number, count: number): Promise<void> {
    await this.check(`virtio read ${hex(address, block, count)}`);
  }

  /** Writes `count` blocks from `address` to `block` of the current disk. */
  async write(address: number, block: number, count: number): Promise<void> {
    await this.check(`virtio write ${hex(address, block, count)}`);
  }

  /** The CRC-32 (as zlib's) of `length` bytes at `address`. */
  async crc32(address: number, length: number): Promise<number> {
    const output = await this.check(`crc32 ${hex(address, length)}`);
    return parseInt(/==> ([0-9a-f]{8})/.exec(output)?.[1] ?? "", 16);
  }

  /** Ends the machine. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.qemu.close();
  }
}

/**
 * Boots U-Boot as the firmware of a PC and stops it at its prompt.
 *
 * @throws {ConsoleError} when its prompt does not come in time
 */
export async function startUBoot(options: UBootOptions): Promise<UBoot> {
  const root = await sysroot(U_BOOT_PACKAGES, options);
  const qemu = await startQemu({
    name: "u-boot",
    ...options,
    bios: findFile(root, ["usr/lib/u-boot/qemu-x86_64/u-boot.rom"]),
    // Not the i440FX machine (`pc`): about one start in a hundred ends in an
    // invalid opcode of U-Boot's SPL there, without any device of ours.
    devices: ["-vga", "std", ...options.devices],
    console: { prompt: /^=> $/m, newline: "\r" },
  });
  try {
    const timeout = options.timeout ?? 20_000;
    await qemu.console.expect("stop autoboot", { timeout });
    await qemu.console.sendLine();
    await qemu.console.waitForPrompt({ timeout });
    return new UBoot(qemu);
  } catch (error) {
    await qemu.close();
    throw error;
  }
}

function hex(...values: readonly number[]): string {
  return values.map((value) => value.toString(16)).join(" ");
}
