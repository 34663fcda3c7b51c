/**
 * What the bytes of an input mean where vhost-user is concerned: messages, the
 * descriptors that come along, and whether a back-end may accept them.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";

// Numbers of `vhost-user.rst`, written down again on purpose.
const SET_FEATURES = 2, SET_MEM_TABLE = 5;
const SET_VRING_NUM = 8, SET_VRING_ADDR = 9, SET_VRING_BASE = 10;
const GET_VRING_BASE = 11, SET_VRING_KICK = 12, SET_VRING_ERR = 14;
const SET_PROTOCOL_FEATURES = 16, SET_VRING_ENABLE = 18;
const SET_BACKEND_REQ_FD = 21, GET_CONFIG = 24, SET_CONFIG = 25;
const GET_INFLIGHT_FD = 31, SET_INFLIGHT_FD = 32;
const ADD_MEM_REG = 37, REM_MEM_REG = 38, SET_STATUS = 39;

/** Messages that have a reply of their own. */
export const REPLYING: ReadonlySet<number> = new Set(
  [1, 11, 15, 17, 24, 31, 36, 40],
);
/** Messages without a payload. */
const EMPTY: ReadonlySet<number> = new Set(
  [1, 3, 4, 15, 17, 21, 34, 36, 40],
);
const U64: ReadonlySet<number> = new Set([2, 16, 19, 20, 39]);
const STATE: ReadonlySet<number> = new Set([8, 10, 11, 18]);
const FD: ReadonlySet<number> = new Set([12, 13, 14]);
/** Every message that a session knows, those that matter more often. */
const REQUESTS: readonly number[] = [
  ...[1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 24, 25],
  ...[31, 32, 19, 20],
  ...[34, 36, 37, 38, 39, 40, 5, 8, 9, 10, 11, 12, 12, 13, 14, 18, 37, 38, 2],
  ...[6, 7, 22, 23, 26, 27, 28, 29, 30, 33, 35, 41, 42, 43],
  ...[0, 44, 0xffff_ffff],
];

/** Virtio features that the plane of the target offers. */
export const OFFERED: bigint = 1n << 32n | 1n << 28n | 1n << 29n | 0x1fn;
const TRANSPORT = 1n << 30n;
/** Guest addresses of regions, and their distance to user addresses. */
const BASE = 0x1_0000n, STEP = 0x1_0000n, USER = 0x7f00_0000_0000n;
const LENGTHS = [0x1_0000n, 0x1000n, 0x2_0000n, 0n, 0x800n] as const;
const OFFSETS = [0n, 0x1000n, 1n, 1n << 52n, (1n << 64n) - 1n] as const;
const COUNTS = [0, 1, 2, 3, 4, 8, 64, 252, 253] as const;

/** Kinds of descriptors that come along. */
export const FD_KINDS = [
  "eventfd",
  "memfd",
  "small memfd",
  "socket",
  "pipe",
  "file",
  "full eventfd",
] as const;
/** One of {@linkcode FD_KINDS}. */
export type FdKindName = typeof FD_KINDS[number];

/** A message of the front-end. */
export interface FuzzMessage {
  readonly request: number;
  readonly flags: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  /** Length that the header announces. */
  readonly size: number;
  readonly fds: readonly FdKindName[];
}

class Payload {
  readonly #bytes: number[] = [];

  put(size: number, value: bigint): this {
    for (let i = 0; i < size; i++) {
      this.#bytes.push(Number(value >> BigInt(8 * i) & 255n));
    }
    return this;
  }

  done(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#bytes);
  }
}

function region(payload: Payload, a: number, b: number): void {
  const which = BigInt(a % 4);
  const shift = (b & 0x80) !== 0 ? 0x800n : 0n;
  payload.put(8, BASE + which * STEP + shift)
    .put(8, LENGTHS[b % LENGTHS.length])
    .put(8, USER + BASE + which * STEP + ((b & 0x40) !== 0 ? 0x800n : 0n))
    .put(8, OFFSETS[(b >> 3) % 8 % OFFSETS.length]);
}

function number64(a: number, c: number, d: number): bigint {
  const raw = BigInt(d) << 32n | BigInt(c);
  switch (a % 4) {
    case 0:
      return raw & 0xffn;
    case 1:
      return raw & 0xffff_ffffn;
    default:
      return raw;
  }
}

/** The payload that a message should have, filled from the record. */
function payloadOf(
  request: number,
  a: number,
  b: number,
  c: number,
  d: number,
): Uint8Array<ArrayBuffer> {
  const payload = new Payload();
  if (request === SET_FEATURES) {
    const all = OFFERED | TRANSPORT;
    const some = [all, OFFERED, all & BigInt(c), number64(2, c, d)];
    return payload.put(8, some[a % 4]).done();
  }
  if (request === SET_PROTOCOL_FEATURES) {
    // MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE,
    // MEM_SLOTS, STATUS; for network devices RARP and NET_MTU.
    const all = (d & 1) === 1 ? 0x1_b23dn : 0x1_b229n;
    return payload.put(8, [all, all & BigInt(c), 0n, BigInt(c)][a % 4]).done();
  }
  if (U64.has(request)) return payload.put(8, number64(a, c, d)).done();
  if (STATE.has(request)) {
    const index = a < 0xf0 ? a % 5 : c;
    let value = BigInt(b);
    if (request === SET_VRING_NUM && (d & 3) !== 3) value = 1n << value % 18n;
    if (request === SET_VRING_ENABLE && (d & 3) !== 3) value = 1n - value % 2n;
    if (request === SET_VRING_BASE && (d & 7) === 7) value = BigInt(c);
    return payload.put(4, BigInt(index)).put(4, value).done();
  }
  if (FD.has(request)) {
    const index = BigInt(a < 0xf0 ? a % 5 : c);
    const high = (d & 0xff) === 0xff ? BigInt(d) << 24n : 0n;
    return payload.put(8, index | BigInt(b & 1) << 8n | high).done();
  }
  if (request === SET_VRING_ADDR) {
    const base = USER + BASE + BigInt(b % 4) * STEP;
    const odd = BigInt(c & 0xff);
    payload.put(4, BigInt(a < 0xf0 ? a % 5 : c)).put(4, BigInt(d & 1));
    return payload.put(8, base + (odd < 0xc0n ? 0n : odd * 8n))
      .put(8, base + 0x2000n + BigInt(c >> 8 & 0xfff) * 4n)
      .put(8, base + 0x1000n + BigInt(c >>> 20) * 2n)
      .put(8, 0n).done();
  }
  if (request === SET_MEM_TABLE) {
    const count = a % 5;
    payload.put(4, BigInt((b & 0x100) !== 0 ? c : count)).put(4, 0n);
    for (let i = 0; i < count; i++) region(payload, a + i, b + i * (d & 7));
    return payload.done();
  }
  if (request === ADD_MEM_REG || request === REM_MEM_REG) {
    payload.put(8, 0n);
    region(payload, a, b);
    return payload.done();
  }
  if (request === GET_CONFIG || request === SET_CONFIG) {
    const size = b % 300;
    payload.put(4, BigInt((d & 3) === 3 ? c : a)).put(4, BigInt(size));
    payload.put(4, BigInt(d >> 8 & 1));
    for (let i = 0; i < size; i++) payload.put(1, BigInt(c >>> i % 4 * 8));
    return payload.done();
  }
  if (request === GET_INFLIGHT_FD || request === SET_INFLIGHT_FD) {
    const queues = a % 6, size = b < 0xf000 ? 1 << b % 8 : b;
    const needed = BigInt(queues * (64 + 16 * size));
    const least = BigInt(queues * (16 + 16 * size));
    const sizes = [needed, least - 1n, BigInt(c), number64(2, c, d)];
    payload.put(8, sizes[d % 4]).put(8, OFFSETS[(d >>> 2) % 8 % 5])
      .put(2, BigInt(queues)).put(2, BigInt(size));
    return (d & 0x100) === 0 ? payload.put(4, 0n).done() : payload.done();
  }
  return EMPTY.has(request) ? payload.done() : payload.put(8, 0n).done();
}

/** The descriptors that should come with a message. */
function rightFds(
  request: number,
  payload: Uint8Array,
): readonly FdKindName[] {
  if (FD.has(request)) return (payload[1] & 1) !== 0 ? [] : ["eventfd"];
  if (request === SET_BACKEND_REQ_FD) return ["socket"];
  if (request === ADD_MEM_REG || request === SET_INFLIGHT_FD) {
    return ["memfd"];
  }
  if (request === SET_MEM_TABLE) {
    const count = Math.floor((payload.length - 8) / 32);
    return Array.from({ length: count }, () => "memfd");
  }
  return [];
}

/** Reads a message from a record. */
export function readMessage(bytes: Bytes): FuzzMessage {
  const request = REQUESTS[bytes.u8() % REQUESTS.length];
  const odd = bytes.u8(), fdsByte = bytes.u8(), a = bytes.u8();
  const b = bytes.u16(), c = bytes.u32(), d = bytes.u32(), e = bytes.u16();
  let payload = payloadOf(request, a, b, c, d);
  let flags = 1 | (odd & 1) << 3;
  if ((odd & 0x1e) === 0x1e) flags ^= 1 << (e & 31);
  if ((odd & 0xe0) === 0xe0) {
    const length = e % 128;
    const other = new Uint8Array(length);
    other.set(payload.subarray(0, length));
    payload = other;
  }
  const lies = (odd & 0xe0) === 0xc0;
  const size = lies ? (e % 2 === 0 ? e : e * 65537) >>> 0 : payload.length;
  let fds = rightFds(request, payload);
  if (fdsByte !== 0) {
    const count = COUNTS[(fdsByte >> 3) % COUNTS.length];
    fds = Array.from(
      { length: count },
      (_, i) => FD_KINDS[(fdsByte + i * (e & 1)) % FD_KINDS.length],
    );
  }
  return { request, flags, payload, size, fds };
}

/** A message as it goes over the socket. */
export function encode(message: FuzzMessage): Uint8Array<ArrayBuffer> {
  const { request, flags, size, payload } = message;
  const head = new Payload().put(4, BigInt(request)).put(4, BigInt(flags))
    .put(4, BigInt(size)).done();
  const bytes = new Uint8Array(head.length + payload.length);
  bytes.set(head);
  bytes.set(payload, head.length);
  return bytes;
}

/**
 * Why no back-end may accept a message, whatever came before it; `null` where
 * that depends.
 */
export function mustRefuse(
  { request, payload, fds }: FuzzMessage,
  queueCount: number,
): string | null {
  const view = new DataView(payload.buffer);
  const needs = (size: number): string | null =>
    payload.length === size ? null : `payload of ${payload.length} bytes`;
  const most = request === SET_MEM_TABLE
    ? 253
    : FD.has(request) || [21, 32, 37, 38].includes(request)
    ? 1
    : 0;
  if (fds.length > most) return `${fds.length} descriptors`;
  if (EMPTY.has(request)) return needs(0);
  if (U64.has(request)) {
    const wrong = needs(8);
    if (wrong !== null) return wrong;
    const value = view.getBigUint64(0, true);
    if (request === SET_FEATURES && (value & ~(OFFERED | TRANSPORT)) !== 0n) {
      return "features that were not offered";
    }
    return request === SET_STATUS && value > 255n ? "a large status" : null;
  }
  if (STATE.has(request)) {
    const wrong = needs(8);
    if (wrong !== null) return wrong;
    const index = view.getUint32(0, true), value = view.getUint32(4, true);
    if (index >= queueCount) return `ring ${index}`;
    if (request === GET_VRING_BASE) return null;
    if (request === SET_VRING_BASE && value > 0xffff) return `base ${value}`;
    const isPower = value > 0 && (value & (value - 1)) === 0;
    return request === SET_VRING_NUM && (!isPower || value > 32768)
      ? `size ${value}`
      : null;
  }
  if (request >= SET_VRING_KICK && request <= SET_VRING_ERR) {
    const wrong = needs(8);
    if (wrong !== null) return wrong;
    const value = view.getBigUint64(0, true);
    if (value > 0x1ffn || Number(value & 0xffn) >= queueCount) {
      return `ring and flags ${value}`;
    }
    const none = (value & 0x100n) !== 0n;
    if (none !== (fds.length === 0)) return `${fds.length} descriptors`;
    return fds.every((kind) => kind.endsWith("eventfd"))
      ? null
      : `a ${fds[0]} as event`;
  }
  if (request === SET_VRING_ADDR) {
    const wrong = needs(40);
    if (wrong !== null) return wrong;
    const index = view.getUint32(0, true);
    if (index >= queueCount) return `ring ${index}`;
    const [table, used, available] = [8, 16, 24].map((at) =>
      view.getBigUint64(at, true)
    );
    return table % 16n !== 0n || used % 4n !== 0n || available % 2n !== 0n
      ? "unaligned parts"
      : null;
  }
  if (request === GET_INFLIGHT_FD || request === SET_INFLIGHT_FD) {
    if (payload.length !== 24 && payload.length !== 20) return needs(20);
    const queues = view.getUint16(16, true), size = view.getUint16(18, true);
    if (queues === 0 || size === 0) return `${queues} queues of ${size}`;
    if (request === GET_INFLIGHT_FD) return null;
    if (fds.length !== 1) return `${fds.length} descriptors`;
    const [kind] = fds;
    if (!kind.endsWith("memfd")) return `a ${kind} as memory`;
    const needed = BigInt(queues * (16 + 16 * size));
    const offset = view.getBigUint64(8, true);
    const room = BigInt(kind === "memfd" ? MEMFD_SIZE : SMALL_MEMFD_SIZE);
    return view.getBigUint64(0, true) < needed || offset + needed > room
      ? "an area without room"
      : null;
  }
  if (request === ADD_MEM_REG || request === REM_MEM_REG) {
    const wrong = needs(40);
    if (wrong !== null) return wrong;
    if (request === REM_MEM_REG) return null;
    if (fds.length !== 1) return `${fds.length} descriptors`;
    return regionFault(view, 8, fds[0]);
  }
  if (request === SET_MEM_TABLE && payload.length >= 8) {
    const count = view.getUint32(0, true);
    if (payload.length !== 8 + 32 * count || fds.length !== count) {
      return `${fds.length} descriptors for ${count} regions`;
    }
    for (let i = 0; i < count; i++) {
      const fault = regionFault(view, 8 + 32 * i, fds[i]);
      if (fault !== null) return fault;
    }
  }
  return null;
}

/** Bytes of the memory that a descriptor stands for. */
export const MEMFD_SIZE = 0x4_0000;
/** Bytes of the small one. */
export const SMALL_MEMFD_SIZE = 0x1000;

function regionFault(
  view: DataView,
  at: number,
  kind: FdKindName,
): string | null {
  const size = view.getBigUint64(at + 8, true);
  const offset = view.getBigUint64(at + 24, true);
  if (size === 0n) return "an empty region";
  if (kind !== "memfd" && kind !== "small memfd") return `a ${kind} as memory`;
  const room = BigInt(kind === "memfd" ? MEMFD_SIZE : SMALL_MEMFD_SIZE);
  return offset + size > room ? "a region beyond its memory" : null;
}
