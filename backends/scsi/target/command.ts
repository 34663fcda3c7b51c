/**
 * What is known of a command, as a table: its CDB layout, when it may run, what
 * runs it. Dispatching, REPORT SUPPORTED OPERATION CODES and the reference page
 * are made from it.
 *
 * @module
 */

import type { Task } from "./task.ts";

/** Kinds of logical units that know a command: a set of bits. */
export const UNIT_DISK = 1;
/** CD-ROMs. */
export const UNIT_CDROM = 2;
/** The REPORT LUNS well-known logical unit. */
export const UNIT_WELL_KNOWN = 4;
/** Numbers where there is no logical unit. */
export const UNIT_ABSENT = 8;
/** All that have a medium. */
export const UNIT_MEDIA: number = UNIT_DISK | UNIT_CDROM;
/** All that are. */
export const UNIT_ANY: number = UNIT_MEDIA | UNIT_WELL_KNOWN;

/** Allowed whoever has a reservation. */
export const ACCESS_ANY = 0;
/** Allowed where a reservation lets others read. */
export const ACCESS_READ = 1;
/** Not allowed where a reservation keeps others from writing. */
export const ACCESS_WRITE = 2;
/** Judges itself. */
export const ACCESS_OWN = 3;

/** A field that is there but must be 0. */
export const ZERO = true;

/**
 * A field of a CDB: name, byte, most significant bit, number of bits (whole
 * bytes when more than 8), and {@linkcode ZERO} for one whose only supported
 * value is 0.
 */
export type CdbField = readonly [
  name: string,
  byte: number,
  bit: number,
  bits: number,
  zero?: true,
];

/** What a command is described by. */
export interface CommandOptions {
  /** The standard's name: `READ (10)`. */
  readonly name: string;
  /** Operation code. */
  readonly opcode: number;
  /** Service action, where the operation code has those. */
  readonly serviceAction?: number;
  /** Length of the CDB in bytes. */
  readonly length: number;
  /** The fields of the CDB besides operation code, service action and control. */
  readonly fields: readonly CdbField[];
  /**
   * Bits that may be set and are read over: hints, and what once had a meaning.
   * All others that no field covers are reserved, and must be 0.
   */
  readonly ignored?: readonly CdbField[];
  /** A set of `UNIT_*`. */
  readonly units: number;
  /** One of `ACCESS_*`. */
  readonly access: number;
  /** Allowed to others while a RESERVE command's reservation is there. */
  readonly always?: boolean;
  /** Runs although a unit attention condition is pending, and leaves it so. */
  readonly ignoresAttention?: boolean;
  /** Needs a medium that is ready. */
  readonly needsMedium?: boolean;
  /** Writes to the medium. */
  readonly writes?: boolean;
  /** No other command may run beside it. */
  readonly exclusive?: boolean;
  /** Doing it twice is not the same as doing it once. */
  readonly once?: boolean;
  /** Needs a thin provisioned logical unit. */
  readonly thin?: boolean;
  /** Runs it. */
  readonly run: (task: Task) => void;
  /** Where it is specified. */
  readonly source: string;
  /** A program that tests it, of sg3-utils if it has no other name. */
  readonly tool?: string;
}

/** A command, as it is dispatched. */
export interface CommandSpec extends CommandOptions {
  /** For each byte of the CDB the bits that are looked at. */
  readonly usage: Uint8Array;
  /** For each byte of the CDB the bits that must be 0. */
  readonly forbidden: Uint8Array;
  /** The same as four words of a CDB of 16 bytes. */
  readonly forbiddenWords: Uint32Array;
  /** Index of the service action's byte, or -1. */
  readonly serviceActionByte: number;
}

/** NACA of the CONTROL byte: there is no auto contingent allegiance here. */
const NACA = 0x04;
/** What must be 0 in the CONTROL byte: all but the vendor specific bits. */
const CONTROL_ZERO = 0x3f;
/** Bytes of the longest CDB. */
const LONGEST = 16;
/** SERVICE ACTION, in byte 1. */
const SERVICE_ACTION = 0x1f;
/**
 * The logical unit number that SCSI-2 had in byte 1. Drivers put it there until
 * they know that a logical unit is younger than that: FreeBSD's do.
 */
const OLD_LUN = 0xe0;

/** Adds the bits of a field to a mask. */
function cover(mask: Uint8Array, [, byte, bit, bits]: CdbField): void {
  if (bits > 8) mask.fill(0xff, byte, byte + bits / 8);
  else mask[byte] |= fieldMask(bit, bits);
}

/** The bits of a field of at most eight. */
export function fieldMask(bit: number, bits: number): number {
  return ((1 << bits) - 1) << (bit - bits + 1);
}

/** Makes the masks of a command. */
export function defineCommand(options: CommandOptions): CommandSpec {
  const { opcode, length, fields, ignored = [], serviceAction } = options;
  const usage = new Uint8Array(length);
  for (const field of fields) cover(usage, field);
  const known = usage.slice();
  for (const field of ignored) cover(known, field);
  known[1] |= OLD_LUN | (serviceAction === undefined ? 0 : SERVICE_ACTION);
  known[length - 1] |= ~CONTROL_ZERO;
  const forbidden = known.map((mask) => ~mask);
  forbidden[0] = 0;
  for (const field of fields) if (field[4]) cover(forbidden, field);
  usage[0] = opcode;
  const serviceActionByte = serviceAction === undefined ? -1 : 1;
  if (serviceAction !== undefined) usage[1] |= serviceAction;
  usage[length - 1] |= NACA;
  const whole = new Uint8Array(LONGEST);
  whole.set(forbidden);
  // All have the same shape: they are looked at for each command.
  return {
    name: options.name,
    opcode,
    serviceAction,
    length,
    fields,
    ignored,
    units: options.units,
    access: options.access,
    always: options.always ?? false,
    ignoresAttention: options.ignoresAttention ?? false,
    needsMedium: options.needsMedium ?? false,
    writes: options.writes ?? false,
    exclusive: options.exclusive ?? false,
    once: options.once ?? false,
    thin: options.thin ?? false,
    run: options.run,
    source: options.source,
    tool: options.tool,
    usage,
    forbidden,
    forbiddenWords: new Uint32Array(whole.buffer),
    serviceActionByte,
  };
}

/** Fields that several commands share. */
export const field = {
  /** LOGICAL BLOCK ADDRESS of four or eight bytes at byte 2. */
  lba32: ["LOGICAL BLOCK ADDRESS", 2, 7, 32] as CdbField,
  lba64: ["LOGICAL BLOCK ADDRESS", 2, 7, 64] as CdbField,
  /** ALLOCATION LENGTH of a 6-byte CDB. */
  allocation6: ["ALLOCATION LENGTH", 3, 7, 16] as CdbField,
  /** ALLOCATION LENGTH of a 10-byte CDB. */
  allocation10: ["ALLOCATION LENGTH", 7, 7, 16] as CdbField,
  /** ALLOCATION LENGTH of a 12-byte CDB. */
  allocation12: ["ALLOCATION LENGTH", 6, 7, 32] as CdbField,
  /** ALLOCATION LENGTH of a 16-byte CDB. */
  allocation16: ["ALLOCATION LENGTH", 10, 7, 32] as CdbField,
  /** RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information. */
  protect: ["PROTECT", 1, 7, 3, ZERO] as CdbField,
  /** DPO. */
  dpo: ["DPO", 1, 4, 1] as CdbField,
  /** FUA. */
  fua: ["FUA", 1, 3, 1] as CdbField,
} as const;

/**
 * Fields of the CDBs of 10, 12 and 16 bytes that move or compare the blocks of a
 * range, by their lengths.
 *
 * @param flag what such a command has beside PROTECT and DPO in byte 1
 * @param length the name of the length
 */
export function rangeFields(
  flag: CdbField,
  length: string,
): Readonly<Record<number, readonly CdbField[]>> {
  const flags = [field.protect, field.dpo, flag];
  return {
    10: [
      ...flags,
      field.lba32,
      ["GROUP NUMBER", 6, 4, 5],
      [length, 7, 7, 16],
    ],
    12: [
      ...flags,
      field.lba32,
      [length, 6, 7, 32],
      ["GROUP NUMBER", 10, 4, 5],
    ],
    16: [
      ...flags,
      field.lba64,
      [length, 10, 7, 32],
      ["GROUP NUMBER", 14, 5, 6],
    ],
  };
}
