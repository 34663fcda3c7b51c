/**
 * What the front-end for tests negotiates.
 *
 * @module
 */

import {
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
} from "../../virtqueue/constants.ts";

/** What `FrontEnd.handshake` negotiates. */
export interface HandshakeOptions {
  /** Virtio features to accept of those offered. Default: all. */
  readonly features?: bigint;
  /** Accept `VIRTIO_F_RING_PACKED` too (default false: drivers are of split rings). */
  readonly packed?: boolean;
  /** Accept `VIRTIO_F_IN_ORDER` too (default false). */
  readonly inOrder?: boolean;
  /** Protocol features to accept of those offered. Default: all. */
  readonly protocolFeatures?: bigint;
}

/** The features to acknowledge of those offered. */
export function acceptedFeatures(
  offered: bigint,
  { features = offered, packed, inOrder }: HandshakeOptions,
): bigint {
  let accepted = offered & features;
  if (!packed) accepted &= ~(1n << BigInt(VIRTIO_F_RING_PACKED));
  if (!inOrder) accepted &= ~(1n << BigInt(VIRTIO_F_IN_ORDER));
  return accepted;
}

/** Where a ring begins after a reset: in a packed one both wrap counters are 1. */
export function firstPosition(features: bigint): number {
  return hasFeature(features, VIRTIO_F_RING_PACKED) ? 0x8000_8000 : 0;
}
