/**
 * Regions of memory that a front-end must not describe, as a table.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import {
  addSeals,
  createMemfd,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_WRITE,
} from "../../sys/memfd.ts";
import { openPath } from "../../sys/testing/odd_descriptors.ts";
import { FAR, FAR_SIZE, HOLE, MAIN, MAIN_SIZE } from "./guest.ts";

const SIZE = 0x4000;
/** Where the guest's addresses lie for the front-end, see `SharedRegion`. */
const USER = 0x7f00_0000_0000n;

/** A region, as the four 64-bit numbers of a message. */
export interface RawRegion {
  readonly guestAddress: number | bigint;
  readonly size: number | bigint;
  readonly userAddress: number | bigint;
  readonly mmapOffset: number | bigint;
}

/** A region and what is wrong with it. */
export interface MemoryAttack {
  readonly name: string;
  /** Changes of a good region of 16 KiB. */
  readonly region?: Partial<RawRegion>;
  /** What it is backed by (default: a memfd of 16 KiB). */
  readonly backing?: () => OwnedFd;
  /** What the refusal says. */
  readonly error: string;
}

/** The bytes of a region in a message. */
export function encodeRawRegion(changes: Partial<RawRegion>): Uint8Array {
  const region = {
    guestAddress: HOLE,
    size: SIZE,
    userAddress: USER + BigInt(HOLE),
    mmapOffset: 0,
    ...changes,
  };
  const fields = [
    region.guestAddress,
    region.size,
    region.userAddress,
    region.mmapOffset,
  ];
  return new Uint8Array(new BigUint64Array(fields.map(BigInt)).buffer);
}

/** A memfd of 16 KiB. */
export function goodBacking(): OwnedFd {
  return createMemfd("vhost-test", SIZE);
}

function sealed(seals: number): () => OwnedFd {
  return () => {
    const memfd = goodBacking();
    addSeals(memfd.fd, seals);
    return memfd;
  };
}

const TOO_FAR = "is not below 2^53";
const BEYOND = "ends beyond 2^53";

/** The table. */
export const MEMORY_ATTACKS: readonly MemoryAttack[] = [
  {
    name: "a memfd that is a byte too short",
    region: { size: SIZE + 1 },
    error: "the file has 16384 bytes",
  },
  {
    name: "an offset at the end of the memfd",
    region: { mmapOffset: SIZE, size: 1 },
    error: "the file has 16384 bytes",
  },
  {
    name: "an offset that wraps around 2^64 into the memfd",
    region: { mmapOffset: 2n ** 64n - 4096n, size: 8192 },
    error: `mmap offset 0xfffffffffffff000 ${TOO_FAR}`,
  },
  {
    name: "an offset just below 2^53",
    region: { mmapOffset: 2n ** 53n - 4096n },
    error: BEYOND,
  },
  {
    name: "a region of nothing",
    region: { size: 0 },
    error: "is empty",
  },
  {
    name: "a region of 2^64 - 1 bytes",
    region: { size: 2n ** 64n - 1n },
    error: `region size 0xffffffffffffffff ${TOO_FAR}`,
  },
  {
    name: "a region of 2^51 bytes",
    region: {
      size: 2n ** 51n,
      guestAddress: 2n ** 51n,
      userAddress: 2n ** 51n,
    },
    backing: () => createMemfd("vhost-test", 2 ** 51),
    error: "Cannot allocate memory (ENOMEM)",
  },
  {
    name: "guest addresses up to 2^64",
    region: { guestAddress: 2n ** 64n - BigInt(SIZE) },
    error: `guest address 0xffffffffffffc000 ${TOO_FAR}`,
  },
  {
    name: "guest addresses over 2^53",
    region: { guestAddress: 2n ** 53n - 4096n },
    error: BEYOND,
  },
  {
    name: "user addresses up to 2^64",
    region: { userAddress: 2n ** 64n - BigInt(SIZE) },
    error: `user address 0xffffffffffffc000 ${TOO_FAR}`,
  },
  {
    name: "user addresses over 2^53",
    region: { userAddress: 2n ** 53n - 4096n },
    error: BEYOND,
  },
  {
    name: "guest addresses of another region",
    region: { guestAddress: MAIN + 0x1000 },
    error: "overlaps another region: guestAddress",
  },
  {
    name: "guest addresses around another region",
    region: { guestAddress: FAR - 0x1000, size: FAR_SIZE + 0x2000 },
    backing: () => createMemfd("vhost-test", 2 * FAR_SIZE),
    error: "overlaps another region: guestAddress",
  },
  {
    name: "guest addresses with one byte of another region",
    region: { guestAddress: FAR - SIZE + 1 },
    error: "overlaps another region: guestAddress",
  },
  {
    name: "user addresses with one byte of another region",
    region: { userAddress: USER + BigInt(MAIN + MAIN_SIZE - 1) },
    error: "overlaps another region: userAddress",
  },
  {
    name: "a memfd that is open for reading only",
    backing: () => {
      using memfd = goodBacking();
      return openPath(`/proc/self/fd/${memfd.fd}`);
    },
    error: "Permission denied (EACCES)",
  },
  {
    name: "a memfd that is sealed against writing",
    backing: sealed(F_SEAL_WRITE),
    error: "Operation not permitted (EPERM)",
  },
  {
    name: "a memfd that is sealed against writing from now on",
    backing: sealed(F_SEAL_FUTURE_WRITE),
    error: "Operation not permitted (EPERM)",
  },
];
