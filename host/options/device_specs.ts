/**
 * From requests for devices to what {@linkcode DeviceHost} serves: common
 * options, names, default sockets, and the contradictions between devices.
 *
 * @module
 */

import type { OptionSpec, OptionValues } from "../../backends/option_schema.ts";
import { OptionError } from "../../backends/option_reader.ts";
import { groupId } from "../../sys/process.ts";
import type { DeviceSpec } from "../device_host.ts";
import {
  DEVICE_TYPES,
  type DeviceOptions,
  type DeviceType,
} from "../device_types.ts";
import { HostError, messageOf } from "../error.ts";
import { refuseConflicts } from "./conflicts.ts";
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
  {
    name: "packed",
    type: "flag",
    default: true,
    help: "offer VIRTIO_F_RING_PACKED",
  },
  {
    name: "in-order",
    type: "flag",
    default: true,
    help: "offer VIRTIO_F_IN_ORDER",
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
  /** Its parts, if the type has any. */
  readonly parts?: readonly PartRequest[];
}

/** A part of a device that somebody asked for, a logical unit say. */
export interface PartRequest {
  /** Where it was asked for, the start of messages: `--lun`. */
  readonly subject: string;
  /** Its options, unchecked; the owner's among them, unless it is known. */
  readonly pairs: readonly (readonly [string, RawValue])[];
}

/** A device with checked options. */
export interface PlannedDevice {
  /** The type. */
  readonly type: DeviceType;
  /** Its own options: what {@linkcode DeviceSpec.options} holds. */
  readonly options: DeviceOptions;
  /** What to serve, and where. */
  readonly spec: DeviceSpec;
  /** Name of a process that several devices share; `null`: one of its own. */
  readonly process: string | null;
}

/** A request whose options were read. */
interface ParsedRequest {
  readonly subject: string;
  readonly type: DeviceType;
  readonly name: string;
  readonly values: OptionValues;
  /** Its parts, read. */
  readonly parts: ParsedPart[];
}

/** A part whose options were read. */
interface ParsedPart {
  readonly subject: string;
  readonly values: OptionValues;
}

/**
 * Checks requests, each for itself and against each other.
 *
 * @param parts requests for parts of devices that they name themselves
 * @throws {HostError} of kind `usage`
 */
export function planDevices(
  requests: readonly DeviceRequest[],
  parts: readonly PartRequest[] = [],
): PlannedDevice[] {
  const read = requests.map(({ subject, type, pairs, parts = [] }) => {
    const schema = [...type.options, ...COMMON_OPTIONS];
    const values = parseOptions(subject, schema, pairs);
    const options = type.parts?.options ?? [];
    return {
      subject,
      type,
      values,
      parts: parts.map(({ subject, pairs }): ParsedPart => ({
        subject,
        values: parseOptions(subject, options, pairs),
      })),
    };
  });
  const taken = new Set(read.map(({ values }) => values.id));
  const parsed = read.map((request): ParsedRequest => {
    const name = String(
      request.values.id ?? freeName(request.type.name, taken),
    );
    taken.add(name);
    return { ...request, name };
  });
  for (const part of parts) assign(part, parsed);
  const devices = parsed.map(plan);
  refuseConflicts(devices);
  return devices;
}

/** The options that give devices with parts. */
const OWNERS = DEVICE_TYPES.filter(({ parts }) => parts !== undefined)
  .map(({ name }) => `--${name}`).join(" or ");

/** Gives a part to the device that it names, or to the only one there is. */
function assign(
  { subject, pairs }: PartRequest,
  devices: readonly ParsedRequest[],
): void {
  const owners = devices.filter(({ type }) => type.parts !== undefined);
  const { owner = "", title = "part", options = [] } = owners[0]?.type.parts ??
    {};
  const named = pairs.find(([key]) => key === owner)?.[1];
  const found = named === undefined
    ? owners
    : owners.filter(({ name, values }) =>
      name === named || values.socket === named
    );
  if (found.length !== 1) {
    const names = owners.map(({ name }) => `"${name}"`).join(", ");
    throw new HostError(
      "usage",
      owners.length === 0
        ? `${subject}: there is no device that it could belong to: add ${OWNERS}`
        : named === undefined
        ? `${subject}: say which device this ${title} belongs to: ${owner}= one of ${names}`
        : `${subject}: "${owner}=${named}" is none of ${names}, nor a socket of theirs`,
    );
  }
  const own = pairs.filter(([key]) => key !== owner);
  const values = parseOptions(subject, options, own);
  found[0].parts.push({ subject, values });
}

/** `blk`, or the first of `blk1`, `blk2`, … that is free. */
function freeName(type: string, taken: ReadonlySet<unknown>): string {
  let name = type;
  for (let i = 1; taken.has(name); i++) name = `${type}${i}`;
  return name;
}

function plan(
  { subject, type, values, name, parts }: ParsedRequest,
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
    packed,
    inOrder,
    ...own
  } = values;
  const options: DeviceOptions = parts.length === 0
    ? own
    : { ...own, [type.parts!.key]: parts.map(({ values }) => values) };
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
    throw new HostError("usage", blame(subject, parts, error), {
      cause: error,
    });
  }
  if (type.alone !== undefined && process !== undefined) {
    throw new HostError(
      "usage",
      `${subject}: "process=${process}" is not possible for a ${type.title}: ${type.alone}`,
    );
  }
  const workerGroup = type.workerGroup?.(options) ?? null;
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
    ...(workerGroup === null ? {} : { workerGroup }),
    ...(type.descriptors?.some((key) => options[key] !== undefined)
      ? { descriptors: type.descriptors }
      : {}),
    ringHint: type.ringHint(options),
    poll: parsePoll(subject, String(poll)),
    eventIdx: eventIdx === true,
    indirect: indirect === true,
    packed: packed === true,
    inOrder: inOrder === true,
  };
  const shared = process === undefined
    ? type.process?.(options) ?? null
    : String(process);
  return { type, options, spec, process: shared };
}

/** Says what is wrong with a device, or with which of its parts. */
function blame(
  subject: string,
  parts: readonly ParsedPart[],
  error: unknown,
): string {
  if (!(error instanceof OptionError) || error.place === null) {
    return `${subject}: ${messageOf(error)}`;
  }
  return `${parts[error.place.index].subject}: ${error.problem}`;
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
