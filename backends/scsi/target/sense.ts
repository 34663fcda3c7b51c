/**
 * Sense data: what a device server says of a command that did not go well.
 *
 * Source: SPC-5, sense data.
 *
 * @module
 */

import { putU16, putU32, putU64, u16, u32, u64 } from "./bytes.ts";

/** Largest sense data that is made here, in bytes. */
export const SENSE_SIZE = 40;
/** Length of sense data in fixed format. */
export const FIXED_SENSE_SIZE = 18;

const FIXED = 0x70;
const DESCRIPTOR = 0x72;
const VALID = 0x80;
const SENSE_KEY_SPECIFIC_VALID = 0x80;
const COMMAND_DATA = 0x40;
const BIT_POINTER_VALID = 0x08;
const TWO_32 = 4294967296;

/** Says which field of a CDB (or of a parameter list) is wrong. */
export interface FieldPointer {
  /** True: a field of the CDB; false: of the parameter list. */
  readonly command: boolean;
  /** The field's first byte. */
  readonly byte: number;
  /** Its most significant bit in that byte, or -1. */
  readonly bit: number;
}

/** The parts of sense data. */
export interface Sense {
  /** Sense key. */
  readonly key: number;
  /** Additional sense code × 256 + qualifier. */
  readonly asc: number;
  /** The INFORMATION field: an LBA or an offset. */
  readonly information?: number;
  /** The field that is wrong, for ILLEGAL REQUEST. */
  readonly field?: FieldPointer;
}

/**
 * Writes sense data.
 *
 * @param descriptor descriptor format (else fixed format)
 * @param into at least {@linkcode SENSE_SIZE} bytes
 * @returns its length
 */
export function encodeSense(
  sense: Sense,
  descriptor: boolean,
  into: Uint8Array,
): number {
  into.fill(0, 0, SENSE_SIZE);
  return descriptor ? encodeDescriptors(sense, into) : encodeFixed(sense, into);
}

function encodeFixed(sense: Sense, into: Uint8Array): number {
  const { key, asc, information, field } = sense;
  into[0] = FIXED;
  into[2] = key;
  if (information !== undefined && information < TWO_32) {
    into[0] |= VALID;
    putU32(into, 3, information);
  }
  into[7] = FIXED_SENSE_SIZE - 8;
  putU16(into, 12, asc);
  if (field !== undefined) putPointer(field, into, 15);
  return FIXED_SENSE_SIZE;
}

function encodeDescriptors(sense: Sense, into: Uint8Array): number {
  const { key, asc, information, field } = sense;
  into[0] = DESCRIPTOR;
  into[1] = key;
  putU16(into, 2, asc);
  let at = 8;
  if (information !== undefined) {
    into[at + 1] = 0x0a;
    into[at + 2] = VALID;
    putU64(into, at + 4, information);
    at += 12;
  }
  if (field !== undefined) {
    into[at] = 0x02;
    into[at + 1] = 0x06;
    putPointer(field, into, at + 4);
    at += 8;
  }
  into[7] = at - 8;
  return at;
}

function putPointer(field: FieldPointer, into: Uint8Array, at: number): void {
  into[at] = SENSE_KEY_SPECIFIC_VALID | (field.command ? COMMAND_DATA : 0) |
    (field.bit < 0 ? 0 : BIT_POINTER_VALID | field.bit);
  putU16(into, at + 1, field.byte);
}

/**
 * Reads sense data: the inverse of {@linkcode encodeSense}.
 *
 * @returns `null` when it is neither in fixed nor in descriptor format
 */
export function decodeSense(bytes: Uint8Array): Sense | null {
  const format = bytes[0] & 0x7f;
  if (format === FIXED) {
    return {
      key: bytes[2] & 0xf,
      asc: u16(bytes, 12),
      ...(bytes[0] & VALID ? { information: u32(bytes, 3) } : {}),
      ...pointerOf(bytes, 15),
    };
  }
  if (format !== DESCRIPTOR) return null;
  let rest: Partial<Sense> = {};
  const end = 8 + bytes[7];
  for (let at = 8; at < end; at += bytes[at + 1] + 2) {
    if (bytes[at] === 0) rest = { ...rest, information: u64(bytes, at + 4) };
    if (bytes[at] === 2) rest = { ...rest, ...pointerOf(bytes, at + 4) };
  }
  return { key: bytes[1] & 0xf, asc: u16(bytes, 2), ...rest };
}

function pointerOf(bytes: Uint8Array, at: number): { field?: FieldPointer } {
  const flags = bytes[at];
  if ((flags & SENSE_KEY_SPECIFIC_VALID) === 0) return {};
  return {
    field: {
      command: (flags & COMMAND_DATA) !== 0,
      byte: u16(bytes, at + 1),
      bit: flags & BIT_POINTER_VALID ? flags & 7 : -1,
    },
  };
}
