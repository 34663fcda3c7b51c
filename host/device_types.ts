/**
 * The types of devices that the command serves. A type is one entry here and a
 * folder in `backends/`.
 *
 * @module
 */

import { BLK_OPTIONS, resolveBlkOptions } from "../backends/blk/options.ts";
import type { OptionSpec, OptionValues } from "../backends/option_schema.ts";
import { describeSize } from "./options/parse.ts";

/** What the command knows of a type of device. */
export interface DeviceType {
  /** The name: `--blk`, `"type": "blk"`. */
  readonly name: string;
  /** What it is, for people. */
  readonly title: string;
  /** URL of the device module. */
  readonly module: string;
  /** Its own options. */
  readonly options: readonly OptionSpec[];
  /** Refuses options that contradict each other; throws an error for people. */
  readonly check: (options: OptionValues) => void;
  /** Names of its feature bits, without prefix. */
  readonly features: ReadonlyMap<number, string>;
  /** QEMU's name of the device. */
  readonly qemuDriver: string;
  /** Properties of QEMU's device, besides `chardev`. */
  readonly qemuProperties: (
    options: OptionValues,
  ) => readonly (readonly [string, string])[];
  /** What is served, for people: `"disk.img" (1 GiB, read-only)`. */
  readonly describe: (
    options: OptionValues,
    status: Readonly<Record<string, unknown>>,
  ) => string;
  /** The file that no two devices may write, or `null`. */
  readonly writtenFile: (options: OptionValues) => string | null;
}

/** Source: virtio 1.4, section 5.2.3. */
const BLK_FEATURES: ReadonlyMap<number, string> = new Map([
  [0, "BARRIER"],
  [1, "SIZE_MAX"],
  [2, "SEG_MAX"],
  [4, "GEOMETRY"],
  [5, "RO"],
  [6, "BLK_SIZE"],
  [7, "SCSI"],
  [9, "FLUSH"],
  [10, "TOPOLOGY"],
  [11, "CONFIG_WCE"],
  [12, "MQ"],
  [13, "DISCARD"],
  [14, "WRITE_ZEROES"],
  [15, "LIFETIME"],
  [16, "SECURE_ERASE"],
  [17, "ZONED"],
]);

/** The virtio block device. */
export const BLK: DeviceType = {
  name: "blk",
  title: "virtio block device",
  module: new URL("../backends/blk/mod.ts", import.meta.url).href,
  options: BLK_OPTIONS,
  check: (options) => void resolveBlkOptions(options),
  features: BLK_FEATURES,
  qemuDriver: "vhost-user-blk-pci",
  qemuProperties: ({ queues }) => [["num-queues", String(queues)]],
  describe: ({ path, storage, readonly }, { capacity }) =>
    `${path === undefined ? `a disk in ${storage}` : JSON.stringify(path)} (${
      describeSize(Number(capacity))
    }${readonly === true ? ", read-only" : ""})`,
  writtenFile: ({ path, readonly, share }) =>
    path === undefined || readonly === true || share === true
      ? null
      : String(path),
};

/** All types, in the order of the help text. */
export const DEVICE_TYPES: readonly DeviceType[] = [BLK];

/** The type of a name, or `undefined`. */
export function deviceType(name: string): DeviceType | undefined {
  return DEVICE_TYPES.find((type) => type.name === name);
}
