/**
 * What a hostile driver asks of a block device, as a table. The chains are
 * well-formed; what they say is not.
 *
 * @module
 */

import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../backends/blk/protocol.ts";
import { SECTOR } from "../protocol/disk.ts";
import { SECTORS } from "./bench.ts";
import {
  DATA,
  HEADER,
  type HostileGuest,
  MAIN,
  type Range,
  TABLE,
  WRITE,
} from "./guest.ts";

/** A request, and what must come of it. */
export interface RequestAttack {
  readonly name: string;
  /** Writes the chain at head 0. */
  readonly build: (guest: HostileGuest) => void;
  /** The status byte; `null`: there is none, and nothing may be written. */
  readonly status: number | null;
  /** Length of the answer (default 1: the status byte). */
  readonly length?: number;
  /** Name of the counter below `refused` that counts it. */
  readonly refused?: string;
  /** What may change beside the status byte. */
  readonly permitted?: readonly Range[];
  /** Serve it with the disk that is read-only. */
  readonly readOnly?: boolean;
}

const IOERR = VIRTIO_BLK_S_IOERR, UNSUPP = VIRTIO_BLK_S_UNSUPP;
const OK = VIRTIO_BLK_S_OK;

/** A request with a buffer to write from, or to read into. */
function transfer(
  type: number,
  sector: number | bigint,
  length: number,
): RequestAttack["build"] {
  return (guest) => {
    const flags = type === VIRTIO_BLK_T_IN ? WRITE : 0;
    guest.chain(0, [
      guest.header(type, sector),
      { address: DATA, length, flags },
      guest.status(),
    ]);
  };
}

/** A request of a type, with a sector to read and one to write. */
function ofType(type: number): RequestAttack["build"] {
  return (guest) =>
    guest.chain(0, [
      guest.header(type, 3),
      { address: DATA, length: SECTOR },
      { address: DATA + SECTOR, length: SECTOR, flags: WRITE },
      guest.status(),
    ]);
}

/** Sector, sectors and flags of a range. */
type Span = readonly [number | bigint, number, number];

/** A discard or write zeroes of ranges; `extra` bytes more or less. */
function ranges(
  type: number,
  list: readonly Span[],
  extra = 0,
): RequestAttack["build"] {
  return (guest) => {
    const bytes = new Uint8Array(16 * list.length);
    const view = new DataView(bytes.buffer);
    list.forEach(([sector, sectors, flags], i) => {
      view.setBigUint64(16 * i, BigInt(sector), true);
      view.setUint32(16 * i + 8, sectors, true);
      view.setUint32(16 * i + 12, flags, true);
    });
    guest.memory.write(TABLE, bytes);
    guest.chain(0, [
      guest.header(type, 0),
      { address: TABLE, length: bytes.length + extra },
      guest.status(),
    ]);
  };
}

const beyond: readonly (readonly [string, number | bigint, number])[] = [
  ["at the capacity", SECTORS, 1],
  ["over the capacity", SECTORS - 1, 2],
  ["at sector 2^32", 2n ** 32n, 1],
  ["at sector 2^55, which is byte 2^64", 2n ** 55n, 1],
  ["at sector 2^63", 2n ** 63n, 1],
  ["at sector 2^64 - 1", 2n ** 64n - 1n, 1],
  ["that wraps around to sector 0", 2n ** 64n - 1n, 2],
];

const RANGE_TYPES: readonly (readonly [string, number])[] = [
  ["DISCARD", VIRTIO_BLK_T_DISCARD],
  ["WRITE_ZEROES", VIRTIO_BLK_T_WRITE_ZEROES],
];

function rangeAttacks(name: string, type: number): RequestAttack[] {
  const refused = "badRanges";
  return [
    {
      name: `${name} of no range`,
      build: (guest) => guest.chain(0, [guest.header(type, 0), guest.status()]),
      status: IOERR,
      refused,
    },
    {
      name: `${name} of a range that is cut off`,
      build: ranges(type, [[8, 8, 0]], -1),
      status: IOERR,
      refused,
    },
    {
      name: `${name} of a range and a byte`,
      build: ranges(type, [[8, 8, 0]], 1),
      status: IOERR,
      refused,
    },
    {
      name: `${name} of 4096 ranges`,
      build: ranges(type, Array(4096).fill([8, 8, 0])),
      status: IOERR,
      refused,
    },
    {
      name: `${name} of 2^32 - 1 sectors`,
      build: ranges(type, [[0, 0xffff_ffff, 0]]),
      status: IOERR,
      refused,
    },
    {
      name: `${name} with unknown flags`,
      build: ranges(type, [[0, 8, 0x8000_0000]]),
      status: UNSUPP,
      refused: "badFlags",
    },
    ...beyond.map(([where, sector, sectors]): RequestAttack => ({
      name: `${name} ${where}`,
      build: ranges(type, [[sector, sectors, 0]]),
      status: IOERR,
      refused: "outOfRange",
    })),
    {
      name: `${name} of a good range and one beyond the capacity`,
      build: ranges(type, [[8, 8, 0], [SECTORS, 8, 0]]),
      status: IOERR,
      refused: "outOfRange",
    },
    {
      name: `${name} on a disk that is read-only`,
      build: ranges(type, [[8, 8, 0]]),
      status: IOERR,
      refused: "readOnly",
      readOnly: true,
    },
  ];
}

/** The table. */
export const REQUEST_ATTACKS: readonly RequestAttack[] = [
  // Framing.
  {
    name: "a status byte and nothing else",
    build: (guest) => guest.chain(0, [guest.status()]),
    status: IOERR,
    refused: "shortHeader",
  },
  {
    name: "a header of 15 bytes",
    build: (guest) => {
      guest.header(VIRTIO_BLK_T_IN, 3);
      guest.chain(0, [
        { address: HEADER, length: 15 },
        { address: DATA, length: SECTOR, flags: WRITE },
        guest.status(),
      ]);
    },
    status: IOERR,
    refused: "shortHeader",
  },
  {
    name: "a header of empty descriptors",
    build: (guest) =>
      guest.chain(0, [
        { address: HEADER, length: 0 },
        { address: HEADER, length: 0 },
        guest.status(),
      ]),
    status: IOERR,
    refused: "shortHeader",
  },
  {
    name: "a header that is writable",
    build: (guest) => {
      guest.header(VIRTIO_BLK_T_IN, 3);
      guest.chain(0, [
        { address: HEADER, length: 16, flags: WRITE },
        { address: DATA, length: SECTOR, flags: WRITE },
        guest.status(),
      ]);
    },
    status: IOERR,
    refused: "shortHeader",
  },
  {
    name: "no status byte",
    build: (guest) => guest.chain(0, [guest.header(VIRTIO_BLK_T_FLUSH, 0)]),
    status: null,
    length: 0,
    refused: "noStatus",
  },
  {
    name: "a write without a status byte",
    build: (guest) =>
      guest.chain(0, [
        guest.header(VIRTIO_BLK_T_OUT, 3),
        { address: DATA, length: SECTOR },
      ]),
    status: null,
    length: 0,
    refused: "noStatus",
  },
  {
    name: "a status byte of no bytes",
    build: (guest) =>
      guest.chain(0, [
        guest.header(VIRTIO_BLK_T_OUT, 3),
        { address: DATA, length: SECTOR },
        { ...guest.status(), length: 0 },
      ]),
    status: null,
    length: 0,
    refused: "noStatus",
  },
  {
    name: "one segment more than seg_max allows",
    build: (guest) =>
      guest.indirect(0, [
        guest.header(VIRTIO_BLK_T_IN, 3),
        ...Array.from({ length: 127 }, (_, i) => ({
          address: DATA + 16 * i,
          length: i < 126 ? 8 : 4 * SECTOR - 126 * 8,
          flags: WRITE,
        })),
        guest.status(),
      ]),
    status: IOERR,
    refused: "tooManySegments",
  },
  {
    name: "a chain of 32768 descriptors",
    build: (guest) =>
      guest.indirect(0, [
        guest.header(VIRTIO_BLK_T_IN, 3),
        ...Array.from({ length: 32766 }, () => ({
          address: DATA,
          length: 512,
          flags: WRITE,
        })),
        guest.status(),
      ]),
    status: IOERR,
    refused: "tooManySegments",
  },
  {
    name: "a chain of 32768 descriptors, none of them for the device to read",
    build: (guest) =>
      guest.indirect(0, [
        ...Array.from({ length: 32767 }, () => ({
          address: DATA,
          length: 512,
          flags: WRITE,
        })),
        guest.status(),
      ]),
    status: IOERR,
    refused: "tooManySegments",
  },
  {
    name: "a write of 126 MiB out of one megabyte",
    build: (guest) =>
      guest.indirect(0, [
        guest.header(VIRTIO_BLK_T_OUT, 0),
        ...Array(126).fill({ address: MAIN, length: 0x10_0000 }),
        guest.status(),
      ]),
    status: IOERR,
    refused: "outOfRange",
  },
  // Types.
  ...[2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 26, 0x100, 0x7fff_ffff]
    .map((type): RequestAttack => ({
      name: `request type ${type}`,
      build: ofType(type),
      status: UNSUPP,
      refused: "unsupportedType",
    })),
  {
    name: "a write with the barrier flag of legacy drivers",
    build: ofType(0x8000_0001),
    status: UNSUPP,
    refused: "unsupportedType",
  },
  {
    name: "request type 2^32 - 1",
    build: ofType(0xffff_ffff),
    status: UNSUPP,
    refused: "unsupportedType",
  },
  // Reads and writes.
  ...beyond.flatMap(([where, sector, sectors]): RequestAttack[] => [
    {
      name: `a read ${where}`,
      build: transfer(VIRTIO_BLK_T_IN, sector, sectors * SECTOR),
      status: IOERR,
      refused: "outOfRange",
    },
    {
      name: `a write ${where}`,
      build: transfer(VIRTIO_BLK_T_OUT, sector, sectors * SECTOR),
      status: IOERR,
      refused: "outOfRange",
    },
  ]),
  ...[1, 511, 513].flatMap((length): RequestAttack[] => [
    {
      name: `a read of ${length} bytes`,
      build: transfer(VIRTIO_BLK_T_IN, 3, length),
      status: IOERR,
      refused: "misaligned",
    },
    {
      name: `a write of ${length} bytes`,
      build: transfer(VIRTIO_BLK_T_OUT, 3, length),
      status: IOERR,
      refused: "misaligned",
    },
  ]),
  {
    name: "a read of nothing",
    build: transfer(VIRTIO_BLK_T_IN, 3, 0),
    status: OK,
  },
  {
    name: "a write of nothing",
    build: transfer(VIRTIO_BLK_T_OUT, 3, 0),
    status: OK,
  },
  {
    name: "a read of nothing beyond the capacity",
    build: transfer(VIRTIO_BLK_T_IN, SECTORS + 1, 0),
    status: IOERR,
    refused: "outOfRange",
  },
  {
    name: "a write to a disk that is read-only",
    build: transfer(VIRTIO_BLK_T_OUT, 3, SECTOR),
    status: IOERR,
    refused: "readOnly",
    readOnly: true,
  },
  // What has no business with data.
  {
    name: "a flush with data both ways",
    build: ofType(VIRTIO_BLK_T_FLUSH),
    status: OK,
  },
  {
    name: "a device ID into one byte",
    build: (guest) =>
      guest.chain(0, [
        guest.header(VIRTIO_BLK_T_GET_ID, 0),
        { address: DATA, length: 1, flags: WRITE },
        guest.status(),
      ]),
    status: OK,
    length: 2,
    permitted: [{ address: DATA, length: 1 }],
  },
  {
    name: "a device ID into a megabyte",
    build: (guest) =>
      guest.chain(0, [
        guest.header(VIRTIO_BLK_T_GET_ID, 0),
        { address: TABLE, length: 0x8_0000, flags: WRITE },
        guest.status(),
      ]),
    status: OK,
    length: 21,
    permitted: [{ address: TABLE, length: 20 }],
  },
  ...RANGE_TYPES.flatMap(([name, type]) => rangeAttacks(name, type)),
];
