/**
 * The options of a virtio SCSI host and of its logical units.
 *
 * @module
 */

import {
  type GivenOptions,
  keyOf,
  OptionError,
  OptionReader,
  refuse,
} from "../option_reader.ts";
import type { OptionSpec } from "../option_schema.ts";
import { MAX_LUN, MAX_TARGET } from "./target/bus.ts";

/** Largest `seg-max`. */
export const SEG_MAX_LIMIT = 1008;

/** What a logical unit is configured with. JSON values only. */
export interface LunOptions {
  /** Target number, 0 to 255 (default 0). */
  readonly target?: number;
  /** Logical unit number, 0 to 16383 (default 0). */
  readonly lun?: number;
  /** Path of a raw image or block device; a CD-ROM may be without. */
  readonly path?: string;
  /** Refuse writes (default false; a CD-ROM always does). */
  readonly readonly?: boolean;
  /** `"disk"` (default) or `"cdrom"`. */
  readonly type?: string;
  /** Logical block size in bytes: 512, 1024, 2048, 4096; also as text. */
  readonly blockSize?: number | string;
  /** Unit serial number, at most 36 ASCII characters. */
  readonly serial?: string;
  /** T10 vendor identification, at most 8 ASCII characters. */
  readonly vendor?: string;
  /** Product identification, at most 16 ASCII characters. */
  readonly product?: string;
  /** NAA identifier: 16 hexadecimal digits. */
  readonly wwn?: string;
  /** Whether the disk rotates (default false). */
  readonly rotational?: boolean;
  /** Whether unmapping gives space back (default: where the host can). */
  readonly thin?: boolean;
  /** Whether the medium can be taken out (default: CD-ROMs alone). */
  readonly removable?: boolean;
  /** Bypass the page cache (default false). */
  readonly direct?: boolean;
  /** How the image is read and written (default `"auto"`). */
  readonly engine?: string;
  /** `"auto"` refuses other formats, `"raw"` serves the very bytes. */
  readonly format?: string;
  /** Serve the image although another process uses it (default false). */
  readonly share?: boolean;
}

/** What a SCSI host is configured with; the keys of a logical unit with `path`. */
export interface ScsiOptions extends LunOptions {
  /** Number of request queues, 1 to 254 (default 1). */
  readonly queues?: number;
  /** Most data segments of a request, 1 to 1008 (default 126). */
  readonly segMax?: number;
  /** Name of the initiator, for reservations (default `hba-N`). */
  readonly initiator?: string;
  /** The logical units. */
  readonly luns?: readonly LunOptions[];
}

/** Options of a logical unit, checked. */
export interface ResolvedLun {
  readonly target: number;
  readonly lun: number;
  /** Empty: no medium. */
  readonly path: string;
  readonly readOnly: boolean;
  readonly type: "disk" | "cdrom";
  /** `undefined`: what the medium asks for. */
  readonly blockSize: number | undefined;
  /** Empty: made of the path. */
  readonly serial: string;
  readonly vendor: string;
  readonly product: string;
  /** Empty: made of the path or the serial number. */
  readonly wwn: string;
  readonly rotational: boolean;
  /** `undefined`: where the host can. */
  readonly thin: boolean | undefined;
  readonly removable: boolean;
  readonly direct: boolean;
  readonly engine: string;
  readonly format: string;
  readonly share: boolean;
}

/** Options of a SCSI host, checked. */
export interface ResolvedScsiOptions {
  readonly queues: number;
  readonly segMax: number;
  /** Empty: to be chosen. */
  readonly initiator: string;
  readonly luns: readonly ResolvedLun[];
}

const MEDIUM_OPTIONS: readonly OptionSpec[] = [
  {
    name: "path",
    type: "path",
    help: "raw image or block device to serve; a CD-ROM may be without",
  },
  {
    name: "readonly",
    type: "flag",
    default: false,
    help: "refuse writes; several servers may share the image",
  },
  {
    name: "type",
    type: "choice",
    choices: ["disk", "cdrom"],
    default: "disk",
    help: "what the logical unit is",
  },
  {
    name: "block-size",
    type: "choice",
    choices: ["512", "1024", "2048", "4096"],
    help: "logical block size in bytes; without it, what the medium asks for",
  },
  {
    name: "serial",
    type: "string",
    maximumLength: 36,
    help: "unit serial number, ASCII; without it, made of the path",
  },
  {
    name: "vendor",
    type: "string",
    maximumLength: 8,
    default: "VHOSTD",
    help: "vendor identification, up to 8 ASCII characters",
  },
  {
    name: "product",
    type: "string",
    maximumLength: 16,
    help: "product identification, up to 16 ASCII characters",
  },
  {
    name: "wwn",
    type: "string",
    maximumLength: 18,
    help: "world wide name: 16 hexadecimal digits",
  },
  {
    name: "rotational",
    type: "flag",
    default: false,
    help: "say that the disk rotates",
  },
  {
    name: "thin",
    type: "flag",
    help: "let the guest give space back; without it, where the host can",
  },
  {
    name: "removable",
    type: "flag",
    help: "the medium can be taken out; without it, of CD-ROMs alone",
  },
  {
    name: "direct",
    type: "flag",
    default: false,
    help: "bypass the host's page cache (O_DIRECT)",
  },
  {
    name: "engine",
    type: "choice",
    choices: ["auto", "io_uring", "sync"],
    default: "auto",
    help: "how the image is read and written",
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

const PLACE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "target",
    type: "integer",
    minimum: 0,
    maximum: MAX_TARGET,
    default: 0,
    help: "target number",
  },
  {
    name: "lun",
    type: "integer",
    minimum: 0,
    maximum: MAX_LUN,
    default: 0,
    help: "logical unit number",
  },
];

/** The keys of `--lun`, besides the one that names its SCSI host. */
export const LUN_OPTIONS: readonly OptionSpec[] = [
  ...PLACE_OPTIONS,
  ...MEDIUM_OPTIONS,
];

/** The keys of `--scsi`: with `path` those of target 0, LUN 0 as well. */
export const SCSI_OPTIONS: readonly OptionSpec[] = [
  {
    name: "queues",
    type: "integer",
    minimum: 1,
    maximum: 254,
    default: 1,
    help: "number of request queues",
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
    name: "initiator",
    type: "string",
    maximumLength: 64,
    help: "name of the guest for reservations of shared logical units",
  },
  ...MEDIUM_OPTIONS,
];

function wwnOf(options: OptionReader): string {
  const wwn = options.printable("wwn").replace(/^0x/i, "").toLowerCase();
  return wwn === "" || /^[0-9a-f]{16}$/.test(wwn)
    ? wwn
    : refuse("wwn", options.given("wwn"), "it is 16 hexadecimal digits");
}

function pathOf(options: OptionReader, cdrom: boolean): string {
  const path = options.given("path") ?? "";
  if (typeof path !== "string" || path.includes("\0")) {
    return refuse("path", path, "it is the path of an image or block device");
  }
  return path === "" && !cdrom ? options.missing("path", "PATH") : path;
}

function blockSizeOf(
  options: OptionReader,
  cdrom: boolean,
): number | undefined {
  const asked = options.optionalChoice("block-size");
  if (!cdrom) return asked === undefined ? undefined : Number(asked);
  return asked === undefined || asked === "2048"
    ? 2048
    : refuse("block-size", asked, "a CD-ROM has blocks of 2048 bytes");
}

/**
 * Checks the options of a logical unit and fills in defaults.
 *
 * @throws {OptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveLun } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { blockSize, readOnly } = resolveLun({ type: "cdrom" });
 * assertEquals([blockSize, readOnly], [2048, true]);
 * ```
 */
export function resolveLun(given: GivenOptions): ResolvedLun {
  const options = new OptionReader(LUN_OPTIONS, given);
  const type = options.choice("type") as ResolvedLun["type"];
  const cdrom = type === "cdrom";
  return {
    target: options.integer("target"),
    lun: options.integer("lun"),
    path: pathOf(options, cdrom),
    readOnly: cdrom || options.flag("readonly"),
    type,
    blockSize: blockSizeOf(options, cdrom),
    serial: options.printable("serial"),
    vendor: options.printable("vendor"),
    product: options.printable("product", cdrom ? "CD-ROM" : "DISK"),
    wwn: wwnOf(options),
    rotational: options.flag("rotational"),
    thin: cdrom ? false : options.optionalFlag("thin"),
    removable: options.flag("removable", cdrom),
    direct: options.flag("direct"),
    engine: options.choice("engine"),
    format: options.choice("format"),
    share: options.flag("share"),
  };
}

/**
 * The place of a logical unit.
 *
 * @param more other keys that may be there
 * @throws {OptionError} when it is none
 */
export function resolvePlace(
  given: GivenOptions,
  more: readonly string[] = [],
): Pick<ResolvedLun, "target" | "lun"> {
  const options = new OptionReader(PLACE_OPTIONS, given, more);
  return { target: options.integer("target"), lun: options.integer("lun") };
}

/** The logical unit that the host's own options describe. */
function ownLun(options: OptionReader): ResolvedLun[] {
  const given = MEDIUM_OPTIONS.map(({ name }) => name);
  if (
    options.given("path") === undefined && options.choice("type") === "disk"
  ) {
    // A default that a parser filled in says nothing.
    const lost = given.find((name) => options.changed(name));
    return lost === undefined ? [] : refuse(
      lost,
      options.given(lost),
      "it belongs to a logical unit, and the host has none of its own: add path=PATH, or say it of those in the list",
    );
  }
  return [
    resolveLun(
      Object.fromEntries(
        given.map((name) => [keyOf(name), options.given(name)]),
      ),
    ),
  ];
}

function listedLuns(
  listed: unknown,
  own: readonly ResolvedLun[],
): ResolvedLun[] {
  if (!Array.isArray(listed)) return refuse("luns", listed, "it is a list");
  const luns: ResolvedLun[] = [];
  for (const [index, given] of listed.entries()) {
    try {
      luns.push(listedLun(given, [...own, ...luns]));
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      const { option, problem } = error;
      throw new OptionError(option, problem, { list: "luns", index });
    }
  }
  return luns;
}

function listedLun(
  given: unknown,
  others: readonly ResolvedLun[],
): ResolvedLun {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return refuse(
      "luns",
      given,
      "it is an object with the options of a logical unit",
    );
  }
  const unit = resolveLun(given as GivenOptions);
  const { target, lun } = unit;
  const there = others.find((other) =>
    other.target === target && other.lun === lun
  );
  return there === undefined ? unit : refuse(
    "target",
    `${target},lun=${lun}`,
    `${
      there.path === "" ? "another one" : JSON.stringify(there.path)
    } has that place; choose another target= or lun=`,
  );
}

/**
 * Checks the options of a SCSI host and fills in defaults. With `path`, its own
 * options describe target 0, LUN 0.
 *
 * @throws {OptionError} when a value is not what the option takes
 */
export function resolveScsiOptions(given: GivenOptions): ResolvedScsiOptions {
  const options = new OptionReader(SCSI_OPTIONS, given, ["luns"]);
  const own = ownLun(options);
  const luns = [...own, ...listedLuns(given.luns ?? [], own)];
  return {
    queues: options.integer("queues"),
    segMax: options.integer("seg-max"),
    initiator: options.printable("initiator"),
    luns,
  };
}
