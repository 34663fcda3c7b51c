/**
 * The virtio SCSI host: serves raw images and block devices as the disks and
 * CD-ROMs of a guest.
 *
 * @example Usage
 * ```ts ignore
 * import createScsi from "./mod.ts";
 *
 * const device = createScsi({ path: "disk.img" }, context);
 * ```
 *
 * @module
 */

import type { DeviceContext, VirtioDevice } from "../../virtqueue/device.ts";
import { ScsiDevice } from "./device.ts";
import { resolveScsiOptions } from "./options.ts";

export { OptionError, type OptionPlace } from "../option_reader.ts";
export type { LunOptions, ScsiOptions } from "./options.ts";

/**
 * Makes a SCSI host: a {@linkcode CreateDevice}.
 *
 * @param options a {@linkcode ScsiOptions}
 * @throws {OptionError} when an option is wrong
 * @throws {StorageError} when an image cannot be served
 */
export default function createScsi(
  options: Readonly<Record<string, unknown>>,
  context: DeviceContext,
): VirtioDevice {
  return new ScsiDevice(resolveScsiOptions(options), context);
}
