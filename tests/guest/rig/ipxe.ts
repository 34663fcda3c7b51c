/**
 * iPXE: the network boot ROM of QEMU's network devices, a driver and a TCP that
 * nobody else here has.
 *
 * @module
 */

import { dirname } from "@std/path";
import type { RigOptions } from "./cache.ts";
import { findFile, sysroot, type SysrootSpec } from "./packages.ts";
import { type Qemu, startQemu } from "./qemu.ts";

/** iPXE's package. */
export const IPXE_PACKAGES: SysrootSpec = {
  name: "ipxe",
  suites: ["trixie"],
  packages: ["ipxe-qemu"],
  only: "^ipxe-qemu$",
};

/** Stops iPXE at its prompt. */
const CTRL_B = "\x02";

/** Where the boot ROM of virtio-net-pci is, fetched if need be. */
export async function findIpxe(options: RigOptions = {}): Promise<string> {
  const root = await sysroot(IPXE_PACKAGES, options);
  return dirname(findFile(root, ["usr/share/qemu/efi-virtio.rom"]));
}

/**
 * Boots iPXE out of a network device and stops it at its prompt.
 *
 * @param roms where the ROM is. It has to be the one that QEMU takes of its own
 * accord: in that one it puts the number of the device.
 * @param devices arguments
 * @throws {ConsoleError} when its prompt does not come in time
 */
export async function startIpxe(
  roms: string,
  devices: readonly string[],
): Promise<Qemu> {
  const qemu = await startQemu({
    name: "ipxe",
    // SeaBIOS has the serial line for a screen.
    devices: [
      "-machine",
      "graphics=off",
      ...["-boot", "n"],
      "-L",
      roms,
      ...devices,
    ],
    // It reads the line without a buffer to speak of.
    console: { prompt: /iPXE> ?$/, newline: "\r", characterDelay: 10 },
  });
  try {
    await qemu.console.expect("Press Ctrl-B for the iPXE command line", {
      timeout: 60_000,
    });
    await qemu.console.send(CTRL_B);
    await qemu.console.waitForPrompt({ timeout: 20_000 });
    return qemu;
  } catch (error) {
    await qemu.close();
    throw error;
  }
}
