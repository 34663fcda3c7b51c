/**
 * `serve`: serves the devices of the command line and of a config file.
 *
 * @module
 */

import { dirname, resolve } from "@std/path";
import { findProgram } from "../../sys/environment.ts";
import {
  BALLOON,
  BLK,
  DEVICE_TYPES,
  type DeviceType,
  NET,
  SCSI,
} from "../device_types.ts";
import { HostError } from "../error.ts";
import { Logger } from "../log.ts";
import { type Config, readConfig } from "../options/config_file.ts";
import { areSame } from "../../backends/suggest.ts";
import {
  COMMON_OPTIONS,
  DATA_DIRECTORY,
  type DeviceRequest,
  planDevices,
  type PlannedDevice,
} from "../options/device_specs.ts";
import { splitOptions } from "../options/grammar.ts";
import { describeSize, usageOf } from "../options/parse.ts";
import { SETTINGS, type Settings, settingsOf } from "../options/settings.ts";
import { qemuCommand } from "../qemu_arguments.ts";
import { requireRuntime } from "../requirements.ts";
import { type CommandSpec, parseCommand } from "./command.ts";
import { commandHelp, deviceHelp } from "./help.ts";
import { print } from "./output.ts";
import { MadeFiles } from "./made_files.ts";

/** Images that are served when nothing is named: as a disk, and by SCSI. */
const DEFAULT_IMAGES = [
  `${DATA_DIRECTORY}/disk.img`,
  `${DATA_DIRECTORY}/scsi.img`,
] as const;
/** Their size in bytes when they are made. */
const DEFAULT_IMAGE_SIZE = 1024 ** 3;

/** What is given by options of its own. */
const PARTS = DEVICE_TYPES.flatMap(({ parts }) => parts ?? []);

/** The description of the command. */
export const SERVE: CommandSpec = {
  name: "serve",
  summary: "Serves devices to virtual machines over vhost-user sockets",
  usage: ["[IMG] [OPTION]…"],
  flags: [
    ...DEVICE_TYPES.map(({ name, title }) => ({
      name,
      type: "string" as const,
      value: "KEYS",
      repeatable: true,
      help: `serve a ${title}; may be repeated`,
    })),
    ...PARTS.map(({ name, title, owner }) => ({
      name,
      type: "string" as const,
      value: "KEYS",
      repeatable: true,
      help:
        `serve a ${title}, of the one that ${owner}= names; may be repeated`,
    })),
    {
      name: "config",
      type: "path",
      value: "FILE",
      help: "read devices and options from a JSON file",
    },
    {
      name: "check",
      type: "flag",
      help: "say what is wrong with options and images, and serve nothing",
    },
    ...SETTINGS,
  ],
  maximumArguments: 1,
  meant: keyOfDevice,
  notes: [
    "IMG is the same as --blk=path=IMG. Without any device, one of each type is",
    `served: disks of ${
      describeSize(DEFAULT_IMAGE_SIZE)
    } in ${DATA_DIRECTORY}, made where there are none, a`,
    "network port (passt, where it is installed, else a switch) and a balloon.",
    "",
    ...deviceHelp(),
    "",
    "Each device is served by a process of its own, or by one that it shares with",
    "others (process=NAME). One that dies is started again on the same socket; the",
    "others do not notice.",
    "",
    "SIGINT and SIGTERM stop when all requests are done, a second one stops at",
    "once. SIGHUP looks at the size of all images again.",
  ],
};

/** Whoever writes `--read-only` means a key of a device. */
function keyOfDevice(
  name: string,
  [image]: readonly string[],
): string | null {
  const lists = [
    ...DEVICE_TYPES.map(({ name, options }) => ({ name, options })),
    ...PARTS,
    { name: BLK.name, options: COMMON_OPTIONS },
  ];
  for (const { name: flag, options } of lists) {
    const key = options.find((option) => areSame(option.name, name));
    if (key === undefined) continue;
    const own = key.type === "flag" ? key.name : usageOf(key);
    const path = flag === BLK.name && image !== undefined && key.name !== "path"
      ? `path=${image},`
      : "";
    return `is a key of --${flag}: --${flag} ${path}${own}`;
  }
  return null;
}

/** Runs the command; returns the exit code. */
export async function serve(args: readonly string[]): Promise<number> {
  const invocation = parseCommand(SERVE, args);
  if (invocation.help) {
    print(commandHelp(SERVE));
    return 0;
  }
  requireRuntime();
  const { values, lists, arguments: [image] } = invocation;
  const config: Config = values.config === undefined
    ? { devices: [], settings: {} }
    : readConfig(String(values.config));
  const settings = settingsOf(config.settings, values);
  const requests = [...config.devices, ...imageRequest(image)];
  for (const type of DEVICE_TYPES) {
    const subject = `--${type.name}`;
    for (const list of lists.get(type.name) ?? []) {
      requests.push({ subject, type, pairs: splitOptions(list) });
    }
  }
  const parts = PARTS.flatMap(({ name }) =>
    (lists.get(name) ?? []).map((list) => ({
      subject: `--${name} ${list}`,
      pairs: splitOptions(list),
    }))
  );
  const nothing = requests.length === 0 && parts.length === 0;
  if (nothing && values.config !== undefined) {
    throw new HostError(
      "usage",
      `${values.config}: there is no device in "devices", and none on the command line; without --config one of each type is served`,
    );
  }
  if (nothing) requests.push(...defaultRequests(settings));
  const devices = planDevices(requests, parts);
  refuseManagementConflict(devices, settings);
  refuseProcessConflict(devices, settings);

  if (values.check === true) {
    const { checkImages } = await import("./check_images.ts");
    const images = await checkImages(devices, nothing);
    const names = devices.map(({ spec }) => `"${spec.name}"`).join(", ");
    print(`Nothing is wrong with ${names}; images that were opened: ${images}`);
    return 0;
  }
  using made = new MadeFiles(DATA_DIRECTORY);
  makeDataDirectory(made, devices, settings);
  if (nothing) {
    for (const path of DEFAULT_IMAGES) made.makeImage(path, DEFAULT_IMAGE_SIZE);
  }
  const { management, supervise, logLevel: level, logFormat: format } =
    settings;
  // Each of the two ways needs much that the other one does not.
  const run = supervise
    ? (await import("./run_supervised.ts")).runSupervised
    : (await import("./run_devices.ts")).runDevices;
  return await run(devices, {
    management,
    log: new Logger({ level, format }),
    onReady: (status) => {
      print(announcement(devices, status));
      made.keepImages();
    },
  });
}

function imageRequest(path: string | undefined): DeviceRequest[] {
  return path === undefined
    ? []
    : [{ subject: "serve", type: BLK, pairs: [["path", path]] }];
}

/** One device of each type. */
function defaultRequests({ supervise }: Settings): DeviceRequest[] {
  const [disk, scsi] = DEFAULT_IMAGES;
  const request = (
    type: DeviceType,
    ...pairs: [string, string][]
  ): DeviceRequest => ({ subject: "serve", type, pairs });
  const backend = findProgram("passt") === null ? "switch" : "passt";
  return [
    request(BLK, ["path", disk]),
    request(NET, ["backend", backend]),
    request(SCSI, ["path", scsi]),
    // It needs a process of its own.
    ...(supervise ? [request(BALLOON)] : []),
  ];
}

function refuseManagementConflict(
  devices: readonly PlannedDevice[],
  { management }: Settings,
): void {
  if (management === null) return;
  const path = resolve(management);
  const taken = devices.find(({ spec: { socket } }) =>
    socket !== undefined && resolve(socket) === path
  );
  if (taken === undefined) return;
  throw new HostError(
    "usage",
    `"${taken.spec.name}" and the management cannot both listen on "${management}"`,
  );
}

function refuseProcessConflict(
  devices: readonly PlannedDevice[],
  { supervise }: Settings,
): void {
  if (supervise) return;
  const shared = devices.find(({ type, options, process }) =>
    process !== null && process !== type.process?.(options)
  );
  if (shared !== undefined) {
    throw new HostError(
      "usage",
      `"${shared.spec.name}" cannot have "process=${shared.process}": without supervision all devices share this process`,
    );
  }
  const alone = devices.find(({ type }) => type.alone !== undefined);
  if (alone !== undefined && devices.length > 1) {
    throw new HostError(
      "usage",
      `"${alone.spec.name}" cannot share this process with other devices, as it would without supervision: ${alone.type.alone}`,
    );
  }
}

/** Makes the directory of default paths, if one is used. */
function makeDataDirectory(
  made: MadeFiles,
  devices: readonly PlannedDevice[],
  { management }: Settings,
): void {
  const inside = (path: unknown) =>
    typeof path === "string" && dirname(path) === DATA_DIRECTORY;
  const remedies = [
    ...devices.filter(({ spec }) => inside(spec.socket))
      .map(({ spec }) => `socket=PATH for "${spec.name}"`),
    ...(inside(management) ? ["--management=PATH or --management=off"] : []),
  ];
  if (remedies.length === 0) return;
  made.makeDirectory(`to do without it, give ${remedies.join(", ")}`);
}

/** What is served, and how to use it. */
function announcement(
  devices: readonly PlannedDevice[],
  status: readonly Record<string, unknown>[],
): string {
  const lines = devices.map(({ type, spec, options }, i) => {
    const facts = status[i].device as Record<string, unknown>;
    const where = spec.socket === undefined
      ? `file descriptor ${spec.fd}`
      : spec.socket;
    return `Serving ${
      type.describe(options, facts)
    } as "${spec.name}" on ${where}`;
  });
  const balloon = devices.some(({ type }) => type === BALLOON);
  return [
    ...lines,
    "",
    "A virtual machine with it (-m and size= have to agree):",
    "",
    qemuCommand(devices),
    "",
    ...(balloon
      ? [
        "The balloon needs QEMU 10.2 or later: leave its two lines out for an older one.",
        "QEMU cannot connect to it again (no reconnect-ms there), and aborts without its",
        "process, at the latest when the guest resets.",
        "",
      ]
      : []),
    "With reconnect-ms (QEMU 9.2 and later; reconnect=1 before) the virtual machine",
    "survives a restart of this server. Stop with Ctrl-C.",
  ].join("\n");
}
