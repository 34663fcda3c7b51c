/**
 * Feature negotiation as FreeBSD does it and prints it.
 *
 * Source: `sys/dev/virtio/virtio.c`, `virtio_describe` and
 * `virtio_filter_transport_features` (before 13: `virtqueue_filter_features`
 * in `virtqueue.c`).
 *
 * @module
 */

import {
  featureMask,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";

/** Names of feature bits. */
export type FeatureNames = Readonly<Record<number, string>>;

/** Bit 30 is never shown: `VIRTIO_F_BAD_FEATURE`. */
const HIDDEN_BIT = 30;

/** `virtio_common_feature_desc` before 13. */
export const COMMON_NAMES_10: FeatureNames = {
  24: "NotifyOnEmpty",
  28: "RingIndirect",
  29: "EventIdx",
};

/** `virtio_common_feature_desc` since 13. */
export const COMMON_NAMES_13: FeatureNames = {
  24: "NotifyOnEmpty",
  27: "AnyLayout",
  28: "RingIndirectDesc",
  29: "RingEventIdx",
  32: "Version1",
  33: "IOMMUPlatform",
};

/**
 * What is left of features that host and driver share: transport features are
 * dropped, but for the few that the virtqueue driver knows.
 */
export type TransportFilter = "10" | "13";

const RING_FEATURES = featureMask(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX);
/** `VIRTIO_TRANSPORT_F_START` to `_END`: 28 to 37 since 13. */
const TRANSPORT_13 = ((1n << 10n) - 1n) << 28n;

/** `virtio_filter_transport_features`. */
export function filterTransportFeatures(
  features: bigint,
  filter: TransportFilter,
): bigint {
  const mask = filter === "10"
    ? (1n << 28n) - 1n | RING_FEATURES
    : ~TRANSPORT_13 | RING_FEATURES | featureMask(VIRTIO_F_VERSION_1);
  return features & mask;
}

/**
 * `virtio_describe`: the line that a verbose boot shows.
 *
 * @param names the driver's names; they go before the common ones
 */
export function describeFeatures(
  message: string,
  features: bigint,
  names: FeatureNames,
  common: FeatureNames,
): string {
  const words: string[] = [];
  for (let bit = 63; bit >= 0; bit--) {
    const value = 1n << BigInt(bit);
    if ((features & value) === 0n || bit === HIDDEN_BIT) continue;
    words.push(names[bit] ?? common[bit] ?? hex(value));
  }
  const list = words.length > 0 ? ` <${words.join(",")}>` : "";
  return `${message} features: ${hex(features)}${list}`;
}

/** `%#jx`. */
function hex(value: bigint): string {
  return value === 0n ? "0" : `0x${value.toString(16)}`;
}
