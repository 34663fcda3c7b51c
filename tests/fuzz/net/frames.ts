/**
 * Frames and commands, as the bytes of an input want them: most are in order.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import {
  ALICE,
  BOB,
  BROADCAST,
  packet,
} from "../../../backends/net/testing/packets.ts";

const MULTICAST = [1, 0, 0x5e, 0, 0, 1];
const ADDRESSES = [BOB, BROADCAST, ALICE, MULTICAST, [2, 0, 0, 0, 0, 7]];
const GSO = [0, 1, 4, 3, 0x81, 0x84, 2, 0x83] as const;
/** Bytes of a frame's description. */
export const FRAME_BYTES = 13;

/** A header of 12 bytes, and a frame. */
export function frameOf(
  bytes: Bytes,
): { header: Uint8Array<ArrayBuffer>; frame: Uint8Array<ArrayBuffer> } {
  const shape = bytes.u8(), who = bytes.u8(), size = bytes.u16();
  const gsoByte = bytes.u8(), gsoSize = bytes.u16(), flags = bytes.u8();
  const start = bytes.u8(), offset = bytes.u8(), headers = bytes.u8();
  const cut = bytes.u8(), odd = bytes.u8();
  const gso = gsoByte < 0xe0 ? GSO[gsoByte % 8] : gsoByte;
  const udp = gso === 3 || (shape & 2) !== 0;
  const made = packet({
    to: ADDRESSES[who % 5],
    from: ADDRESSES[(who >> 4) % 5 === 1 ? 0 : 2],
    payload: size < 0xf000 ? size % 3000 : size % 0x1000 * 16,
    ipv6: (gso & 0x7f) === 4 || (shape & 1) !== 0,
    udp,
    vlan: (shape & 4) !== 0 ? odd : undefined,
    tcpOptions: (shape & 8) !== 0 ? 12 : 0,
    ipOptions: (shape & 16) !== 0 && (shape & 1) === 0 ? 8 : 0,
  });
  const { transport, payload, csumOffset } = made;
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  header[0] = gso !== 0 || (flags & 1) !== 0 ? 1 : 0;
  if (flags >= 0xe0) header[0] = flags;
  header[1] = gso;
  const mtu = gsoSize < 0xf000 ? 64 + gsoSize % 1400 : gsoSize % 64;
  view.setUint16(2, headers < 0xc0 ? payload : headers * 300 % 65536, true);
  view.setUint16(4, mtu, true);
  view.setUint16(6, start < 0xc0 ? transport : start * 257, true);
  let frame = made.bytes;
  if (cut >= 0xc0) frame = frame.slice(0, (cut - 0xc0) * 2);
  // At the end of the frame, within it or behind it.
  const last = frame.length - transport - offset % 4;
  const field = offset < 0xc0
    ? csumOffset
    : offset < 0xe0
    ? Math.max(last, 0)
    : offset * 257;
  view.setUint16(8, field, true);
  if (odd >= 0xc0) frame[odd % Math.max(1, frame.length)] ^= cut | 1;
  return { header, frame };
}

/** Bytes of a command's description. */
export const COMMAND_BYTES = 8;

/** A command of the control queue. */
export function commandOf(bytes: Bytes): Uint8Array<ArrayBuffer> {
  const kind = bytes.u8(), command = bytes.u8(), value = bytes.u16();
  const count = bytes.u8(), second = bytes.u8(), cut = bytes.u8();
  const odd = bytes.u8();
  let data: number[];
  switch (kind % 6) {
    case 0:
      data = [value % 3];
      break;
    case 1: {
      const table = (many: number): number[] => [
        ...[many, 0, odd >= 0xf0 ? odd : 0, 0],
        ...Array.from({ length: Math.min(many, 70) }, (_, i) => [
          ...(i === 0 ? BOB : [value, 0, 0, 0, i, many].map((n) => n & 255)),
        ]).flat(),
      ];
      data = command % 2 === 1 ? [...BOB] : [
        ...table(count % 72),
        ...table(
          second % 72,
        ),
      ];
      break;
    }
    case 5:
      data = [value & 0x83, value >> 8 & 7, 0, 0, 0, 0, 0, 0];
      if (odd >= 0xe0) data[odd % 8] ^= odd;
      break;
    default:
      data = [value & 255, value >> 8 & (odd < 0xc0 ? 3 : 255)];
  }
  const small = [6, 2, 2, 1, 1, 1][kind % 6];
  const all = [
    kind < 0xf0 ? kind % 6 : kind,
    command < 0xf0 ? command % small : command,
    ...data,
  ];
  return new Uint8Array(
    all.slice(0, cut < 0xc0 ? all.length : cut % (all.length + 1)),
  );
}
