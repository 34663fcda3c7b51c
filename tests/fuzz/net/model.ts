/**
 * What becomes of frames: a model, from virtio 1.4, section 5.1.6, and what
 * `backends/net` says of its choices.
 *
 * @module
 */

import { comparable, equalBytes } from "../engine/equal.ts";
import { expect, Finding } from "../engine/target.ts";

/** Feature bits, without `VIRTIO_NET_F_`. */
export const Feature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  VERSION_1: 32,
} as const;

/** Smallest and largest frame. */
export const MIN_FRAME = 14, MAX_FRAME = 65535 + 18;
/** Most buffers, and pieces, of a chain that is worked on. */
const BUFFERS = 128, PIECES = 132;

/** Whether a set of features has one. */
export function has(features: bigint, bit: number): boolean {
  return (features >> BigInt(bit) & 1n) === 1n;
}

/** Bytes of the header. */
export function headerSize(features: bigint): number {
  return has(features, Feature.VERSION_1) || has(features, Feature.MRG_RXBUF)
    ? 12
    : 10;
}

/** A header, as far as it means something. */
export interface Header {
  readonly checksum: boolean;
  readonly gso: number;
  readonly size: number;
  readonly start: number;
  readonly offset: number;
}

/** A frame that was sent. */
export interface Sent {
  readonly header: Header;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Why nothing was sent. */
export type Refusal =
  | "txShortHeader"
  | "txRunts"
  | "txGiants"
  | "txLinkDown"
  | "badHeaders";

/** The features that a `gso_type` needs, of those of one direction. */
function needed(gso: number, host: boolean): readonly number[] | null {
  const shift = host ? 4 : 0;
  const kind = gso & 0x7f;
  const ecn = (gso & 0x80) !== 0;
  if (kind === 3 && !ecn) return [Feature.GUEST_UFO + shift];
  if (kind !== 1 && kind !== 4) return null;
  const tso = (kind === 1 ? Feature.GUEST_TSO4 : Feature.GUEST_TSO6) + shift;
  return ecn ? [tso, Feature.GUEST_ECN + shift] : [tso];
}

/** Reads a header. */
export function decode(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const checksum = (bytes[0] & 1) !== 0;
  const gso = bytes[1];
  return {
    checksum,
    gso,
    size: gso === 0 ? 0 : view.getUint16(4, true),
    start: checksum ? view.getUint16(6, true) : 0,
    offset: checksum ? view.getUint16(8, true) : 0,
  };
}

/** What a device has to do with what a driver sends. */
export function judge(
  bytes: Uint8Array<ArrayBuffer>,
  { buffers, pieces }: { buffers: number; pieces: number },
  features: bigint,
  link: boolean,
): Sent | Refusal {
  const size = headerSize(features);
  if (bytes.length < size) return "txShortHeader";
  const frame = bytes.slice(size);
  if (frame.length < MIN_FRAME) return "txRunts";
  if (frame.length > MAX_FRAME || buffers > BUFFERS || pieces > PIECES) {
    return "txGiants";
  }
  if (!link) return "txLinkDown";
  const header = decode(bytes);
  if (header.checksum) {
    if (!has(features, Feature.CSUM)) return "badHeaders";
    const { start, offset } = header;
    if (start < MIN_FRAME || start + offset + 2 > frame.length) {
      return "badHeaders";
    }
  }
  if (header.gso !== 0) {
    const wanted = needed(header.gso, true);
    const allowed = wanted !== null && header.checksum && header.size > 0 &&
      wanted.every((bit) => has(features, bit));
    const headers = bytes[2] | bytes[3] << 8;
    if (!allowed || headers > frame.length) return "badHeaders";
  }
  return { header, bytes: frame };
}

/** One's complement sum of 16-bit words. */
function sum16(bytes: Uint8Array, from: number): number {
  let sum = 0;
  for (let i = from; i < bytes.length; i += 2) {
    sum += bytes[i] * 256 + (bytes[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = Math.floor(sum / 65536) + sum % 65536;
  return sum;
}

/** A header fits to what the driver that gets it agreed to. */
export function checkAgreed(raw: Uint8Array, features: bigint): void {
  const { checksum, gso } = decode(raw);
  expect(
    !checksum || has(features, Feature.GUEST_CSUM),
    () => "a checksum is left to a driver that does not do it",
  );
  if (gso === 0) return;
  const wanted = needed(gso, false);
  expect(
    wanted !== null && wanted.every((bit) => has(features, bit)),
    () => `a frame with gso_type ${gso} goes to a driver that has no such`,
  );
}

/** What was received is what was sent, or a part of it. */
export function compareFrames(
  { header: sent, bytes }: Sent,
  raw: Uint8Array,
  received: Uint8Array<ArrayBuffer>,
): void {
  const header = decode(raw);
  if (sent.gso !== 0 && header.gso === 0) {
    expect(!header.checksum, () => "a segment has no checksum");
    return checkSegment(sent, bytes, received);
  }
  expect(
    header.gso === sent.gso && header.size === sent.size,
    () => `gso_type is ${header.gso}, not ${sent.gso}`,
  );
  const right = bytes.slice();
  if (sent.checksum && !header.checksum) {
    const sum = 0xffff - sum16(bytes, sent.start);
    new DataView(right.buffer).setUint16(
      sent.start + sent.offset,
      sum === 0 ? 0xffff : sum,
    );
  } else {
    expect(
      header.start === sent.start && header.offset === sent.offset,
      () => `the checksum is at ${header.start}, not ${sent.start}`,
    );
  }
  expect(
    received.length === right.length,
    () => `${received.length} bytes come, not ${right.length}`,
  );
  if (equalBytes(comparable(received), comparable(right))) return;
  const at = received.findIndex((byte, i) => byte !== right[i]);
  throw new Finding(`byte ${at} is ${received[at]}, not ${right[at]}`);
}

/** A piece of a frame that was cut. */
function checkSegment(
  { gso, size, start }: Header,
  bytes: Uint8Array<ArrayBuffer>,
  piece: Uint8Array<ArrayBuffer>,
): void {
  const whole = new DataView(bytes.buffer), view = new DataView(piece.buffer);
  if ((gso & 0x7f) === 3) {
    expect(
      piece.length <= start + 8 + size,
      () => `a fragment of ${piece.length - start} bytes, not ${size}`,
    );
    return;
  }
  const headers = start + (bytes[start + 12] >> 4) * 4;
  expect(
    piece.length > headers && piece.length <= headers + size,
    () => `a segment of ${piece.length - headers} bytes, not ${size}`,
  );
  const at = (view.getUint32(start + 4) - whole.getUint32(start + 4)) >>> 0;
  expect(
    at % size === 0 && headers + at + piece.length - headers <= bytes.length,
    () => `a segment from ${at} on`,
  );
  const payload = piece.subarray(headers);
  const right = bytes.subarray(headers + at, at + piece.length);
  expect(
    equalBytes(comparable(payload), comparable(right)),
    () => `a segment from ${at} on has other bytes`,
  );
}
