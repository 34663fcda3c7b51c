/**
 * Codec of vhost-user messages: bytes to values and back, nothing else.
 *
 * Every decoder checks the size of the payload exactly. 64-bit addresses and
 * sizes become Numbers and are refused from 2^53 on; masks stay bigint. All
 * fields are in native byte order, which is little-endian on the only platform
 * that is served.
 *
 * Source: `vhost-user.rst`, "Message Specification".
 *
 * @module
 */

import {
  MAX_PAYLOAD_SIZE,
  VHOST_USER_CONFIG_HEADER_SIZE,
  VHOST_USER_HEADER_SIZE,
  VHOST_USER_REPLY,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
  VRING_INDEX_MASK,
  VRING_NOFD,
} from "./constants.ts";
import { ProtocolError } from "./errors.ts";

/** The three fields before every payload. */
export interface Header {
  /** Number of the message. */
  readonly request: number;
  /** Version, reply and need-reply bits. */
  readonly flags: number;
  /** Size of the payload in bytes. */
  readonly size: number;
}

/** "A vring state description": an index and a number. */
export interface VringState {
  /** Queue index. */
  readonly index: number;
  /** Size, position or flag, as the message says. */
  readonly num: number;
}

/** "A vring address description"; addresses are user addresses. */
export interface VringAddress {
  /** Queue index. */
  readonly index: number;
  /** Bit 0: log changes of the used ring. */
  readonly flags: number;
  /** Descriptor table. */
  readonly descriptor: number;
  /** Used ring. */
  readonly used: number;
  /** Available ring. */
  readonly available: number;
  /** Guest address for logging the used ring. */
  readonly log: bigint;
}

/** Payload of `SET_VRING_KICK`, `SET_VRING_CALL` and `SET_VRING_ERR`. */
export interface VringFd {
  /** Queue index. */
  readonly index: number;
  /** True when no descriptor comes with the message. */
  readonly noFd: boolean;
}

/** A region of memory as a front-end describes it. */
export interface RegionDescription {
  /** Guest physical address of the first byte. */
  readonly guestAddress: number;
  /** Length in bytes. */
  readonly size: number;
  /** The front-end's own address of the first byte. */
  readonly userAddress: number;
  /** Where the region starts in its file, in bytes. */
  readonly mmapOffset: number;
}

/** "Inflight description": an area that tracks requests in flight. */
export interface InflightDescription {
  /** Size of the area in bytes. */
  readonly mmapSize: number;
  /** Where it starts in its file, in bytes. */
  readonly mmapOffset: number;
  /** Number of queues. */
  readonly queueCount: number;
  /** Size of the largest queue. */
  readonly queueSize: number;
}

/** "Log description": an area in which written pages are marked. */
export interface LogDescription {
  /** Size of the area in bytes. */
  readonly mmapSize: number;
  /** Where it starts in its file, in bytes. */
  readonly mmapOffset: number;
}

/** "Virtio device config space" payload. */
export interface ConfigAccess {
  /** First byte. */
  readonly offset: number;
  /** Number of bytes. */
  readonly size: number;
  /** 0: the driver writes; 1: live migration. */
  readonly flags: number;
  /** `size` bytes, or none in a request that leaves them out. */
  readonly data: Uint8Array;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Decodes a header.
 *
 * @param bytes at least 12 bytes
 * @throws {ProtocolError} of kind `version` or `payload-limit`
 */
export function decodeHeader(bytes: Uint8Array): Header {
  const view = viewOf(bytes);
  const request = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  const size = view.getUint32(8, true);
  const version = flags & VHOST_USER_VERSION_MASK;
  if (version !== VHOST_USER_VERSION) {
    throw new ProtocolError(
      "version",
      request,
      `protocol version ${version} is not ${VHOST_USER_VERSION}`,
    );
  }
  if (size > MAX_PAYLOAD_SIZE) {
    throw new ProtocolError(
      "payload-limit",
      request,
      `payload size ${size} exceeds ${MAX_PAYLOAD_SIZE} bytes`,
    );
  }
  return { request, flags, size };
}

/** Encodes a message: header, then payload. */
export function encodeMessage(
  request: number,
  flags: number,
  payload: Uint8Array = new Uint8Array(0),
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(VHOST_USER_HEADER_SIZE + payload.length);
  const view = viewOf(bytes);
  view.setUint32(0, request, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, payload.length, true);
  bytes.set(payload, VHOST_USER_HEADER_SIZE);
  return bytes;
}

/** Encodes a reply. Its flags are exactly version 1 and the reply bit. */
export function encodeReply(
  request: number,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return encodeMessage(request, VHOST_USER_VERSION | VHOST_USER_REPLY, payload);
}

function checkSize(request: number, payload: Uint8Array, size: number): void {
  if (payload.length !== size) {
    throw new ProtocolError(
      "payload-size",
      request,
      `payload is ${payload.length} bytes, not ${size}`,
    );
  }
}

function number53(
  request: number,
  view: DataView,
  offset: number,
  field: string,
): number {
  const value = view.getUint32(offset, true) +
    view.getUint32(offset + 4, true) * 0x1_0000_0000;
  if (value > Number.MAX_SAFE_INTEGER) {
    const exact = view.getBigUint64(offset, true).toString(16);
    throw new ProtocolError(
      "value",
      request,
      `${field} 0x${exact} is not below 2^53`,
    );
  }
  return value;
}

function putNumber53(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 0x1_0000_0000, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Checks a payload that must be absent. */
export function decodeEmpty(request: number, payload: Uint8Array): void {
  checkSize(request, payload, 0);
}

/**
 * Decodes "a single 64-bit integer".
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeU64, encodeU64 } from "./message.ts";
 *
 * assertEquals(decodeU64(2, encodeU64(1n << 32n)), 1n << 32n);
 * ```
 */
export function decodeU64(request: number, payload: Uint8Array): bigint {
  checkSize(request, payload, 8);
  return viewOf(payload).getBigUint64(0, true);
}

/** Encodes "a single 64-bit integer". */
export function encodeU64(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value, true);
  return bytes;
}

/** Decodes "a vring state description". */
export function decodeVringState(
  request: number,
  payload: Uint8Array,
): VringState {
  checkSize(request, payload, 8);
  const view = viewOf(payload);
  return { index: view.getUint32(0, true), num: view.getUint32(4, true) };
}

/** Encodes "a vring state description". */
export function encodeVringState(state: VringState): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  const view = viewOf(bytes);
  view.setUint32(0, state.index, true);
  view.setUint32(4, state.num, true);
  return bytes;
}

/** Decodes "a vring address description". */
export function decodeVringAddress(
  request: number,
  payload: Uint8Array,
): VringAddress {
  checkSize(request, payload, 40);
  const view = viewOf(payload);
  return {
    index: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    descriptor: number53(request, view, 8, "descriptor table address"),
    used: number53(request, view, 16, "used ring address"),
    available: number53(request, view, 24, "available ring address"),
    log: view.getBigUint64(32, true),
  };
}

/** Encodes "a vring address description". */
export function encodeVringAddress(
  address: VringAddress,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(40);
  const view = viewOf(bytes);
  view.setUint32(0, address.index, true);
  view.setUint32(4, address.flags, true);
  putNumber53(view, 8, address.descriptor);
  putNumber53(view, 16, address.used);
  putNumber53(view, 24, address.available);
  view.setBigUint64(32, address.log, true);
  return bytes;
}

/**
 * Decodes the payload of `SET_VRING_KICK`, `SET_VRING_CALL`, `SET_VRING_ERR`:
 * bits 0 to 7 are the index, bit 8 says that there is no descriptor, and all
 * others must be zero, so that a large index is never taken for a small one.
 */
export function decodeVringFd(request: number, payload: Uint8Array): VringFd {
  const value = decodeU64(request, payload);
  if (value > BigInt(VRING_INDEX_MASK | VRING_NOFD)) {
    throw new ProtocolError(
      "ring-index",
      request,
      `payload 0x${
        value.toString(16)
      } has bits beyond index and invalid-fd flag`,
    );
  }
  const low = Number(value);
  return { index: low & VRING_INDEX_MASK, noFd: (low & VRING_NOFD) !== 0 };
}

/** Encodes the payload of `SET_VRING_KICK` and its like. */
export function encodeVringFd(fd: VringFd): Uint8Array<ArrayBuffer> {
  return encodeU64(BigInt(fd.index | (fd.noFd ? VRING_NOFD : 0)));
}

const REGION_SIZE = 32;

function regionAt(
  request: number,
  view: DataView,
  offset: number,
): RegionDescription {
  return {
    guestAddress: number53(request, view, offset, "guest address"),
    size: number53(request, view, offset + 8, "region size"),
    userAddress: number53(request, view, offset + 16, "user address"),
    mmapOffset: number53(request, view, offset + 24, "mmap offset"),
  };
}

function putRegion(
  view: DataView,
  offset: number,
  region: RegionDescription,
): void {
  putNumber53(view, offset, region.guestAddress);
  putNumber53(view, offset + 8, region.size);
  putNumber53(view, offset + 16, region.userAddress);
  putNumber53(view, offset + 24, region.mmapOffset);
}

/** Decodes "memory regions description", the payload of `SET_MEM_TABLE`. */
export function decodeMemoryTable(
  request: number,
  payload: Uint8Array,
): RegionDescription[] {
  if (payload.length < 8) {
    throw new ProtocolError(
      "payload-size",
      request,
      `payload is ${payload.length} bytes, less than 8`,
    );
  }
  const view = viewOf(payload);
  const count = view.getUint32(0, true);
  checkSize(request, payload, 8 + count * REGION_SIZE);
  const regions: RegionDescription[] = [];
  for (let i = 0; i < count; i++) {
    regions.push(regionAt(request, view, 8 + i * REGION_SIZE));
  }
  return regions;
}

/** Encodes "memory regions description". */
export function encodeMemoryTable(
  regions: readonly RegionDescription[],
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + regions.length * REGION_SIZE);
  const view = viewOf(bytes);
  view.setUint32(0, regions.length, true);
  regions.forEach((region, i) => putRegion(view, 8 + i * REGION_SIZE, region));
  return bytes;
}

/** Decodes "single memory region description" (`ADD_MEM_REG`, `REM_MEM_REG`). */
export function decodeMemoryRegion(
  request: number,
  payload: Uint8Array,
): RegionDescription {
  checkSize(request, payload, 8 + REGION_SIZE);
  return regionAt(request, viewOf(payload), 8);
}

/** Encodes "single memory region description". */
export function encodeMemoryRegion(
  region: RegionDescription,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 + REGION_SIZE);
  putRegion(viewOf(bytes), 8, region);
  return bytes;
}

/**
 * Decodes "virtio device config space".
 *
 * The bytes follow the three fields; only a read (`dataOptional`) may leave
 * them out, since they carry nothing there.
 */
export function decodeConfig(
  request: number,
  payload: Uint8Array,
  dataOptional: boolean,
): ConfigAccess {
  if (payload.length < VHOST_USER_CONFIG_HEADER_SIZE) {
    throw new ProtocolError(
      "payload-size",
      request,
      `payload is ${payload.length} bytes, less than ${VHOST_USER_CONFIG_HEADER_SIZE}`,
    );
  }
  const view = viewOf(payload);
  const size = view.getUint32(4, true);
  if (!dataOptional || payload.length !== VHOST_USER_CONFIG_HEADER_SIZE) {
    checkSize(request, payload, VHOST_USER_CONFIG_HEADER_SIZE + size);
  }
  return {
    offset: view.getUint32(0, true),
    size,
    flags: view.getUint32(8, true),
    data: payload.subarray(VHOST_USER_CONFIG_HEADER_SIZE),
  };
}

/** Encodes "virtio device config space"; `size` is the length of `data`. */
export function encodeConfig(
  offset: number,
  flags: number,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(VHOST_USER_CONFIG_HEADER_SIZE + data.length);
  const view = viewOf(bytes);
  view.setUint32(0, offset, true);
  view.setUint32(4, data.length, true);
  view.setUint32(8, flags, true);
  bytes.set(data, VHOST_USER_CONFIG_HEADER_SIZE);
  return bytes;
}

/** Decodes "log description" (`SET_LOG_BASE`). */
export function decodeLog(
  request: number,
  payload: Uint8Array,
): LogDescription {
  checkSize(request, payload, 16);
  const view = viewOf(payload);
  return {
    mmapSize: number53(request, view, 0, "log size"),
    mmapOffset: number53(request, view, 8, "log offset"),
  };
}

/** Encodes "log description". */
export function encodeLog(
  description: LogDescription,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  const view = viewOf(bytes);
  putNumber53(view, 0, description.mmapSize);
  putNumber53(view, 8, description.mmapOffset);
  return bytes;
}

/** Fields of an inflight description, and with the padding that C gives it. */
const INFLIGHT_SIZE = 20, INFLIGHT_PADDED_SIZE = 24;

/**
 * Decodes "inflight description". Front-ends that send the structure as their
 * compiler lays it out have four bytes of padding behind it.
 */
export function decodeInflight(
  request: number,
  payload: Uint8Array,
): InflightDescription {
  if (payload.length !== INFLIGHT_PADDED_SIZE) {
    checkSize(request, payload, INFLIGHT_SIZE);
  }
  const view = viewOf(payload);
  return {
    mmapSize: number53(request, view, 0, "mmap size"),
    mmapOffset: number53(request, view, 8, "mmap offset"),
    queueCount: view.getUint16(16, true),
    queueSize: view.getUint16(18, true),
  };
}

/** Encodes "inflight description", with its padding unless `size` is 20. */
export function encodeInflight(
  description: InflightDescription,
  size: number = INFLIGHT_PADDED_SIZE,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  putNumber53(view, 0, description.mmapSize);
  putNumber53(view, 8, description.mmapOffset);
  view.setUint16(16, description.queueCount, true);
  view.setUint16(18, description.queueSize, true);
  return bytes;
}
