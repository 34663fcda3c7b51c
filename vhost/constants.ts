/**
 * Numbers of the vhost-user protocol: messages, flags, feature bits, limits.
 *
 * Source: QEMU's `docs/interop/vhost-user.rst`, whose names are kept.
 *
 * @module
 */

/** Messages that a front-end sends, by name without `VHOST_USER_`. */
export const FrontEndMessage = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  IOTLB_MSG: 22,
  SET_VRING_ENDIAN: 23,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  CREATE_CRYPTO_SESSION: 26,
  CLOSE_CRYPTO_SESSION: 27,
  POSTCOPY_ADVISE: 28,
  POSTCOPY_LISTEN: 29,
  POSTCOPY_END: 30,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GPU_SET_SOCKET: 33,
  RESET_DEVICE: 34,
  VRING_KICK: 35,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  GET_SHARED_OBJECT: 41,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
  GET_SHMEM_CONFIG: 44,
  GET_VRING_BASE_SKIP_DRAIN: 45,
} as const;

/** Messages that a back-end sends, by name without `VHOST_USER_BACKEND_`. */
export const BackEndMessage = {
  IOTLB_MSG: 1,
  CONFIG_CHANGE_MSG: 2,
  VRING_HOST_NOTIFIER_MSG: 3,
  VRING_CALL: 4,
  VRING_ERR: 5,
  SHARED_OBJECT_ADD: 6,
  SHARED_OBJECT_REMOVE: 7,
  SHARED_OBJECT_LOOKUP: 8,
  SHMEM_MAP: 9,
  SHMEM_UNMAP: 10,
} as const;

/** Bit numbers of the protocol features, without `VHOST_USER_PROTOCOL_F_`. */
export const ProtocolFeature = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  NET_MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
  XEN_MMAP: 17,
  SHARED_OBJECT: 18,
  DEVICE_STATE: 19,
  GET_VRING_BASE_INFLIGHT: 20,
  GPA_ADDRESSES: 21,
  SHMEM: 22,
  GET_VRING_BASE_SKIP_DRAIN: 23,
} as const;

/** Bit of the virtio features by which a front-end has writes logged. */
export const VHOST_F_LOG_ALL = 26;
/** Bit of the flags of `SET_VRING_ADDR`: writes to the used ring are logged. */
export const VHOST_VRING_F_LOG = 0;
/** Bit of the virtio features that announces protocol features. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;

/** Protocol version in the two low bits of the header flags. */
export const VHOST_USER_VERSION = 1;
/** Mask of the version in the header flags. */
export const VHOST_USER_VERSION_MASK = 3;
/** Header flag of every reply. */
export const VHOST_USER_REPLY = 1 << 2;
/** Header flag that asks for a reply, valid with `REPLY_ACK`. */
export const VHOST_USER_NEED_REPLY = 1 << 3;

/** Size of a message header in bytes. */
export const VHOST_USER_HEADER_SIZE = 12;
/** Size in bytes of offset, size and flags before the bytes of a config message. */
export const VHOST_USER_CONFIG_HEADER_SIZE = 12;
/** Largest device configuration space in bytes. */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
/** Most descriptors that one message can carry (`SCM_MAX_FD` of Linux). */
export const MAX_FDS = 253;
/** Largest payload in bytes: a memory table with a descriptor for each region. */
export const MAX_PAYLOAD_SIZE: number = 8 + MAX_FDS * 32;
/** Memory slots offered; QEMU never plugs more than 512 on x86. */
export const MAX_MEMORY_SLOTS = 512;
/** Queues that `SET_VRING_KICK` and its like can name (8 bits of index). */
export const MAX_QUEUES = 256;
/** Largest ring. Source: virtio 1.4, sections 2.7 and 2.8. */
export const MAX_RING_SIZE = 32768;
/** Index part of the payload of `SET_VRING_KICK`, `SET_VRING_CALL`, `SET_VRING_ERR`. */
export const VRING_INDEX_MASK = 0xff;
/** Flag in that payload: no descriptor comes with the message. */
export const VRING_NOFD = 1 << 8;

/** Protocol features that a session serves, as a mask. */
export const SERVED_PROTOCOL_FEATURES: bigint = mask([
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CONFIG,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
  ProtocolFeature.GET_VRING_BASE_INFLIGHT,
]);

/** Protocol features that a session serves for network devices alone, as a mask. */
export const SERVED_NET_FEATURES: bigint = mask([
  ProtocolFeature.RARP,
  ProtocolFeature.NET_MTU,
]);

/** Virtio device ID of network devices. */
export const VIRTIO_ID_NET = 1;

function mask(bits: readonly number[]): bigint {
  return bits.reduce((all, bit) => all | 1n << BigInt(bit), 0n);
}

const messageNames: ReadonlyMap<number, string> = new Map(
  Object.entries(FrontEndMessage).map(([name, n]) => [n, `VHOST_USER_${name}`]),
);

/**
 * Name of a front-end message.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { messageName } from "./constants.ts";
 *
 * assertEquals(messageName(1), "VHOST_USER_GET_FEATURES");
 * assertEquals(messageName(99), "vhost-user message 99");
 * ```
 */
export function messageName(request: number): string {
  return messageNames.get(request) ?? `vhost-user message ${request}`;
}

/**
 * The bits that are set in a feature mask, as people write them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { describeBits } from "./constants.ts";
 *
 * assertEquals(describeBits(1n << 3n | 1n << 34n), "3, 34");
 * ```
 */
export function describeBits(mask: bigint): string {
  const bits: number[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (mask >> BigInt(bit) & 1n) bits.push(bit);
  }
  return bits.join(", ");
}

const protocolFeatureNames: ReadonlyMap<number, string> = new Map(
  Object.entries(ProtocolFeature).map(([name, bit]) => [bit, name]),
);

/** Names of the protocol features in a mask; unknown ones as `bit N`. */
export function protocolFeatureList(mask: bigint): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (mask >> BigInt(bit) & 1n) {
      names.push(protocolFeatureNames.get(bit) ?? `bit ${bit}`);
    }
  }
  return names;
}
