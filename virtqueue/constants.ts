/**
 * Numbers of the virtio specification that every layer above the ring shares.
 *
 * Source: virtio 1.4, sections 2.1 (device status field), 2.7 (split
 * virtqueues), 5 (device types) and 6 (reserved feature bits).
 *
 * @module
 */

/** The chain goes on at `next`. Source: virtio 1.4, section 2.7.5. */
export const VIRTQ_DESC_F_NEXT = 1;
/** The buffer is device-writable (otherwise device-readable). */
export const VIRTQ_DESC_F_WRITE = 2;
/** The buffer holds a table of descriptors. Source: section 2.7.5.3. */
export const VIRTQ_DESC_F_INDIRECT = 4;
/** Size of one split-ring descriptor in bytes. */
export const VIRTQ_DESC_SIZE = 16;
/** The driver wants no used-buffer notifications. Source: section 2.7.6. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** The device wants no available-buffer notifications. Source: section 2.7.8. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/**
 * Marks a descriptor of a packed ring available or used, together with the
 * ring wrap counters. Source: virtio 1.4, section 2.8.1.
 */
export const VIRTQ_DESC_F_AVAIL: number = 1 << 7;
/** See {@linkcode VIRTQ_DESC_F_AVAIL}. */
export const VIRTQ_DESC_F_USED: number = 1 << 15;
/** Packed rings: every step is an event. Source: virtio 1.4, section 2.8.10. */
export const RING_EVENT_FLAGS_ENABLE = 0;
/** Packed rings: no step is an event. */
export const RING_EVENT_FLAGS_DISABLE = 1;
/** Packed rings: passing one descriptor is an event (with EVENT_IDX). */
export const RING_EVENT_FLAGS_DESC = 2;

/** Largest queue size in entries. Source: virtio 1.4, section 2.7. */
export const VIRTQ_MAX_SIZE = 32768;

/** Feature bit: notify when the ring runs empty (legacy; never offered). */
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
/** Feature bit: any descriptor layout is accepted (legacy). */
export const VIRTIO_F_ANY_LAYOUT = 27;
/** Feature bit: indirect descriptors. Source: virtio 1.4, section 6. */
export const VIRTIO_F_INDIRECT_DESC = 28;
/** Feature bit: `used_event` and `avail_event`. */
export const VIRTIO_F_EVENT_IDX = 29;
/** Feature bit: compliance with virtio 1.0 or later (absent: legacy driver). */
export const VIRTIO_F_VERSION_1 = 32;
/** Feature bit: the device's access to memory is limited or translated. */
export const VIRTIO_F_ACCESS_PLATFORM = 33;
/** Feature bit: packed virtqueue layout. */
export const VIRTIO_F_RING_PACKED = 34;
/** Feature bit: buffers are used in the order they were made available. */
export const VIRTIO_F_IN_ORDER = 35;
/** Feature bit: memory accesses are ordered as the platform orders them. */
export const VIRTIO_F_ORDER_PLATFORM = 36;
/** Feature bit: single-root I/O virtualisation. */
export const VIRTIO_F_SR_IOV = 37;
/** Feature bit: notifications carry extra data. */
export const VIRTIO_F_NOTIFICATION_DATA = 38;
/** Feature bit: notification data comes from the configuration. */
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
/** Feature bit: one queue can be reset by itself. */
export const VIRTIO_F_RING_RESET = 40;

/** Status bit: the guest has noticed the device. Source: virtio 1.4, section 2.1. */
export const VIRTIO_STATUS_ACKNOWLEDGE = 1;
/** Status bit: the guest has a driver for the device. */
export const VIRTIO_STATUS_DRIVER = 2;
/** Status bit: the driver drives the device. */
export const VIRTIO_STATUS_DRIVER_OK = 4;
/** Status bit: the features are settled. */
export const VIRTIO_STATUS_FEATURES_OK = 8;
/** Status bit: the device is broken until it is reset. */
export const VIRTIO_STATUS_DEVICE_NEEDS_RESET = 64;
/** Status bit: the driver gave up. */
export const VIRTIO_STATUS_FAILED = 128;

/** Device ID: network card. Source: virtio 1.4, section 5. */
export const VIRTIO_ID_NET = 1;
/** Device ID: block device. */
export const VIRTIO_ID_BLOCK = 2;
/** Device ID: entropy source. */
export const VIRTIO_ID_ENTROPY = 4;
/** Device ID: traditional memory balloon. */
export const VIRTIO_ID_BALLOON = 5;
/** Device ID: SCSI host bus adapter. */
export const VIRTIO_ID_SCSI = 8;

/**
 * Builds a feature mask from bit numbers.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { featureMask, VIRTIO_F_VERSION_1 } from "./constants.ts";
 *
 * assertEquals(featureMask(0, VIRTIO_F_VERSION_1), 0x1_0000_0001n);
 * ```
 */
export function featureMask(...bits: readonly number[]): bigint {
  let mask = 0n;
  for (const bit of bits) mask |= 1n << BigInt(bit);
  return mask;
}

/** Tells whether a feature mask has a bit. */
export function hasFeature(features: bigint, bit: number): boolean {
  return ((features >> BigInt(bit)) & 1n) === 1n;
}
