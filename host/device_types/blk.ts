/**
 * The virtio block device, as the command knows it.
 *
 * @module
 */

import { BLK_OPTIONS, resolveBlkOptions } from "../../backends/blk/options.ts";
import { describeSize } from "../options/parse.ts";
import { type DeviceType, featureMap, queueHint } from "./device_type.ts";

/** The virtio block device. Feature bits: virtio 1.4, section 5.2.3. */
export const BLK: DeviceType = {
  name: "blk",
  title: "virtio block device",
  module: new URL("../../backends/blk/mod.ts", import.meta.url).href,
  options: BLK_OPTIONS,
  check: (options) => void resolveBlkOptions(options),
  features: featureMap({
    0: "BARRIER",
    1: "SIZE_MAX",
    2: "SEG_MAX",
    4: "GEOMETRY",
    5: "RO",
    6: "BLK_SIZE",
    7: "SCSI",
    9: "FLUSH",
    10: "TOPOLOGY",
    11: "CONFIG_WCE",
    12: "MQ",
    13: "DISCARD",
    14: "WRITE_ZEROES",
    15: "LIFETIME",
    16: "SECURE_ERASE",
    17: "ZONED",
  }),
  commands: ["resize", "resume"],
  qemu: (id, { queues }) => [
    ["-device", [
      ["vhost-user-blk-pci", null],
      ["chardev", id],
      ["num-queues", String(queues)],
    ]],
  ],
  ringHint: ({ queues }) => queueHint(queues, "request queue", "num-queues"),
  describe: ({ path, storage, readonly }, { capacity }) =>
    `${path === undefined ? `a disk in ${storage}` : JSON.stringify(path)} (${
      describeSize(Number(capacity))
    }${readonly === true ? ", read-only" : ""})`,
  images: ({ path, readonly, share }) =>
    path === undefined || share === true
      ? []
      : [{ path: String(path), readOnly: readonly === true }],
  storages: (options) => {
    const resolved = resolveBlkOptions(options);
    return resolved.storage === "file" ? [resolved] : [];
  },
  program: {
    type: "block",
    features: ["read-only", "blk-file"],
    options: [
      {
        name: "blk-file",
        type: "path",
        required: true,
        help: "raw image or block device to serve",
      },
      { name: "read-only", type: "flag", help: "refuse writes" },
    ],
    pairs: ({ blkFile, readOnly }) => [
      ["path", String(blkFile)],
      ["readonly", readOnly === true],
    ],
  },
};
