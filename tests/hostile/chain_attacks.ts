/**
 * What a hostile driver writes into descriptors and rings, as tables.
 *
 * @module
 */

import type { RawDescriptor } from "../../virtqueue/testing/driver.ts";
import { SECTOR, T_IN } from "../protocol/disk.ts";
import {
  BESIDE_SIZE,
  BORDER,
  DATA,
  FAR,
  FAR_SIZE,
  HEADER,
  HOLE,
  type HostileGuest,
  INDIRECT,
  MAIN,
  MAIN_SIZE,
  NEXT,
  RING_SIZE,
  TABLE,
  WRITE,
} from "./guest.ts";

/** A chain that breaks a rule: it is answered with length 0 and counted. */
export interface ChainAttack {
  readonly name: string;
  /** Writes the chain; its head. */
  readonly build: (guest: HostileGuest) => number;
  /** What the ring's `lastError` says. */
  readonly error: string;
  /** Features to do without. */
  readonly without?: bigint;
}

const INDIRECT_DESC = 1n << 28n;

const LOOPS = "the chain loops";
const BEYOND = "next is beyond the end of the descriptor table";
const OUTSIDE = "a buffer lies outside of guest memory";
const TABLE_OUTSIDE = "an indirect table lies outside of guest memory";
const TABLE_SIZE = "the length of an indirect table is not 16 to 524288";

/** A read whose data buffer is this. */
function readInto(buffer: RawDescriptor): ChainAttack["build"] {
  return (guest) => {
    guest.chain(0, [
      guest.header(T_IN, 5),
      { ...buffer, flags: (buffer.flags ?? 0) | WRITE },
      guest.status(),
    ]);
    return 0;
  };
}

/** A chain of one indirect descriptor. */
function tableAt(
  address: number | bigint,
  length: number,
  flags = INDIRECT,
): ChainAttack["build"] {
  return (guest) => {
    guest.rings[0].setDescriptor(0, { address, length, flags, next: 1 });
    return 0;
  };
}

const outside: readonly (readonly [string, number | bigint, number])[] = [
  ["in a hole", HOLE, SECTOR],
  ["that begins in memory and ends in a hole", FAR + FAR_SIZE - 256, SECTOR],
  ["that begins in a hole and ends in memory", FAR - 256, SECTOR],
  ["one byte too long", FAR, FAR_SIZE + 1],
  ["over two regions, one byte too long", MAIN, MAIN_SIZE + BESIDE_SIZE + 1],
  ["of almost 4 GiB", MAIN, 0xffff_ff00],
  ["at 2^31", 2 ** 31, SECTOR],
  ["at 2^32 above memory", 2 ** 32 + MAIN, SECTOR],
  ["at 2^53", 2n ** 53n, SECTOR],
  ["at 2^53 - 1", 2n ** 53n - 1n, SECTOR],
  ["at 2^63", 2n ** 63n, SECTOR],
  ["at 2^63 above memory", 2n ** 63n + BigInt(MAIN), SECTOR],
  ["at 2^64 - 1", 2n ** 64n - 1n, 1],
  ["that wraps around 2^64 into memory", 2n ** 64n - 256n, SECTOR],
  ["that wraps around 2^64 and is almost 4 GiB", 2n ** 64n - 1n, 0xffff_ff00],
];

/** Chains whose descriptors break a rule. */
export const CHAIN_ATTACKS: readonly ChainAttack[] = [
  {
    name: "a descriptor that follows itself",
    build(guest) {
      guest.chain(0, [{ address: HEADER, length: 16, flags: NEXT, next: 0 }]);
      return 0;
    },
    error: LOOPS,
  },
  {
    name: "two descriptors that follow each other",
    build(guest) {
      guest.chain(0, [
        { address: HEADER, length: 16, flags: NEXT, next: 1 },
        { address: DATA, length: 16, flags: NEXT, next: 0 },
      ]);
      return 0;
    },
    error: LOOPS,
  },
  {
    name: "a loop through the whole table",
    build(guest) {
      for (let i = 0; i < RING_SIZE; i++) {
        guest.rings[0].setDescriptor(i, {
          address: HEADER,
          length: 1,
          flags: NEXT,
          next: (i + 1) % RING_SIZE,
        });
      }
      return 5;
    },
    error: LOOPS,
  },
  {
    name: "a loop of empty descriptors",
    build(guest) {
      guest.chain(0, [{ address: HEADER, length: 0, flags: NEXT, next: 0 }]);
      return 0;
    },
    error: LOOPS,
  },
  {
    name: "a loop in an indirect table",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, 5),
        { address: DATA, length: SECTOR, flags: WRITE | NEXT, next: 1 },
      ]);
      return 0;
    },
    error: LOOPS,
  },
  {
    name: "a next at the size of the ring",
    build(guest) {
      guest.chain(0, [
        { address: HEADER, length: 16, flags: NEXT, next: RING_SIZE },
      ]);
      return 0;
    },
    error: BEYOND,
  },
  {
    name: "a next of 65535",
    build(guest) {
      guest.chain(0, [
        { address: HEADER, length: 16, flags: NEXT, next: 0xffff },
      ]);
      return 0;
    },
    error: BEYOND,
  },
  {
    name: "a next beyond an indirect table, within the ring",
    build(guest) {
      guest.indirect(0, [
        { address: HEADER, length: 16, flags: NEXT, next: 2 },
        { address: DATA, length: 16 },
      ]);
      return 0;
    },
    error: BEYOND,
  },
  ...outside.map(([name, address, length]): ChainAttack => ({
    name: `a buffer ${name}`,
    build: readInto({ address, length }),
    error: OUTSIDE,
  })),
  {
    name: "a header in a hole",
    build(guest) {
      guest.chain(0, [{ address: HOLE, length: 16 }, guest.status()]);
      return 0;
    },
    error: OUTSIDE,
  },
  {
    name: "a status byte in a hole",
    build(guest) {
      guest.chain(0, [
        guest.header(T_IN, 5),
        { address: DATA, length: SECTOR, flags: WRITE },
        { address: HOLE, length: 1, flags: WRITE },
      ]);
      return 0;
    },
    error: OUTSIDE,
  },
  {
    name: "a buffer to read after one to write",
    build(guest) {
      guest.chain(0, [guest.status(), guest.header(T_IN, 5)]);
      return 0;
    },
    error: "a device-readable buffer follows a device-writable one",
  },
  {
    name: "buffers of 8 GiB in all",
    build(guest) {
      const piece = { address: MAIN, length: 0x4_0000 };
      guest.indirect(0, Array(32768).fill(piece));
      return 0;
    },
    error: "the buffers add up to 2^32 bytes or more",
  },
  // Indirect descriptors.
  ...[0, 1, 15, 17, 16 * 32769, 0x8000_0000, 0xffff_fff0].map((length) => ({
    name: `an indirect table of ${length} bytes`,
    build: tableAt(TABLE, length),
    error: TABLE_SIZE,
  })),
  {
    name: "an indirect table in a hole",
    build: tableAt(HOLE, 64),
    error: TABLE_OUTSIDE,
  },
  {
    name: "an indirect table that ends in a hole",
    build: tableAt(FAR + FAR_SIZE - 32, 64),
    error: TABLE_OUTSIDE,
  },
  {
    name: "an indirect table of 512 KiB that ends in a hole",
    build: tableAt(BORDER, 16 * 32768),
    error: TABLE_OUTSIDE,
  },
  {
    name: "an indirect table that wraps around 2^64 into memory",
    build: tableAt(2n ** 64n - 16n, 32),
    error: TABLE_OUTSIDE,
  },
  {
    name: "an indirect table at 2^53",
    build: tableAt(2n ** 53n, 32),
    error: TABLE_OUTSIDE,
  },
  {
    name: "an indirect table in an indirect table",
    build(guest) {
      guest.indirect(0, [
        { address: TABLE, length: 16, flags: INDIRECT },
      ]);
      return 0;
    },
    error: "an indirect table holds an indirect descriptor",
  },
  {
    name: "an indirect descriptor with a next",
    build: tableAt(TABLE, 32, INDIRECT | NEXT),
    error: "a descriptor has both INDIRECT and NEXT",
  },
  {
    name: "an indirect descriptor without the feature",
    build: tableAt(TABLE, 32),
    error: "VIRTIO_F_INDIRECT_DESC was not negotiated",
    without: INDIRECT_DESC,
  },
  {
    name: "a chain through memory that the pattern makes descriptors of",
    // 0xa5a5: NEXT, INDIRECT and undefined flags.
    build: tableAt(TABLE + 0x400, 16 * 64),
    error: "an indirect table holds an indirect descriptor",
  },
];

/** A head that is a chain of one sector, see `chain_test.ts`. */
export const READ_HEAD = 20;

/** Entries of the available ring that name no chain of their own. */
export interface HeadAttack {
  readonly name: string;
  /** Heads, in the order of the ring; {@linkcode READ_HEAD} is a good one. */
  readonly heads: readonly number[];
}

/** Heads that are no heads, or not yet again. */
export const HEAD_ATTACKS: readonly HeadAttack[] = [
  { name: "a head at the size of the ring", heads: [RING_SIZE] },
  { name: "a head of 65535", heads: [0xffff] },
  { name: "a ring full of bad heads", heads: Array(RING_SIZE).fill(0x8000) },
  {
    name: "bad heads around good ones",
    heads: [0x100, READ_HEAD, 0x200, 0x300, READ_HEAD, 0x400],
  },
  {
    name: "one head, again and again while it is in flight",
    heads: Array(RING_SIZE - 1).fill(READ_HEAD),
  },
];

/** A ring that cannot be followed any more: it is not served until restarted. */
export interface IndexAttack {
  readonly name: string;
  /** How far ahead of the device's position the available index is. */
  readonly ahead: number;
}

/** Available indices that no driver can have come to. */
export const INDEX_ATTACKS: readonly IndexAttack[] = [
  { name: "one entry more than the ring has", ahead: RING_SIZE + 1 },
  { name: "twice the ring", ahead: 2 * RING_SIZE },
  { name: "half of all numbers", ahead: 0x8000 },
  { name: "one back", ahead: 0xffff },
];
