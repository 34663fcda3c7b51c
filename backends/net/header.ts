/**
 * `struct virtio_net_hdr`: what is left to do with a frame.
 *
 * Theory of operation: a header comes from guest memory into a private copy,
 * once. What is checked is the copy, and the copy is what is used and handed on.
 * A header that asks for something that was not negotiated, or for a place that
 * the frame does not have, leads to the frame being dropped and counted.
 *
 * Source: virtio 1.4, section 5.1.6.
 *
 * @module
 */

import {
  ETHERNET_HEADER,
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP,
  HDR_F_NEEDS_CSUM,
  Offload,
} from "./protocol.ts";

/** The header is in order. */
export const HEADER_OK = 0;
/** A checksum is asked for that was not negotiated. */
export const HEADER_CSUM_FEATURE = 1;
/** The checksum field, or the start of what it covers, is not in the frame. */
export const HEADER_CSUM_RANGE = 2;
/** A kind of segmentation that was not negotiated, or that does not exist. */
export const HEADER_GSO_TYPE = 3;
/** Segmentation without a checksum to fill in. */
export const HEADER_GSO_CSUM = 4;
/** Segments of no size. */
export const HEADER_GSO_SIZE = 5;
/** Headers longer than the frame, or than what the checksum says. */
export const HEADER_LENGTH = 6;

/** Names of the verdicts, for counters. */
export const HEADER_VERDICTS: readonly string[] = [
  "ok",
  "checksum-not-negotiated",
  "checksum-range",
  "gso-type",
  "gso-without-checksum",
  "gso-size",
  "header-length",
];

/** A header, out of anybody's reach. */
export class NetHeader {
  /** `flags`: `HDR_F_*`. */
  flags = 0;
  /** `gso_type`: `GSO_*`. */
  gsoType: number = GSO_NONE;
  /** `hdr_len`: bytes of the headers, a hint. */
  headerLength = 0;
  /** `gso_size`: payload bytes of a segment. */
  gsoSize = 0;
  /** `csum_start`: first byte that the checksum covers. */
  csumStart = 0;
  /** `csum_offset`: where the checksum lies, from there. */
  csumOffset = 0;

  /** Forgets everything: an ordinary frame. */
  clear(): void {
    this.flags = 0;
    this.gsoType = GSO_NONE;
    this.headerLength = 0;
    this.gsoSize = 0;
    this.csumStart = 0;
    this.csumOffset = 0;
  }

  /** Takes what another header says. */
  copy(other: NetHeader): void {
    this.flags = other.flags;
    this.gsoType = other.gsoType;
    this.headerLength = other.headerLength;
    this.gsoSize = other.gsoSize;
    this.csumStart = other.csumStart;
    this.csumOffset = other.csumOffset;
  }

  /** Reads the first 10 bytes of a private copy, in little-endian words. */
  decode(words: Uint32Array): void {
    const first = words[0], second = words[1];
    this.flags = first & 0xff;
    this.gsoType = first >>> 8 & 0xff;
    this.headerLength = first >>> 16;
    this.gsoSize = second & 0xffff;
    this.csumStart = second >>> 16;
    this.csumOffset = words[2] & 0xffff;
  }

  /** Writes the first 10 bytes, and `num_buffers` behind them, as three words. */
  encode(words: Uint32Array, buffers: number): void {
    words[0] = this.flags | this.gsoType << 8 | this.headerLength << 16;
    words[1] = this.gsoSize | this.csumStart << 16;
    words[2] = this.csumOffset | buffers << 16;
  }

  /**
   * Judges what came from somebody who is not trusted, and makes fields that
   * mean nothing zero.
   *
   * @param length bytes of the frame
   * @param offloads what was negotiated: a set of {@linkcode Offload}
   * @returns one of `HEADER_*`
   */
  check(length: number, offloads: number): number {
    // That a checksum was validated is nothing that a sender can say.
    this.flags &= HDR_F_NEEDS_CSUM;
    if ((this.flags & HDR_F_NEEDS_CSUM) === 0) {
      this.csumStart = 0;
      this.csumOffset = 0;
    } else {
      if ((offloads & Offload.CSUM) === 0) return HEADER_CSUM_FEATURE;
      if (
        this.csumStart < ETHERNET_HEADER ||
        this.csumStart + this.csumOffset + 2 > length
      ) return HEADER_CSUM_RANGE;
    }
    if (this.gsoType === GSO_NONE) {
      this.gsoSize = 0;
      this.headerLength = 0;
      return HEADER_OK;
    }
    const needed = gsoOffload(this.gsoType);
    if (needed === 0 || (offloads & needed) !== needed) return HEADER_GSO_TYPE;
    if ((this.flags & HDR_F_NEEDS_CSUM) === 0) return HEADER_GSO_CSUM;
    if (this.gsoSize === 0) return HEADER_GSO_SIZE;
    if (this.headerLength > length) return HEADER_LENGTH;
    return HEADER_OK;
  }

  /** The {@linkcode Offload}s that whoever takes the frame must have. */
  get needs(): number {
    const csum = (this.flags & HDR_F_NEEDS_CSUM) !== 0 ? Offload.CSUM : 0;
    return this.gsoType === GSO_NONE ? csum : csum | gsoOffload(this.gsoType);
  }
}

/** The {@linkcode Offload}s of a `gso_type`; 0: there is no such type. */
function gsoOffload(type: number): number {
  switch (type) {
    case GSO_TCPV4:
      return Offload.TSO4;
    case GSO_TCPV6:
      return Offload.TSO6;
    case GSO_UDP:
      return Offload.UFO;
    case GSO_TCPV4 | GSO_ECN:
      return Offload.TSO4 | Offload.ECN;
    case GSO_TCPV6 | GSO_ECN:
      return Offload.TSO6 | Offload.ECN;
    default:
      return 0;
  }
}
