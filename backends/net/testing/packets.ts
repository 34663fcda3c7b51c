/**
 * Frames for tests, and what is right about them.
 *
 * @module
 */

import { onesSum, pseudoSum } from "../checksum.ts";

/** Two stations. */
export const ALICE: readonly number[] = [2, 0, 0, 0, 0, 0xa];
export const BOB: readonly number[] = [2, 0, 0, 0, 0, 0xb];
export const BROADCAST: readonly number[] = [255, 255, 255, 255, 255, 255];

/** What a packet is made of. */
export interface PacketOptions {
  readonly to?: readonly number[];
  readonly from?: readonly number[];
  /** Bytes of payload (default 100). */
  readonly payload?: number;
  /** IPv6 in place of IPv4. */
  readonly ipv6?: boolean;
  /** UDP in place of TCP. */
  readonly udp?: boolean;
  /** VLAN of a tag. */
  readonly vlan?: number;
  /** Flags of TCP (default ACK). */
  readonly flags?: number;
  /** Bytes of TCP or IPv4 options, multiples of 4. */
  readonly tcpOptions?: number;
  readonly ipOptions?: number;
}

/** A packet with a partial checksum, as a driver with CSUM sends it. */
export interface Packet {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Offsets of its headers and its payload. */
  readonly network: number;
  readonly transport: number;
  readonly payload: number;
  /** `csum_offset`. */
  readonly csumOffset: number;
}

/** Makes a packet; the payload counts up. */
export function packet(options: PacketOptions = {}): Packet {
  const { to = BOB, from = ALICE, payload: size = 100 } = options;
  const { ipv6 = false, udp = false, vlan, flags = 0x10 } = options;
  const { tcpOptions = 0, ipOptions = 0 } = options;
  const network = vlan === undefined ? 14 : 18;
  const transport = network + (ipv6 ? 40 : 20 + ipOptions);
  const payload = transport + (udp ? 8 : 20 + tcpOptions);
  const bytes = new Uint8Array(payload + size);
  const view = new DataView(bytes.buffer);
  bytes.set(to);
  bytes.set(from, 6);
  if (vlan !== undefined) {
    view.setUint16(12, 0x8100);
    view.setUint16(14, vlan);
  }
  view.setUint16(network - 2, ipv6 ? 0x86dd : 0x0800);
  const carried = bytes.length - transport;
  if (ipv6) {
    bytes[network] = 0x60;
    view.setUint16(network + 4, carried);
    bytes[network + 6] = udp ? 17 : 6;
    bytes[network + 7] = 64;
    bytes.set([0xfd, 0, 0, 1], network + 8);
    bytes.set([0xfd, 0, 0, 2], network + 24);
  } else {
    bytes[network] = 0x40 | (transport - network) / 4;
    view.setUint16(network + 2, bytes.length - network);
    view.setUint16(network + 4, 0xfffe);
    bytes[network + 8] = 64;
    bytes[network + 9] = udp ? 17 : 6;
    bytes.set([10, 0, 0, 1, 10, 0, 0, 2], network + 12);
    const sum = ~onesSum(view, network, transport, 0) & 0xffff;
    view.setUint16(network + 10, sum);
  }
  view.setUint16(transport, 1234);
  view.setUint16(transport + 2, 5678);
  const csumOffset = udp ? 6 : 16;
  if (udp) view.setUint16(transport + 4, carried);
  else {
    view.setUint32(transport + 4, 0xffff_fff0);
    bytes[transport + 12] = (20 + tcpOptions) / 4 << 4;
    bytes[transport + 13] = flags;
  }
  for (let i = payload; i < bytes.length; i++) bytes[i] = (i - payload) * 7;
  const pseudo = pseudoSum(
    view,
    network + (ipv6 ? 8 : 12),
    ipv6 ? 32 : 8,
    udp ? 17 : 6,
    carried,
  );
  view.setUint16(transport + csumOffset, pseudo);
  return { bytes, network, transport, payload, csumOffset };
}

/** Whether the checksums of a finished packet like `like` hold. */
export function sumsHold(bytes: Uint8Array, like: Packet): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { network, transport, csumOffset } = like;
  const ipv4 = bytes[network] >> 4 === 4;
  if (ipv4 && onesSum(view, network, transport, 0) !== 0xffff) return false;
  const pseudo = pseudoSum(
    view,
    network + (ipv4 ? 12 : 8),
    ipv4 ? 8 : 32,
    csumOffset === 6 ? 17 : 6,
    bytes.length - transport,
  );
  return onesSum(view, transport, bytes.length, pseudo) === 0xffff;
}

/** How a {@linkcode virtioHeader} differs from all zeroes. */
export interface HeaderFields {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerLength?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

/** A `struct virtio_net_hdr` of 12 bytes. */
export function virtioHeader(
  fields: HeaderFields = {},
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  bytes[0] = fields.flags ?? 0;
  bytes[1] = fields.gsoType ?? 0;
  view.setUint16(2, fields.headerLength ?? 0, true);
  view.setUint16(4, fields.gsoSize ?? 0, true);
  view.setUint16(6, fields.csumStart ?? 0, true);
  view.setUint16(8, fields.csumOffset ?? 0, true);
  return bytes;
}

/** A header of 12 bytes as `NetHeader` reads and writes it. */
export function headerWords(bytes: Uint8Array): Uint32Array<ArrayBuffer> {
  return new Uint32Array(bytes.slice().buffer);
}

/** The header of a packet whose checksum is to be filled in. */
export function partialHeader(
  { transport, payload, csumOffset }: Packet,
  fields: HeaderFields = {},
): Uint8Array<ArrayBuffer> {
  return virtioHeader({
    flags: 1,
    csumStart: transport,
    csumOffset,
    headerLength: fields.gsoType ? payload : 0,
    ...fields,
  });
}
