/**
 * Chains that are legal, however strange: a device that refuses one of them has
 * defended itself against its own driver.
 *
 * @module
 */

import { SECTOR, T_IN } from "../protocol/disk.ts";
import {
  BORDER,
  DATA,
  FAR,
  FAR_SIZE,
  HOLE,
  type HostileGuest,
  INDIRECT,
  LOW,
  NEXT,
  RING_SIZE,
  STATUS,
  TABLE,
  WRITE,
} from "./guest.ts";

/** A read whose form is legal, however strange, and must be served. */
export interface LegalChain {
  readonly name: string;
  /** Writes the chain; where the data goes, and its head (0 without). */
  readonly build: (guest: HostileGuest) => {
    readonly head?: number;
    readonly data: number;
    readonly status?: number;
  };
}

/** Sector that legal chains read. */
export const LEGAL_SECTOR = 9;

const TWO_SECTORS = 2 * SECTOR;

/** Chains that cross borders, or are cut as no sane driver cuts them. */
export const LEGAL_CHAINS: readonly LegalChain[] = [
  {
    name: "data over the border of two regions",
    build(guest) {
      const data = BORDER - 100;
      guest.chain(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: data, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      return { data };
    },
  },
  {
    name: "a header over the border of two regions",
    build(guest) {
      guest.chain(0, [
        guest.header(T_IN, LEGAL_SECTOR, BORDER - 9),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      return { data: DATA };
    },
  },
  {
    name: "an indirect table over the border of two regions",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ], BORDER - 16);
      return { data: DATA };
    },
  },
  {
    name: "an indirect descriptor over the border of two regions",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ], BORDER - 21);
      return { data: DATA };
    },
  },
  {
    name: "everything over one border",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR, BORDER - 0x1008),
        { address: BORDER - 513, length: TWO_SECTORS, flags: WRITE },
        guest.status(BORDER + 0x1000),
      ], BORDER - 24 - 0x800);
      return { data: BORDER - 513, status: BORDER + 0x1000 };
    },
  },
  {
    name: "data and status in one buffer over the border",
    build(guest) {
      const data = BORDER - TWO_SECTORS;
      guest.status(BORDER);
      guest.chain(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: data, length: TWO_SECTORS + 1, flags: WRITE },
      ]);
      return { data, status: BORDER };
    },
  },
  {
    name: "memory at address 0",
    build(guest) {
      guest.chain(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: LOW, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      return { data: LOW };
    },
  },
  {
    name: "the last bytes of a region",
    build(guest) {
      const data = FAR + FAR_SIZE - TWO_SECTORS;
      guest.chain(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: data, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      return { data };
    },
  },
  {
    name: "a header in single bytes",
    build(guest) {
      const { address } = guest.header(T_IN, LEGAL_SECTOR);
      guest.chain(0, [
        ...Array.from({ length: 16 }, (_, i) => ({
          address: Number(address) + i,
          length: 1,
        })),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      return { data: DATA };
    },
  },
  {
    name: "empty descriptors between all others",
    build(guest) {
      const empty = (flags = 0) => ({ address: HOLE, length: 0, flags });
      const { address } = guest.header(T_IN, LEGAL_SECTOR);
      guest.chain(0, [
        empty(),
        { address, length: 7 },
        empty(),
        { address: Number(address) + 7, length: 9 },
        empty(),
        empty(WRITE),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        empty(WRITE),
        guest.status(),
        empty(WRITE),
      ]);
      return { data: DATA };
    },
  },
  {
    name: "an indirect descriptor after direct ones",
    build(guest) {
      guest.indirect(2, [
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      const { address } = guest.header(T_IN, LEGAL_SECTOR);
      guest.rings[0].setDescriptor(0, {
        address,
        length: 4,
        flags: NEXT,
        next: 1,
      });
      guest.rings[0].setDescriptor(1, {
        address: Number(address) + 4,
        length: 12,
        flags: NEXT,
        next: 2,
      });
      return { data: DATA };
    },
  },
  {
    name: "an indirect descriptor with the write flag, which means nothing",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      guest.rings[0].setDescriptor(0, {
        address: TABLE,
        length: 48,
        flags: INDIRECT | WRITE,
      });
      return { data: DATA };
    },
  },
  {
    name: "an indirect table of 32768 descriptors of which 3 are used",
    build(guest) {
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        guest.status(),
      ]);
      guest.rings[0].setDescriptor(0, {
        address: TABLE,
        length: 16 * 32768,
        flags: INDIRECT,
      });
      return { data: DATA };
    },
  },
  {
    name: "126 segments, all that seg_max allows",
    build(guest) {
      // Eight bytes each, and the last one the rest.
      const pieces = Array.from({ length: 126 }, (_, i) => ({
        address: DATA + 8 * i,
        length: i < 125 ? 8 : TWO_SECTORS - 125 * 8,
        flags: WRITE,
      }));
      guest.indirect(0, [
        guest.header(T_IN, LEGAL_SECTOR),
        ...pieces,
        guest.status(),
      ]);
      return { data: DATA };
    },
  },
  {
    name: "the last descriptor of the ring as head",
    build(guest) {
      guest.chain(RING_SIZE - 1, [
        { ...guest.header(T_IN, LEGAL_SECTOR), flags: NEXT, next: 0 },
      ]);
      guest.chain(0, [
        { address: DATA, length: TWO_SECTORS, flags: WRITE },
        { ...guest.status(STATUS) },
      ]);
      return { head: RING_SIZE - 1, data: DATA };
    },
  },
];
