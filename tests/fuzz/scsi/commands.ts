/**
 * Commands, as the bytes of an input want them: most are in order.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { transportIdOf } from "../../../backends/scsi/target/nexus.ts";

/** What follows the operation code, and where lengths are. */
type Shape =
  | "read"
  | "write"
  | "same"
  | "compare"
  | "verify"
  | "unmap"
  | "reserve"
  | "select"
  | "in"
  | "none";

/** Operation code, shape, offset and bytes of the allocation length. */
const COMMANDS: readonly (readonly [number, Shape, number, number])[] = [
  [0x28, "read", 0, 0],
  [0x2a, "write", 0, 0],
  [0x08, "read", 0, 0],
  [0x0a, "write", 0, 0],
  [0xa8, "read", 0, 0],
  [0xaa, "write", 0, 0],
  [0x88, "read", 0, 0],
  [0x8a, "write", 0, 0],
  [0x2e, "write", 0, 0],
  [0xae, "write", 0, 0],
  [0x8e, "write", 0, 0],
  [0x2f, "verify", 0, 0],
  [0xaf, "verify", 0, 0],
  [0x8f, "verify", 0, 0],
  [0x41, "same", 0, 0],
  [0x93, "same", 0, 0],
  [0x89, "compare", 0, 0],
  [0x42, "unmap", 0, 0],
  [0x5f, "reserve", 0, 0],
  [0x5e, "in", 7, 2],
  [0x15, "select", 0, 0],
  [0x55, "select", 0, 0],
  [0x1a, "in", 4, 1],
  [0x5a, "in", 7, 2],
  [0x12, "in", 3, 2],
  [0x00, "none", 0, 0],
  [0x03, "in", 4, 1],
  [0xa0, "in", 6, 4],
  [0x25, "in", 0, 8],
  [0x9e, "in", 10, 4],
  [0xa3, "in", 6, 4],
  [0x4d, "in", 7, 2],
  [0x1b, "none", 0, 0],
  [0x1e, "none", 0, 0],
  [0x16, "none", 0, 0],
  [0x17, "none", 0, 0],
  [0x56, "none", 0, 0],
  [0x57, "none", 0, 0],
  [0x35, "none", 0, 0],
  [0x91, "none", 0, 0],
  [0x34, "none", 0, 0],
  [0x90, "none", 0, 0],
  [0x1c, "in", 3, 2],
  [0x1d, "none", 0, 0],
  [0x43, "in", 7, 2],
  [0x46, "in", 7, 2],
  [0x4a, "in", 7, 2],
  [0x51, "in", 7, 2],
  [0x37, "in", 7, 2],
  [0xb7, "in", 6, 4],
];
/** Number of operation codes that are known. */
export const COMMAND_COUNT: number = COMMANDS.length;
/** Service actions and the like that are more than a few bits. */
const CODES = [0x00, 0x10, 0x12, 0x0c, 0x0d, 0x83, 0xb0, 0xb1, 0xb2, 0x80];
const PAGES = [0x08, 0x0a, 0x01, 0x1c, 0x4a, 0x3f];
const PAGE_SIZES = [20, 12, 12, 12, 32, 12];
const FAR = [
  0xffff_ffffn,
  1n << 32n,
  1n << 53n,
  (1n << 64n) - 1n,
  0x1f_ffffn,
] as const;

/** What a command is sent to. */
export interface Medium {
  readonly blockSize: number;
  readonly image: Uint8Array<ArrayBuffer>;
}

/** A command with its data. */
export interface Command {
  readonly cdb: Uint8Array<ArrayBuffer>;
  readonly out: Uint8Array<ArrayBuffer>;
  readonly room: number;
}

/** Bytes of a command's description. */
export const COMMAND_BYTES = 13;

/** Bytes of the CDB that a code asks for. */
function lengthOf(opcode: number): number {
  return [6, 10, 10, 10, 16, 12, 16, 16][opcode >> 5];
}

/** Where and how many blocks, in a CDB of any length. */
export function rangeOf(
  cdb: Uint8Array,
): { lba: bigint; blocks: number } {
  const view = new DataView(cdb.buffer, cdb.byteOffset, cdb.byteLength);
  switch (lengthOf(cdb[0])) {
    case 6:
      return {
        lba: BigInt(view.getUint32(0) & 0x1f_ffff),
        blocks: cdb[4] || 256,
      };
    case 12:
      return { lba: BigInt(view.getUint32(2)), blocks: view.getUint32(6) };
    case 16:
      return { lba: view.getBigUint64(2), blocks: view.getUint32(10) };
    default:
      return { lba: BigInt(view.getUint32(2)), blocks: view.getUint16(7) };
  }
}

function putRange(
  cdb: Uint8Array<ArrayBuffer>,
  lba: bigint,
  blocks: number,
): void {
  const view = new DataView(cdb.buffer);
  const low = Number(lba & 0xffff_ffffn);
  switch (lengthOf(cdb[0])) {
    case 6:
      view.setUint32(0, (cdb[0] << 24 | low & 0x1f_ffff) >>> 0);
      cdb[4] = blocks;
      break;
    case 12:
      view.setUint32(2, low);
      view.setUint32(6, blocks);
      break;
    case 16:
      view.setBigUint64(2, lba);
      view.setUint32(10, blocks);
      break;
    default:
      view.setUint32(2, low);
      view.setUint16(7, blocks);
  }
}

/** A command for a medium. */
export function commandOf(bytes: Bytes, medium: Medium): Command {
  const which = bytes.u8(), lbaKind = bytes.u8(), at = bytes.u8();
  const many = bytes.u8(), one = bytes.u8(), two = bytes.u8();
  const three = bytes.u8(), size = bytes.u8(), fill = bytes.u8();
  const first = bytes.u8(), second = bytes.u8(), third = bytes.u8();
  const odd = bytes.u8();
  const [opcode, shape, lengthAt, lengthSize] = which < 0xf0
    ? COMMANDS[which % COMMANDS.length]
    : [fill, "in", 3, 2] as const;
  const cdb = new Uint8Array(32);
  cdb[0] = opcode;
  cdb[1] = one;
  cdb[2] = two;
  cdb[3] = three;
  const { blockSize, image } = medium;
  const capacity = Math.max(1, image.length / blockSize);
  const lba = lbaKind < 0xe0
    ? BigInt(at % (capacity + (lbaKind < 0xb0 ? 0 : 3)))
    : FAR[lbaKind % FAR.length] - BigInt(at);
  const blocks = many < 0xe0
    ? many % 5
    : many < 0xf8
    ? many % 70
    : 0xffff_ffff - many;
  const length = Math.min(blocks, 200) * blockSize;
  const from = Number(lba % BigInt(capacity)) * blockSize;
  const pattern = (n: number): Uint8Array<ArrayBuffer> =>
    new Uint8Array(n).map((_, i) => fill * (1 + (i >> 3)));
  const there = (n: number): Uint8Array<ArrayBuffer> => {
    const found = new Uint8Array(n);
    found.set(image.subarray(from, from + n));
    return found;
  };
  // What is there, one byte beside it, or something else.
  const compared = (n: number): Uint8Array<ArrayBuffer> => {
    if (fill % 4 === 1) return pattern(n);
    const found = there(n);
    if (fill % 4 === 3 && n > 0) found[second % n] ^= 1;
    return found;
  };
  let out: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  let room = 0;
  switch (shape) {
    case "read":
      putRange(cdb, lba, blocks);
      room = length;
      break;
    case "write":
      putRange(cdb, lba, blocks);
      out = pattern(length);
      break;
    case "verify":
      putRange(cdb, lba, blocks);
      if ((one & 2) !== 0) out = compared(length);
      break;
    case "same":
      putRange(cdb, lba, blocks);
      out = fill < 0x80 ? new Uint8Array(blockSize) : pattern(blockSize);
      break;
    case "compare":
      putRange(cdb, lba, 0);
      cdb[13] = blocks;
      out = new Uint8Array(2 * length);
      out.set(compared(length));
      out.set(pattern(length), length);
      break;
    case "unmap": {
      const count = size % 4;
      out = new Uint8Array(8 + 16 * count);
      const view = new DataView(out.buffer);
      view.setUint16(0, out.length - 2);
      view.setUint16(2, third < 0xe0 ? 16 * count : third * 7);
      for (let i = 0; i < count; i++) {
        view.setBigUint64(8 + 16 * i, lba + BigInt(2 * i));
        view.setUint32(16 + 16 * i, blocks);
      }
      cdb.fill(0, 2);
      new DataView(cdb.buffer).setUint16(7, out.length);
      break;
    }
    case "reserve": {
      const action = one < 0xc0 ? one % 8 : one;
      cdb[1] = action;
      cdb[2] = two < 0xe0 ? two % 9 : two;
      cdb[3] = 0;
      out = new Uint8Array(action === 7 ? 48 : 24);
      out[7] = first % 3;
      out[15] = second % 3;
      if (action === 7) {
        out[17] = third;
        out[23] = 24;
        out.set(transportIdOf(odd % 2 === 0 ? "fuzz-b" : "fuzz-a"), 24);
      } else out[20] = third < 0xe0 ? third & 1 : third;
      new DataView(cdb.buffer).setUint32(5, out.length);
      break;
    }
    case "select": {
      const page = first % PAGES.length;
      const short = opcode === 0x15;
      const head = short ? 4 : 8;
      out = new Uint8Array(head + PAGE_SIZES[page]);
      const at = head;
      out[at] = PAGES[page];
      out[at + 1] = PAGE_SIZES[page] - 2;
      if (page === 0) out[at + 2] = second & 4;
      else if (page === 1) {
        out.set([0, 0x10], at + 2);
        out.set([0xff, 0xff], at + 8);
        out[at + 2] = second & 4;
        out[at + 4] = second & 8;
      } else out[at + 2] = page === 2 ? 0xc0 : 8;
      if (third >= 0xe0) out[third % out.length] = second;
      cdb.fill(0, 1);
      cdb[1] = one < 0xe0 ? 0x10 : one;
      if (short) cdb[4] = out.length;
      else new DataView(cdb.buffer).setUint16(7, out.length);
      break;
    }
    case "in": {
      const allocation = size < 0xc0 ? 4 * size : size;
      room = lengthAt === 0 ? lengthSize : allocation;
      if (lengthAt !== 0) {
        for (let i = 0; i < lengthSize; i++) {
          cdb[lengthAt + i] = allocation >>> (8 * (lengthSize - 1 - i));
        }
      }
      // Service actions, codes of pages.
      if (opcode === 0x9e) {
        cdb[1] = one < 0xc0 ? [0x10, 0x12][one % 2] : one;
        new DataView(cdb.buffer).setBigUint64(2, lba);
      } else if (opcode === 0xa3) cdb[1] = one < 0xc0 ? 0x0c : one;
      else if (opcode === 0x5e) cdb[1] = one % 6;
      else if (opcode === 0x12 && one % 2 === 1) {
        cdb[1] = one;
        cdb[2] = two < 0xc0 ? CODES[two % CODES.length] : two;
        cdb[3] = 0;
        cdb[4] = allocation;
      } else if (opcode === 0x12) cdb.fill(0, 1, 4);
      else if (opcode === 0x25) cdb.fill(0, 1);
      break;
    }
    case "none":
      cdb[4] = fill;
  }
  if (shape !== "in" && shape !== "none" && one < 0x80 && odd % 8 !== 0) {
    // Protection and other fields that few disks know.
    if (shape === "read" || shape === "write") cdb[1] &= 0x1b;
    else if (shape === "same") cdb[1] &= 0x09;
    if (lengthOf(opcode) === 6) putRange(cdb, lba, blocks);
  }
  if (odd >= 0xe0) cdb[odd % 16] ^= first | 1;
  return { cdb, out, room };
}
