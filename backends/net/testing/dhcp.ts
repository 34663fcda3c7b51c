/**
 * As much of DHCP as shows that a network answers.
 *
 * Source: RFC 2131.
 *
 * @module
 */

import { fillIpv4Checksum } from "../checksum.ts";
import { BROADCAST } from "./packets.ts";

const COOKIE = [0x63, 0x82, 0x53, 0x63];

/** A DISCOVER from a station, without UDP checksum. */
export function dhcpDiscover(
  from: readonly number[],
  transaction: number,
): Uint8Array<ArrayBuffer> {
  const options = [...COOKIE, 53, 1, 1, 55, 3, 1, 3, 6, 255];
  const bytes = new Uint8Array(14 + 20 + 8 + 300);
  const view = new DataView(bytes.buffer);
  bytes.set(BROADCAST);
  bytes.set(from, 6);
  view.setUint16(12, 0x0800);
  bytes[14] = 0x45;
  view.setUint16(16, bytes.length - 14);
  bytes[22] = 64;
  bytes[23] = 17;
  bytes.set([255, 255, 255, 255], 30);
  fillIpv4Checksum(view, 14, 20);
  view.setUint16(34, 68);
  view.setUint16(36, 67);
  view.setUint16(38, bytes.length - 34);
  bytes.set([1, 1, 6], 42);
  view.setUint32(46, transaction);
  view.setUint16(52, 0x8000); // answer to all
  bytes.set(from, 70);
  bytes.set(options, 42 + 236);
  return bytes;
}

/** The address that is offered in an answer to this transaction, or `null`. */
export function dhcpOffer(
  bytes: Uint8Array,
  transaction: number,
): number[] | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 282 || view.getUint16(12) !== 0x0800) return null;
  if (bytes[23] !== 17 || view.getUint16(36) !== 68) return null;
  if (bytes[42] !== 2 || view.getUint32(46) !== transaction) return null;
  return [...bytes.subarray(58, 62)];
}
