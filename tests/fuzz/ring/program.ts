/**
 * What the bytes of an input mean where rings are concerned: places, lengths,
 * descriptors, chains.
 *
 * @module
 */

import type { FuzzMemory } from "../memory/fuzz_memory.ts";

const MASK = (1n << 64n) - 1n;
/** Lengths at the borders of what is sensible. */
const ODD_LENGTHS = [
  0,
  0xffff_ffff,
  0x8000_0000,
  0x1000,
  0x1001,
  0x1400,
  0x1401,
  0xffff_f000,
] as const;

/** Places that inputs name. */
export interface Places {
  /** Regions: address and length. The first and second are neighbours. */
  readonly regions: readonly (readonly [address: number, size: number])[];
  /** Parts of rings. */
  readonly parts: readonly bigint[];
  /** An address in no region. */
  readonly hole: number;
}

/**
 * An address of 64 bits, in memory more often than not.
 *
 * @param kind which sort of place
 * @param at where in it
 */
export function addressOf(places: Places, kind: number, at: number): bigint {
  const { regions, parts, hole } = places;
  const inside = (i: number): bigint => {
    const [address, size] = regions[i % regions.length];
    return BigInt(address) + BigInt(at % size);
  };
  const fromEnd = (i: number): bigint => {
    const [address, size] = regions[i % regions.length];
    return BigInt(address + size) - BigInt(at % 64);
  };
  switch (kind % 16) {
    case 6:
      return inside(1);
    case 7:
      return inside(2);
    case 8:
      return inside(3);
    case 9:
      return fromEnd(0);
    case 10:
      return fromEnd(at >> 6);
    case 11:
      return parts[at % parts.length] + BigInt(at >> 2 & 0x1ff);
    case 12:
      return BigInt(hole + at);
    case 13:
      return (1n << 53n) - BigInt(at % 64);
    case 14:
      return MASK - BigInt(at % 64);
    case 15:
      return BigInt(at) << 32n | inside(0);
    default:
      return inside(0);
  }
}

/** A length of 32 bits, small more often than not. */
export function lengthOf(kind: number, value: number): number {
  switch (kind % 8) {
    case 4:
      return value;
    case 5:
      return 16 * (value % 40);
    case 6:
      return ODD_LENGTHS[value % 8];
    default:
      return value % 64;
  }
}

/** A descriptor. */
export interface Descriptor {
  readonly address: bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

/** The driver writes a descriptor. */
export function putDescriptor(
  memory: FuzzMemory,
  at: bigint,
  { address, length, flags, next }: Descriptor,
): void {
  memory.driverPut(at, 8, address);
  memory.driverPut(at + 8n, 4, length);
  memory.driverPut(at + 12n, 2, flags);
  memory.driverPut(at + 14n, 2, next);
}
