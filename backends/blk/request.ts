/**
 * Reads and judges one request of a driver.
 *
 * Theory of operation. A request is a chain: 16 bytes of header and the data to
 * write in its readable part, the data to read and the status byte in its
 * writable part, cut into buffers as the driver likes. The status byte is the
 * last writable byte, whatever precedes it. The header is read once; what is
 * judged is what is done.
 *
 * A verdict is a small number, so that it is a status, a counter and a name for
 * people without anything being made for it.
 *
 * Source: virtio 1.4, sections 5.2.6 and 2.7.4 (framing).
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import {
  MAX_DISCARD_SECTORS,
  MAX_DISCARD_SEGMENTS,
  MAX_WRITE_ZEROES_SECTORS,
  MAX_WRITE_ZEROES_SEGMENTS,
  RANGE_FLAG_UNMAP,
  RANGE_SIZE,
  REQUEST_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_FLUSH_OUT,
} from "./protocol.ts";

/** The request can be done. */
export const REQUEST_OK = 0;
/** There is no writable byte for the status: it cannot be answered. */
export const REQUEST_NO_STATUS = 1;
/** The readable part is shorter than a header. */
export const REQUEST_SHORT_HEADER = 2;
/** More segments than `seg_max` allows. */
export const REQUEST_TOO_MANY_SEGMENTS = 3;
/** The sector or the length is no multiple of the block size. */
export const REQUEST_MISALIGNED = 4;
/** It ends beyond the capacity. */
export const REQUEST_OUT_OF_RANGE = 5;
/** It writes to a read-only device. */
export const REQUEST_READ_ONLY = 6;
/** Its ranges are none, too many, too long, or cut off. */
export const REQUEST_BAD_RANGES = 7;
/** A range has a flag that is unknown, or that the type forbids. */
export const REQUEST_BAD_FLAGS = 8;
/** A type that this device does not serve. */
export const REQUEST_UNSUPPORTED = 9;

/** Names of the verdicts, as the counters show them. */
export const VERDICT_NAMES: readonly string[] = [
  "ok",
  "noStatus",
  "shortHeader",
  "tooManySegments",
  "misaligned",
  "outOfRange",
  "readOnly",
  "badRanges",
  "badFlags",
  "unsupportedType",
];

/** The status byte that answers a verdict. */
export function statusOf(verdict: number): number {
  switch (verdict) {
    case REQUEST_OK:
      return VIRTIO_BLK_S_OK;
    case REQUEST_BAD_FLAGS:
    case REQUEST_UNSUPPORTED:
      return VIRTIO_BLK_S_UNSUPP;
    default:
      return VIRTIO_BLK_S_IOERR;
  }
}

const TWO_32 = 4294967296;
// Compiled code looks up an imported name at each use; one of this module's own
// is a constant.
const HEADER = REQUEST_HEADER_SIZE;
const SECTOR = SECTOR_SIZE;
const FLUSH = VIRTIO_BLK_T_FLUSH;
const FLUSH_OUT = VIRTIO_BLK_T_FLUSH_OUT;

/** The header of a request, read once, and the ranges of a discard. */
export class BlkRequest {
  /** `VIRTIO_BLK_T_*`, or any other number that the driver wrote. */
  type = 0;
  /**
   * First sector. Exact below 2^53; larger ones round to numbers that are
   * larger than any capacity, too.
   */
  sector = 0;
  /** The header as it was read, and the same for whoever reads it as bytes. */
  readonly #header = new Uint32Array(REQUEST_HEADER_SIZE / 4);
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  /** First sector of the range that {@linkcode readRange} read. */
  rangeSector = 0;
  /** Sectors of that range. */
  rangeSectors = 0;
  /** Flags of that range. */
  rangeFlags = 0;

  /**
   * Reads the header.
   *
   * @param legacy a driver without VIRTIO_F_VERSION_1: a barrier flag in the
   * type is ignored, and FLUSH_OUT is a flush
   * @returns a verdict
   */
  readHeader(chain: DescriptorChain, legacy: boolean): number {
    if (chain.writableLength === 0) return REQUEST_NO_STATUS;
    if (chain.truncated) return REQUEST_TOO_MANY_SEGMENTS;
    if (chain.readableLength < HEADER) return REQUEST_SHORT_HEADER;
    const header = this.#header;
    if (!chain.readWords(0, header, 0, header.length)) {
      chain.read(0, this.#headerBytes);
    }
    const type = header[0];
    this.sector = header[2] + header[3] * TWO_32;
    if (!legacy) {
      this.type = type;
    } else {
      const plain = type & 0x7fff_ffff;
      this.type = plain === FLUSH_OUT ? FLUSH : plain;
    }
    return REQUEST_OK;
  }

  /**
   * Judges a read or write.
   *
   * @param length of the data in bytes
   * @param capacity of the device in sectors
   * @param blockSize in bytes, a power of two (a remainder of numbers that may be
   * above 2^31 would cost more than all the rest)
   * @returns a verdict
   */
  judgeTransfer(length: number, capacity: number, blockSize: number): number {
    const unaligned = (length & (blockSize - 1)) |
      (this.#header[2] & (blockSize / SECTOR - 1));
    if (unaligned !== 0) return REQUEST_MISALIGNED;
    return this.sector + length / SECTOR > capacity
      ? REQUEST_OUT_OF_RANGE
      : REQUEST_OK;
  }

  /** Reads the range `index` of a discard or write zeroes request. */
  readRange(chain: DescriptorChain, index: number): void {
    const at = REQUEST_HEADER_SIZE + index * RANGE_SIZE;
    this.rangeSector = chain.readUint32(at) + chain.readUint32(at + 4) * TWO_32;
    this.rangeSectors = chain.readUint32(at + 8);
    this.rangeFlags = chain.readUint32(at + 12);
  }

  /**
   * Judges the range that {@linkcode readRange} read.
   *
   * @returns a verdict
   */
  judgeRange(discard: boolean, capacity: number, blockSize: number): number {
    const known = discard ? 0 : RANGE_FLAG_UNMAP;
    if ((this.rangeFlags & ~known) !== 0) return REQUEST_BAD_FLAGS;
    const most = discard ? MAX_DISCARD_SECTORS : MAX_WRITE_ZEROES_SECTORS;
    if (this.rangeSectors > most) return REQUEST_BAD_RANGES;
    if (
      this.rangeSector * SECTOR_SIZE % blockSize !== 0 ||
      this.rangeSectors * SECTOR_SIZE % blockSize !== 0
    ) return REQUEST_MISALIGNED;
    return this.rangeSector + this.rangeSectors > capacity
      ? REQUEST_OUT_OF_RANGE
      : REQUEST_OK;
  }

  /**
   * Judges all ranges of a discard or write zeroes request, before the first of
   * them is worked on. A wrong flag in any range decides.
   *
   * @returns a verdict
   */
  judgeRanges(
    chain: DescriptorChain,
    discard: boolean,
    capacity: number,
    blockSize: number,
  ): number {
    const length = chain.readableLength - REQUEST_HEADER_SIZE;
    const most = discard ? MAX_DISCARD_SEGMENTS : MAX_WRITE_ZEROES_SEGMENTS;
    if (
      length === 0 || length % RANGE_SIZE !== 0 || length > most * RANGE_SIZE
    ) return REQUEST_BAD_RANGES;
    let verdict = REQUEST_OK;
    for (let i = 0; i < length / RANGE_SIZE; i++) {
      this.readRange(chain, i);
      const range = this.judgeRange(discard, capacity, blockSize);
      if (range === REQUEST_BAD_FLAGS) return range;
      if (verdict === REQUEST_OK) verdict = range;
    }
    return verdict;
  }
}

/**
 * Number of buffers that a driver made for a range of a chain's readable or
 * writable part: neighbouring segments at neighbouring addresses count as one,
 * since a buffer that crosses from one memory region into the next is two
 * segments.
 */
export function countBuffers(
  chain: DescriptorChain,
  writable: boolean,
  position: number,
  length: number,
): number {
  const first = writable ? chain.readableCount : 0;
  const end = writable ? chain.count : chain.readableCount;
  let count = 0, expected = -1, at = 0;
  for (let i = first; i < end; i++) {
    const address = chain.address(i), size = chain.length(i);
    if (at + size > position && at < position + length) {
      if (address !== expected) count++;
      expected = address + size;
    }
    at += size;
  }
  return count;
}
