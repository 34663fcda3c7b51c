/**
 * Segmentation in software: what a network card would do with a frame that is
 * larger than the link carries.
 *
 * Theory of operation: {@linkcode Segmenter.begin} takes a frame in private
 * memory and checks that its headers are those of a TCP segment (or a UDP
 * datagram) that the virtio header describes; {@linkcode Segmenter.next} writes
 * one piece after the other, complete with lengths, sequence numbers and
 * checksums. TCP becomes TCP segments, UDP becomes IP fragments. Frame and pieces
 * lie in the same memory, so that nothing is allocated for a copy. Whatever the
 * frame says, nothing outside of it is read.
 *
 * @module
 */

import { fillIpv4Checksum, onesSum, pseudoSum } from "./checksum.ts";
import type { NetHeader } from "./header.ts";
import { ETHERNET_HEADER, GSO_ECN, GSO_TCPV4, GSO_UDP } from "./protocol.ts";

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;

const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
/** Next header of an IPv6 fragment. */
const PROTOCOL_FRAGMENT = 44;

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const FRAGMENT_HEADER = 8;

const TCP_FIN_PSH = 0x09;
const TCP_CWR = 0x80;
/** Most bytes that headers grow by: the IPv6 fragment header. */
export const SEGMENT_GROWTH: number = FRAGMENT_HEADER;

/** Where the network header begins: behind the tags. */
function networkOffset(view: DataView, length: number): number {
  let at = ETHERNET_HEADER - 2;
  for (let tags = 0; tags < 2 && at + 6 <= length; tags++) {
    const type = view.getUint16(at);
    if (type !== ETHERTYPE_VLAN && type !== ETHERTYPE_QINQ) break;
    at += 4;
  }
  return at + 2;
}

/** Cuts one frame at a time. */
export class Segmenter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Offset of the piece. */
  readonly #piece: number;
  #length = 0;
  #ipv4 = true;
  #udp = false;
  /** Offset of the network header. */
  #network = 0;
  /** Offset of the transport header. */
  #transport = 0;
  /** Offset of the payload: for fragments that of the transport header. */
  #payload = 0;
  /** Payload bytes of each piece. */
  #size = 0;
  /** Offset of the next piece's payload. */
  #next = 0;
  #identification = 0;
  #fragments = 0;

  /**
   * @param bytes private memory: the frame is at its start
   * @param piece offset of the room for pieces in it, beyond the largest frame;
   * they need as much as a frame and {@linkcode SEGMENT_GROWTH} bytes
   */
  constructor(bytes: Uint8Array, piece: number) {
    this.#bytes = bytes;
    this.#view = new DataView(
      bytes.buffer,
      bytes.byteOffset,
      bytes.byteLength,
    );
    this.#piece = piece;
  }

  /**
   * Takes a frame, which must stay as it is until the last piece.
   *
   * @param length bytes of the frame
   * @param header was checked against the frame
   * @returns false when the frame is not what its header says
   */
  begin(length: number, header: NetHeader): boolean {
    const view = this.#view;
    const type = header.gsoType & ~GSO_ECN;
    this.#length = length;
    this.#udp = type === GSO_UDP;
    this.#network = networkOffset(view, length);
    this.#transport = header.csumStart;
    const ethertype = view.getUint16(this.#network - 2);
    this.#ipv4 = ethertype === ETHERTYPE_IPV4;
    if (!this.#ipv4 && ethertype !== ETHERTYPE_IPV6) return false;
    if (!this.#udp && this.#ipv4 !== (type === GSO_TCPV4)) return false;
    if (!(this.#ipv4 ? this.#checkIpv4() : this.#checkIpv6())) return false;
    if (!(this.#udp ? this.#checkUdp(header) : this.#checkTcp(header))) {
      return false;
    }
    this.#next = this.#payload;
    return true;
  }

  /**
   * Writes the next piece.
   *
   * @returns bytes of the piece; 0: there was none left
   */
  next(): number {
    const left = this.#length - this.#next;
    if (left <= 0) return 0;
    const size = left < this.#size ? left : this.#size;
    const length = this.#udp ? this.#fragment(size) : this.#segment(size);
    this.#next += size;
    return length;
  }

  #checkIpv4(): boolean {
    const at = this.#network;
    if (at + IPV4_HEADER > this.#length) return false;
    const first = this.#view.getUint8(at);
    const headerLength = (first & 0xf) * 4;
    this.#identification = this.#view.getUint16(at + 4);
    return first >> 4 === 4 && headerLength >= IPV4_HEADER &&
      at + headerLength === this.#transport &&
      this.#view.getUint8(at + 9) ===
        (this.#udp ? PROTOCOL_UDP : PROTOCOL_TCP) &&
      // A fragment is not cut again.
      (this.#view.getUint16(at + 6) & 0x3fff) === 0;
  }

  #checkIpv6(): boolean {
    const at = this.#network;
    if (at + IPV6_HEADER > this.#length) return false;
    if (this.#view.getUint8(at) >> 4 !== 6) return false;
    // Where extension headers are, the transport's is found by csum_start.
    return this.#udp
      ? this.#transport === at + IPV6_HEADER &&
        this.#view.getUint8(at + 6) === PROTOCOL_UDP
      : this.#transport >= at + IPV6_HEADER;
  }

  #checkTcp(header: NetHeader): boolean {
    const at = this.#transport;
    if (header.csumOffset !== 16 || at + TCP_HEADER > this.#length) {
      return false;
    }
    const headerLength = (this.#view.getUint8(at + 12) >> 4) * 4;
    this.#payload = at + headerLength;
    this.#size = header.gsoSize;
    return headerLength >= TCP_HEADER && this.#payload < this.#length &&
      this.#length - this.#network <= 0xffff + IPV6_HEADER;
  }

  #checkUdp(header: NetHeader): boolean {
    const at = this.#transport, view = this.#view;
    if (header.csumOffset !== 6 || at + UDP_HEADER > this.#length) return false;
    this.#payload = at;
    // All fragments but the last carry multiples of 8 bytes.
    this.#size = header.gsoSize & ~7;
    if (this.#size === 0 || this.#length - at > 0xffff) return false;
    view.setUint16(at + 6, 0);
    const sum = ~onesSum(view, at, this.#length, this.#pseudo(PROTOCOL_UDP)) &
      0xffff;
    view.setUint16(at + 6, sum === 0 ? 0xffff : sum);
    this.#fragments = (this.#fragments + 1) >>> 0;
    return true;
  }

  /** Pseudo header of the whole datagram. */
  #pseudo(protocol: number): number {
    const at = this.#network + (this.#ipv4 ? 12 : 8);
    const length = this.#length - this.#transport;
    return pseudoSum(this.#view, at, this.#ipv4 ? 8 : 32, protocol, length);
  }

  #segment(size: number): number {
    const view = this.#view, bytes = this.#bytes, piece = this.#piece;
    const headers = this.#payload;
    const length = headers + size;
    const first = this.#next === headers;
    const last = this.#next + size === this.#length;
    bytes.copyWithin(piece, 0, headers);
    bytes.copyWithin(piece + headers, this.#next, this.#next + size);
    this.#setLength(length);
    const network = piece + this.#network, at = piece + this.#transport;
    if (this.#ipv4) {
      const index = (this.#next - headers) / this.#size;
      view.setUint16(network + 4, this.#identification + index & 0xffff);
      fillIpv4Checksum(view, network, at - network);
    }
    const sequence = view.getUint32(at + 4) + this.#next - headers;
    view.setUint32(at + 4, sequence >>> 0);
    let flags = view.getUint8(at + 13);
    if (!last) flags &= ~TCP_FIN_PSH;
    if (!first) flags &= ~TCP_CWR;
    view.setUint8(at + 13, flags);
    view.setUint16(at + 16, 0);
    const pseudo = pseudoSum(
      view,
      network + (this.#ipv4 ? 12 : 8),
      this.#ipv4 ? 8 : 32,
      PROTOCOL_TCP,
      length - this.#transport,
    );
    const sum = onesSum(view, at, piece + length, pseudo);
    view.setUint16(at + 16, ~sum & 0xffff);
    return length;
  }

  #fragment(size: number): number {
    const view = this.#view, bytes = this.#bytes, piece = this.#piece;
    const offset = this.#next - this.#payload;
    const more = this.#next + size < this.#length;
    const growth = this.#ipv4 ? 0 : FRAGMENT_HEADER;
    const start = piece + this.#transport + growth;
    bytes.copyWithin(piece, 0, this.#transport);
    bytes.copyWithin(start, this.#next, this.#next + size);
    const length = this.#transport + growth + size;
    this.#setLength(length);
    const network = piece + this.#network, at = piece + this.#transport;
    if (this.#ipv4) {
      view.setUint16(network + 6, offset >> 3 | (more ? 0x2000 : 0));
      fillIpv4Checksum(view, network, at - network);
    } else {
      view.setUint8(network + 6, PROTOCOL_FRAGMENT);
      view.setUint16(at, PROTOCOL_UDP << 8);
      view.setUint16(at + 2, offset | (more ? 1 : 0));
      view.setUint32(at + 4, this.#fragments);
    }
    return length;
  }

  #setLength(length: number): void {
    const network = this.#piece + this.#network;
    const carried = length - this.#network;
    if (this.#ipv4) this.#view.setUint16(network + 2, carried);
    else this.#view.setUint16(network + 4, carried - IPV6_HEADER);
  }
}
