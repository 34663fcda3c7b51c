/**
 * The frame that tells a network where a guest is now: a reverse ARP request,
 * from which switches learn.
 *
 * Source: RFC 903; `VHOST_USER_SEND_RARP` of the vhost-user protocol.
 *
 * @module
 */

import { MAC_SIZE } from "./protocol.ts";

/** Bytes of the frame: the least that Ethernet has, without checksum. */
export const RARP_SIZE = 60;

const ETHERTYPE_RARP = 0x8035;

/**
 * Writes the frame.
 *
 * @param into its first {@linkcode RARP_SIZE} bytes are written
 * @param mac address of the guest
 */
export function writeRarp(into: Uint8Array, mac: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, RARP_SIZE);
  into.fill(0, 0, RARP_SIZE);
  into.fill(0xff, 0, MAC_SIZE);
  into.set(mac, MAC_SIZE);
  view.setUint16(12, ETHERTYPE_RARP);
  view.setUint16(14, 1); // Ethernet
  view.setUint16(16, 0x0800); // IPv4
  into[18] = MAC_SIZE;
  into[19] = 4;
  view.setUint16(20, 3); // request reverse
  into.set(mac, 22);
  into.set(mac, 32);
}
