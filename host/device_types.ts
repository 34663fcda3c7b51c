/**
 * The types of devices that the command serves. A type is one entry here, a file
 * in `device_types/` and a folder in `backends/`.
 *
 * @module
 */

import { BALLOON } from "./device_types/balloon.ts";
import { BLK } from "./device_types/blk.ts";
import type { DeviceType } from "./device_types/device_type.ts";
import { NET } from "./device_types/net.ts";
import { SCSI } from "./device_types/scsi.ts";

export type { DeviceOptions, DeviceType } from "./device_types/device_type.ts";
export { BALLOON, BLK, NET, SCSI };

/** All types, in the order of the help text. */
export const DEVICE_TYPES: readonly DeviceType[] = [BLK, NET, SCSI, BALLOON];

/** The type of a name, or `undefined`. */
export function deviceType(name: string): DeviceType | undefined {
  return DEVICE_TYPES.find((type) => type.name === name);
}
