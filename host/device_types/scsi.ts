/**
 * The virtio SCSI host, as the command knows it.
 *
 * @module
 */

import {
  LUN_OPTIONS,
  resolveScsiOptions,
  SCSI_OPTIONS,
} from "../../backends/scsi/options.ts";
import {
  type DeviceOptions,
  type DeviceType,
  featureMap,
} from "./device_type.ts";

/** The virtio SCSI host. Feature bits: virtio 1.4, section 5.6.3. */
export const SCSI: DeviceType = {
  name: "scsi",
  title: "virtio SCSI host",
  module: new URL("../../backends/scsi/mod.ts", import.meta.url).href,
  options: SCSI_OPTIONS,
  parts: {
    name: "lun",
    title: "logical unit of a SCSI host",
    key: "luns",
    owner: "hba",
    options: LUN_OPTIONS,
  },
  check: (options) => void resolveScsiOptions(options),
  features: featureMap({
    0: "INOUT",
    1: "HOTPLUG",
    2: "CHANGE",
    3: "T10_PI",
  }),
  commands: ["lun-add", "lun-remove", "lun-resize", "change-medium"],
  qemu: (id, { queues }) => [
    ["-device", [
      ["vhost-user-scsi-pci", null],
      ["chardev", id],
      ["num_queues", String(queues)],
    ]],
  ],
  describe: (options) => {
    const { luns } = resolveScsiOptions(options);
    const names = luns.map(({ path, type, readOnly }) =>
      path === ""
        ? `an empty ${type}`
        : `${JSON.stringify(path)}${readOnly ? " (read-only)" : ""}`
    );
    return `a SCSI host with ${
      names.length === 0 ? "no logical units" : names.join(", ")
    }`;
  },
  writtenFiles,
  // Reservations and atomic commands need one owner.
  workerGroup: () => "scsi",
  program: {
    type: "scsi",
    options: [
      {
        name: "path",
        type: "path",
        required: true,
        help: "raw image or block device of target 0, LUN 0",
      },
      { name: "read-only", type: "flag", help: "refuse writes" },
    ],
    pairs: ({ path, readOnly }) => [
      ["path", String(path)],
      ["readonly", readOnly === true],
    ],
  },
};

/** Hosts of one process may share a disk; others may not. */
function writtenFiles(options: DeviceOptions): readonly string[] {
  return resolveScsiOptions(options).luns
    .filter(({ path, readOnly, share }) => path !== "" && !readOnly && !share)
    .map(({ path }) => path);
}
