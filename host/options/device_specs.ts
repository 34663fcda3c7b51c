/**
 * From requests for devices to what {@linkcode DeviceHost} serves: common
 * options, names, default sockets, and the contradictions between devices.
 *
 * @module
 */

import { resolve } from "@std/path";
import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import { DataFile } from "../../sys/file.ts";
import { groupId } from "../../sys/process.ts";
import type { DeviceSpec } from "../device_host.ts";
import type { DeviceType } from "../device_types.ts";
import { HostError, messageOf } from "../error.ts";
import { parseOptions, type RawValue } from "./parse.ts";

/** Where sockets and images go whose place is not given. */
export const DATA_DIRECTORY = "./vhostd-data";
/** Bytes of the path of a Unix socket, at most. Source: `unix(7)`. */
export const MAXIMUM_SOCKET_PATH = 107;

/** The options that every type of device has besides its own. */
export const COMMON_OPTIONS: readonly OptionSpec[] = [
  {
    name: "id",
    type: "string",
    maximumLength: 32,
    help:
      "name in messages and for ctl; without it, the type, and a number from the second one on",
  },
  {
    name: "socket",
    type: "path",
    maximumLength: MAXIMUM_SOCKET_PATH,
    help: `Unix socket to listen on; without it, ${DATA_DIRECTORY}/ID.sock`,
  },
  {
    name: "fd",
    type: "integer",
    minimum: 3,
    maximum: 2 ** 31 - 1,
    help: "inherited descriptor of a Unix socket, instead of socket",
  },
  {
    name: "mode",
    type: "string",
    help: "permission bits of the socket in octal; without it, 0600",
  },
  {
    name: "group",
    type: "string",
    help: "group of the socket, by name or number",
  },
  {
    name: "process",
    type: "string",
    maximumLength: 32,
    help:
      "process that serves it together with others of that name; without it, one of its own",
  },
  {
    name: "poll",
    type: "string",
    default: "auto",
    help:
      "microseconds to look for requests before sleeping; auto: as long as it pays; off: not at all",
  },
  {
    name: "event-idx",
    type: "flag",
    default: true,
    help: "offer VIRTIO_F_EVENT_IDX",
  },
  {
    name: "indirect",
    type: "flag",
    default: true,
    help: "offer VIRTIO_F_INDIRECT_DESC",
  },
];

/** A device that somebody asked for. */
export interface DeviceRequest {
  /** Where it was asked for, the start of messages: `--blk`. */
  readonly subject: string;
  /** The type. */
  readonly type: DeviceType;
  /** Its options, unchecked. */
  readonly pairs: readonly (readonly [string, RawValue])[];
}

/** A device with checked options. */
export interface PlannedDevice {
  /** The type. */
  readonly type: DeviceType;
  /** Its own options: what {@linkcode DeviceSpec.options} holds. */
  readonly options: OptionValues;
  /** What to serve, and where. */
  readonly spec: DeviceSpec;
  /** Name of a process that several devices share; `null`: one of its own. */
  readonly process: string | null;
}

/**
 * Checks requests, each for itself and against each other.
 *
 * @throws {HostError} of kind `usage`
 */
export function planDevices(
  requests: readonly DeviceRequest[],
): PlannedDevice[] {
  const parsed = requests.map(({ subject, type, pairs }) => {
    const schema = [...type.options, ...COMMON_OPTIONS];
    return { subject, type, values: parseOptions(subject, schema, pairs) };
  });
  const taken = new Set(parsed.map(({ values }) => values.id));
  const devices = parsed.map(({ subject, type, values }) => {
    const name = values.id ?? freeName(type.name, taken);
    taken.add(name);
    return plan(subject, type, values, String(name));
  });
  refuseConflicts(devices);
  return devices;
}

/** `blk`, or the first of `blk1`, `blk2`, … that is free. */
function freeName(type: string, taken: ReadonlySet<unknown>): string {
  let name = type;
  for (let i = 1; taken.has(name); i++) name = `${type}${i}`;
  return name;
}

function plan(
  subject: string,
  type: DeviceType,
  values: OptionValues,
  name: string,
): PlannedDevice {
  const {
    id: _,
    socket,
    fd,
    mode,
    group,
    process,
    poll,
    eventIdx,
    indirect,
    ...options
  } = values;
  requireName(subject, "id", name);
  if (process !== undefined) requireName(subject, "process", String(process));
  if (fd !== undefined) {
    const other = Object.entries({ socket, mode, group })
      .find(([, value]) => value !== undefined);
    if (other !== undefined) {
      throw new HostError(
        "usage",
        `${subject}: "${
          other[0]
        }" and "fd" exclude each other: the socket of a descriptor exists already`,
      );
    }
  }
  try {
    type.check(options);
  } catch (error) {
    throw new HostError("usage", `${subject}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const spec: DeviceSpec = {
    name,
    type: type.name,
    module: type.module,
    options,
    ...(fd === undefined
      ? { socket: String(socket ?? `${DATA_DIRECTORY}/${name}.sock`) }
      : { fd: Number(fd) }),
    ...(mode === undefined ? {} : { mode: parseMode(subject, String(mode)) }),
    ...(group === undefined
      ? {}
      : { group: parseGroup(subject, String(group)) }),
    ...(typeof options.workers === "number"
      ? { workers: options.workers }
      : {}),
    poll: parsePoll(subject, String(poll)),
    eventIdx: eventIdx === true,
    indirect: indirect === true,
  };
  const shared = process === undefined ? null : String(process);
  return { type, options, spec, process: shared };
}

function requireName(subject: string, option: string, name: string): void {
  if (/^[A-Za-z][A-Za-z0-9._-]*$/.test(name) && name !== "all") return;
  throw new HostError(
    "usage",
    `${subject}: "${option}=${name}" is no name: a letter, then letters, digits, ".", "_" and "-" are possible, "all" excepted`,
  );
}

/** Longest look at the rings before sleeping, in microseconds. */
const MAXIMUM_POLL = 1_000_000;

function parsePoll(subject: string, text: string): "auto" | "off" | number {
  if (text === "auto" || text === "off") return text;
  if (/^\d{1,7}$/.test(text) && Number(text) <= MAXIMUM_POLL) {
    return Number(text);
  }
  throw new HostError(
    "usage",
    `${subject}: "poll=${text}" is neither auto nor off nor a number of microseconds up to ${MAXIMUM_POLL}`,
  );
}

function parseMode(subject: string, text: string): number {
  if (/^0?[0-7]{3}$/.test(text)) return parseInt(text, 8);
  throw new HostError(
    "usage",
    `${subject}: "mode=${text}" is no octal number of three digits such as 0660`,
  );
}

function parseGroup(subject: string, text: string): number {
  try {
    return groupId(text);
  } catch (error) {
    throw new HostError("usage", `${subject}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function refuseConflicts(devices: readonly PlannedDevice[]): void {
  const names = new Map<string, string>();
  const sockets = new Map<string, string>();
  const descriptors = new Map<number, string>();
  const files = new Map<string, string>();
  for (const { type, spec, options } of devices) {
    const { name, socket, fd } = spec;
    if (names.has(name)) {
      throw new HostError("usage", `Two devices have the name "${name}"`);
    }
    names.set(name, name);
    if (socket !== undefined) {
      refuseTwice(sockets, resolve(socket), name, `listen on "${socket}"`);
    }
    if (fd !== undefined) refuseTwice(descriptors, fd, name, `use fd ${fd}`);
    if (devices.length === 1) return;
    const file = type.writtenFile(options);
    const identity = file === null ? null : identityOf(file);
    if (identity !== null) {
      const remedy =
        "; add readonly=on, or share=on if the guests are made for it";
      refuseTwice(files, identity, name, `write "${file}"`, remedy);
    }
  }
}

function refuseTwice<Key>(
  seen: Map<Key, string>,
  key: Key,
  name: string,
  what: string,
  remedy = "",
): void {
  const other = seen.get(key);
  if (other !== undefined) {
    throw new HostError(
      "usage",
      `"${other}" and "${name}" cannot both ${what}${remedy}`,
    );
  }
  seen.set(key, name);
}

/** What distinguishes a file from others; `null` when it cannot be opened. */
function identityOf(path: string): string | null {
  try {
    using file = DataFile.open(path, { readOnly: true });
    const { dev, ino } = file.identity();
    return `${file.kind} ${dev} ${ino}`;
  } catch {
    // The device will say what is wrong with it.
    return null;
  }
}
