/**
 * The options of a virtio block device.
 *
 * @module
 */

import type { OptionSpec } from "../option_schema.ts";
import { DEVICE_ID_SIZE } from "./protocol.ts";

/**
 * Largest `seg-max`: with {@linkcode REGION_CROSSINGS} more, a request fits the
 * 1024 iovecs of one system call.
 */
export const SEG_MAX_LIMIT = 1008;

/**
 * Buffers of one request that may cross from one memory region into the next:
 * each crossing makes one more segment than the driver made.
 */
export const REGION_CROSSINGS = 16;

/** What a block device is configured with. JSON values only. */
export interface BlkOptions {
  /** Path of a raw image or of a block device; for `storage: "file"` alone. */
  readonly path?: string;
  /** `"file"` (default), `"memory"` or `"null"`. */
  readonly storage?: string;
  /** Bytes of a disk in memory, or of nothing. */
  readonly size?: number;
  /** Refuse writes (default false). */
  readonly readonly?: boolean;
  /** Number of request queues, 1 to 256 (default 1). */
  readonly queues?: number;
  /** Threads that share the queues, 1 to 64 (default 1). */
  readonly workers?: number;
  /** Most data segments of a request, 1 to 1008 (default 126). */
  readonly segMax?: number;
  /** How the image is read and written (default `"auto"`). */
  readonly engine?: string;
  /** Bypass the page cache (default false). */
  readonly direct?: boolean;
  /** Device ID string, at most 20 bytes of ASCII (default empty). */
  readonly serial?: string;
  /** Logical block size in bytes, 512 or 4096; also as text. */
  readonly blockSize?: number | string;
  /** Serve DISCARD where the medium can free space (default true). */
  readonly discard?: boolean;
  /** Serve WRITE_ZEROES (default true). */
  readonly writeZeroes?: boolean;
  /** Start with a writeback cache (default true). */
  readonly wce?: boolean;
  /** What a failure of the host's storage leads to (default `"report"`). */
  readonly onError?: string;
  /** `"auto"` refuses other formats, `"raw"` serves the very bytes (default `"auto"`). */
  readonly format?: string;
  /** Serve the image although others use it (default false). */
  readonly share?: boolean;
}

/** Options as the device uses them: checked, and complete but for `blockSize`. */
export interface ResolvedBlkOptions {
  /** Path of a raw image or of a block device; empty for other storage. */
  readonly path: string;
  /** Where the bytes are. */
  readonly storage: "file" | "memory" | "null";
  /** Bytes of a disk in memory, or of nothing; 0 for files. */
  readonly size: number;
  /** Refuse writes. */
  readonly readOnly: boolean;
  /** Number of request queues. */
  readonly queues: number;
  /** Threads that share the queues. */
  readonly workers: number;
  /** Most data segments of a request. */
  readonly segMax: number;
  /** How the image is read and written. */
  readonly engine: string;
  /** Bypass the page cache. */
  readonly direct: boolean;
  /** Device ID string. */
  readonly serial: string;
  /** Logical block size in bytes; `undefined`: what the medium asks for. */
  readonly blockSize: number | undefined;
  /** Serve DISCARD where the medium can free space. */
  readonly discard: boolean;
  /** Serve WRITE_ZEROES. */
  readonly writeZeroes: boolean;
  /** Start with a writeback cache. */
  readonly wce: boolean;
  /** `"report"` or `"stop"`. */
  readonly onError: string;
  /** `"auto"` or `"raw"`. */
  readonly format: string;
  /** Serve the image although others use it. */
  readonly share: boolean;
}

/** The schema of the options, for parsers, help texts and reference pages. */
export const BLK_OPTIONS: readonly OptionSpec[] = [
  {
    name: "path",
    type: "path",
    help: "raw image or block device to serve (required for storage=file)",
  },
  {
    name: "storage",
    type: "choice",
    choices: ["file", "memory", "null"],
    default: "file",
    help:
      "where the bytes are; memory: a RAM disk, lost at the end; null: nowhere",
  },
  {
    name: "size",
    type: "size",
    minimum: 4096,
    help: "bytes of the disk, for storage=memory (required) and null (1T)",
  },
  {
    name: "readonly",
    type: "flag",
    default: false,
    help: "refuse writes; several servers may share the image",
  },
  {
    name: "queues",
    type: "integer",
    minimum: 1,
    maximum: 256,
    default: 1,
    help: "number of request queues",
  },
  {
    name: "workers",
    type: "integer",
    minimum: 1,
    maximum: 64,
    default: 1,
    help: "threads that share the queues",
  },
  {
    name: "seg-max",
    type: "integer",
    minimum: 1,
    maximum: SEG_MAX_LIMIT,
    default: 126,
    help: "most data segments of a request; the ring size less 2 fits",
  },
  {
    name: "engine",
    type: "choice",
    choices: ["auto", "io_uring", "sync"],
    default: "auto",
    help: "how the image is read and written",
  },
  {
    name: "direct",
    type: "flag",
    default: false,
    help: "bypass the host's page cache (O_DIRECT)",
  },
  {
    name: "serial",
    type: "string",
    maximumLength: DEVICE_ID_SIZE,
    default: "",
    help: "device ID string, up to 20 ASCII characters",
  },
  {
    name: "block-size",
    type: "choice",
    choices: ["512", "4096"],
    help: "logical block size in bytes; without it, what the medium asks for",
  },
  {
    name: "discard",
    type: "flag",
    help:
      "let the guest give space back; without it, where the host can free it",
  },
  {
    name: "write-zeroes",
    type: "flag",
    help:
      "let the guest zero ranges without sending zeroes; without it, where it may write",
  },
  {
    name: "wce",
    type: "flag",
    default: true,
    help: "start with a writeback cache; off: every write is durable",
  },
  {
    name: "on-error",
    type: "choice",
    choices: ["report", "stop"],
    default: "report",
    help:
      "when the host's storage fails: report tells the guest; stop holds requests until ctl resume",
  },
  {
    name: "format",
    type: "choice",
    choices: ["auto", "raw"],
    default: "auto",
    help: "auto refuses images of other formats, raw serves the very bytes",
  },
  {
    name: "share",
    type: "flag",
    default: false,
    help: "serve the image although another process writes it",
  },
];

/** Options of a block device that cannot be. */
export class BlkOptionError extends Error {
  /** Stable reason. */
  readonly kind = "usage";
  /** Name of the option. */
  readonly option: string;

  /** Makes an error about an option. */
  constructor(option: string, message: string) {
    super(message);
    this.name = "BlkOptionError";
    this.option = option;
  }
}

function wrong(option: string, value: unknown, right: string): never {
  throw new BlkOptionError(
    option,
    `Cannot use ${option}=${String(value)}: ${right}`,
  );
}

function flag(
  options: Readonly<Record<string, unknown>>,
  key: string,
  option: string,
  otherwise: boolean,
): boolean {
  const value = options[key] ?? otherwise;
  return typeof value === "boolean"
    ? value
    : wrong(option, value, "it is on or off");
}

function integer(
  options: Readonly<Record<string, unknown>>,
  key: string,
  option: string,
): number {
  const spec = BLK_OPTIONS.find(({ name }) => name === option)!;
  const value = options[key] ?? spec.default;
  const minimum = spec.minimum!, maximum = spec.maximum!;
  return typeof value === "number" && Number.isInteger(value) &&
      value >= minimum && value <= maximum
    ? value
    : wrong(option, value, `it is an integer from ${minimum} to ${maximum}`);
}

function choice(
  options: Readonly<Record<string, unknown>>,
  key: string,
  option: string,
): string | undefined {
  const spec = BLK_OPTIONS.find(({ name }) => name === option)!;
  const value = options[key] ?? spec.default;
  if (value === undefined) return undefined;
  return spec.choices!.includes(String(value))
    ? String(value)
    : wrong(option, value, `it is one of ${spec.choices!.join(", ")}`);
}

/** Refuses what was asked for and can have no effect. */
function refuseContradictions(
  options: Readonly<Record<string, unknown>>,
  storage: string,
): void {
  if (options.readonly === true) {
    const writing = [["discard", "discard"], ["writeZeroes", "write-zeroes"]];
    for (const [key, option] of writing) {
      if (options[key] === true) wrong(option, "on", "the disk is read-only");
    }
  }
  if (storage === "file") return;
  const meant = `storage=${storage} has no image`;
  for (const key of ["direct", "share"]) {
    if (options[key] === true) wrong(key, "on", meant);
  }
  const engine = options.engine ?? "auto", format = options.format ?? "auto";
  if (engine !== "auto") wrong("engine", engine, meant);
  if (format !== "auto") wrong("format", format, meant);
}

/** Bytes of a disk of nothing, when none are asked for. */
const NULL_SIZE = 2 ** 40;

function pathOf(
  { path }: Readonly<Record<string, unknown>>,
  storage: string,
): string {
  if (storage !== "file") {
    return path === undefined
      ? ""
      : wrong("path", path, `storage=${storage} has no image`);
  }
  if (path === undefined) {
    throw new BlkOptionError("path", '"path" is missing: add path=PATH');
  }
  return typeof path === "string" && path !== "" && !path.includes("\0")
    ? path
    : wrong("path", path ?? "", "it is the path of an image or block device");
}

function workersOf(
  options: Readonly<Record<string, unknown>>,
  storage: string,
): number {
  const workers = integer(options, "workers", "workers");
  const queues = integer(options, "queues", "queues");
  if (workers > queues) {
    wrong("workers", workers, `there are ${queues} queues to share (queues=)`);
  }
  if (workers > 1 && storage === "memory") {
    wrong("workers", workers, "a disk in memory has one");
  }
  return workers;
}

function sizeOf(
  { size }: Readonly<Record<string, unknown>>,
  storage: string,
  blockSize: number,
): number {
  if (storage === "file") {
    return size === undefined
      ? 0
      : wrong("size", size, "an image has the size that it has");
  }
  const bytes = size ?? (storage === "null" ? NULL_SIZE : undefined);
  if (
    typeof bytes !== "number" || !Number.isSafeInteger(bytes) ||
    bytes < 4096 || bytes % blockSize !== 0
  ) {
    wrong(
      "size",
      size ?? "",
      `storage=${storage} takes a multiple of ${blockSize} bytes, at least 4096`,
    );
  }
  return bytes;
}

/**
 * Checks options and fills in defaults.
 *
 * @throws {BlkOptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveBlkOptions } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resolveBlkOptions({ path: "disk.img" }).segMax, 126);
 * ```
 */
export function resolveBlkOptions(
  options: Readonly<Record<string, unknown>>,
): ResolvedBlkOptions {
  const storage = choice(options, "storage", "storage") as
    | "file"
    | "memory"
    | "null";
  const serial = options.serial ?? "";
  if (typeof serial !== "string" || !/^[\x20-\x7e]{0,20}$/.test(serial)) {
    wrong("serial", serial, "it is at most 20 printable ASCII characters");
  }
  const blockSize = choice(options, "blockSize", "block-size");
  refuseContradictions(options, storage);
  return {
    path: pathOf(options, storage),
    storage,
    size: sizeOf(options, storage, Number(blockSize ?? 512)),
    readOnly: flag(options, "readonly", "readonly", false),
    queues: integer(options, "queues", "queues"),
    workers: workersOf(options, storage),
    segMax: integer(options, "segMax", "seg-max"),
    engine: choice(options, "engine", "engine")!,
    direct: flag(options, "direct", "direct", false),
    serial,
    blockSize: blockSize === undefined ? undefined : Number(blockSize),
    discard: flag(options, "discard", "discard", true),
    writeZeroes: flag(options, "writeZeroes", "write-zeroes", true),
    wce: flag(options, "wce", "wce", true),
    onError: choice(options, "onError", "on-error")!,
    format: choice(options, "format", "format")!,
    share: flag(options, "share", "share", false),
  };
}
