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
  queueHint,
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
  commands: ["lun-add", "lun-remove", "lun-resize", "resize", "change-medium"],
  qemu: (id, { queues }) => [
    ["-device", [
      ["vhost-user-scsi-pci", null],
      ["chardev", id],
      ["num_queues", String(queues)],
    ]],
  ],
  ringHint: ({ queues }) => queueHint(queues, "request queue", "num_queues"),
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
  images: (options) =>
    resolveScsiOptions(options).luns
      .filter(({ path, share }) => path !== "" && !share),
  storages: (options) =>
    resolveScsiOptions(options).luns.filter(({ path }) => path !== ""),
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

/**
 * Options of a host after a management command about a logical unit.
 *
 * @param command `lun-add`, `lun-remove` or `change-medium`; any other changes
 * nothing
 * @param unit its place, and what else the command was told
 */
export function amendLuns(
  options: DeviceOptions,
  command: string,
  unit: Readonly<Record<string, unknown>>,
): DeviceOptions {
  const { target, lun } = unit;
  const luns = lunsOf(options);
  const isMeant = (each: DeviceOptions) =>
    (each.target ?? 0) === target && (each.lun ?? 0) === lun;
  const host = { ...options };
  for (const { name } of LUN_OPTIONS) delete host[camelCase(name)];
  switch (command) {
    case "lun-add":
      return { ...host, luns: [...luns, unit] };
    case "lun-remove":
      return { ...host, luns: luns.filter((each) => !isMeant(each)) };
    case "change-medium": {
      const { path } = unit;
      return {
        ...host,
        luns: luns.map((each) => isMeant(each) ? { ...each, path } : each),
      };
    }
  }
  return options;
}

/** All logical units in one list, that of the host's own keys included. */
function lunsOf(options: DeviceOptions): DeviceOptions[] {
  const listed = (options.luns ?? []) as DeviceOptions[];
  if (options.path === undefined && options.type !== "cdrom") {
    return [...listed];
  }
  const own = LUN_OPTIONS.map(({ name }) => camelCase(name))
    .filter((key) => options[key] !== undefined)
    .map((key) => [key, options[key]]);
  return [{ ...Object.fromEntries(own), target: 0, lun: 0 }, ...listed];
}

function camelCase(name: string): string {
  return name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
}
