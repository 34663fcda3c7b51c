/**
 * virtio_balloon(4) of four releases, as data: what differs between them.
 *
 * Source: freebsd-src, `sys/dev/virtio/balloon/virtio_balloon.c` and
 * `virtio_balloon.h`. The driver of 10.4 and 12.1 is one, that of 13.2 and 15.1
 * another: it knows VERSION_1, asks for MUST_TELL_HOST, and fails to attach when
 * its features are not taken.
 *
 * @module
 */

import { featureMask } from "../../../virtqueue/constants.ts";
import type { FeatureNames } from "../freebsd/features.ts";
import {
  FREEBSD_10_4,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_15_1,
  type FreeBsdRelease,
} from "../freebsd/releases.ts";

/** What a release of the driver does in its own way. */
export interface VtballoonProfile {
  /** The release. */
  readonly release: FreeBsdRelease;
  /** `vtballoon_feature_desc`. */
  readonly featureNames: FeatureNames;
  /** `VTBALLOON_FEATURES`. */
  readonly features: bigint;
}

const UNTIL_12 = {
  featureNames: { 0: "MustTellHost", 1: "StatsVq" },
  features: 0n,
} as const;

const SINCE_13 = {
  featureNames: { 0: "MustTellHost", 1: "StatsVq", 2: "DeflateOnOOM" },
  features: featureMask(0),
} as const;

/** virtio_balloon(4) of 10.4. */
export const VTBALLOON_10_4: VtballoonProfile = {
  release: FREEBSD_10_4,
  ...UNTIL_12,
};
/** virtio_balloon(4) of 12.1. */
export const VTBALLOON_12_1: VtballoonProfile = {
  release: FREEBSD_12_1,
  ...UNTIL_12,
};
/** virtio_balloon(4) of 13.2. */
export const VTBALLOON_13_2: VtballoonProfile = {
  release: FREEBSD_13_2,
  ...SINCE_13,
};
/** virtio_balloon(4) of 15.1. */
export const VTBALLOON_15_1: VtballoonProfile = {
  release: FREEBSD_15_1,
  ...SINCE_13,
};
