/**
 * The options of a virtio block device.
 *
 * @module
 */

import { type GivenOptions, OptionReader, refuse } from "../option_reader.ts";
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

/** Refuses what was asked for and can have no effect. */
function refuseContradictions(options: OptionReader, storage: string): void {
  if (options.given("readonly") === true) {
    for (const name of ["discard", "write-zeroes"]) {
      if (options.given(name) === true) {
        refuse(name, "on", "the disk is read-only");
      }
    }
  }
  if (storage === "file") return;
  const meant = `storage=${storage} has no image`;
  for (const name of ["direct", "share"]) {
    if (options.given(name) === true) refuse(name, "on", meant);
  }
  for (const name of ["engine", "format"]) {
    if (options.changed(name)) refuse(name, options.given(name), meant);
  }
}

/** Bytes of a disk of nothing, when none are asked for. */
const NULL_SIZE = 2 ** 40;

function pathOf(options: OptionReader, storage: string): string {
  const path = options.given("path");
  if (storage !== "file") {
    return path === undefined
      ? ""
      : refuse("path", path, `storage=${storage} has no image`);
  }
  if (path === undefined) return options.missing("path", "PATH");
  return typeof path === "string" && path !== "" && !path.includes("\0")
    ? path
    : refuse("path", path, "it is the path of an image or block device");
}

function workersOf(options: OptionReader, storage: string): number {
  const workers = options.integer("workers");
  const queues = options.integer("queues");
  if (workers > queues) {
    const shared = queues === 1 ? "is 1 queue" : `are ${queues} queues`;
    refuse("workers", workers, `there ${shared} to share (queues=)`);
  }
  if (workers > 1 && storage === "memory") {
    refuse("workers", workers, "a disk in memory has one");
  }
  return workers;
}

function sizeOf(
  options: OptionReader,
  storage: string,
  blockSize: number,
): number {
  const size = options.given("size");
  if (storage === "file") {
    return size === undefined
      ? 0
      : refuse("size", size, "an image has the size that it has");
  }
  if (size === undefined && storage === "memory") {
    options.missing("size", "SIZE");
  }
  const bytes = size ?? NULL_SIZE;
  return typeof bytes === "number" && Number.isSafeInteger(bytes) &&
      bytes >= 4096 && bytes % blockSize === 0
    ? bytes
    : refuse(
      "size",
      size,
      `storage=${storage} takes a multiple of ${blockSize} bytes, at least 4096`,
    );
}

/**
 * Checks options and fills in defaults.
 *
 * @throws {OptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveBlkOptions } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resolveBlkOptions({ path: "disk.img" }).segMax, 126);
 * ```
 */
export function resolveBlkOptions(given: GivenOptions): ResolvedBlkOptions {
  const options = new OptionReader(BLK_OPTIONS, given);
  const storage = options.choice("storage") as ResolvedBlkOptions["storage"];
  const blockSize = options.optionalChoice("block-size");
  refuseContradictions(options, storage);
  return {
    path: pathOf(options, storage),
    storage,
    size: sizeOf(options, storage, Number(blockSize ?? 512)),
    readOnly: options.flag("readonly"),
    queues: options.integer("queues"),
    workers: workersOf(options, storage),
    segMax: options.integer("seg-max"),
    engine: options.choice("engine"),
    direct: options.flag("direct"),
    serial: options.printable("serial"),
    blockSize: blockSize === undefined ? undefined : Number(blockSize),
    discard: options.flag("discard", true),
    writeZeroes: options.flag("write-zeroes", true),
    wce: options.flag("wce"),
    onError: options.choice("on-error"),
    format: options.choice("format"),
    share: options.flag("share"),
  };
}
