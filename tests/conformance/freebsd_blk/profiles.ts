/**
 * virtio_blk(4) of four releases, as data: what differs between them, and how
 * each introduces itself in a verbose boot.
 *
 * Source: freebsd-src, `sys/dev/virtio/block/virtio_blk.c` and `virtio_blk.h`
 * of the branches releng/10.4, releng/12.1, releng/13.2 and releng/15.1.
 *
 * @module
 */

import {
  featureMask,
  VIRTIO_F_INDIRECT_DESC,
} from "../../../virtqueue/constants.ts";
import type { FeatureNames } from "../freebsd/features.ts";
import {
  FREEBSD_10_4,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_15_1,
  type FreeBsdRelease,
} from "../freebsd/releases.ts";

/** Feature bits that the driver knows, by number. */
export const BlkFeature = {
  BARRIER: 0,
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  DISCARD: 13,
} as const;

/**
 * A read of the configuration space: only when the feature was negotiated,
 * always when there is none.
 */
export interface ConfigRead {
  readonly feature: number | null;
  readonly offset: number;
  readonly length: number;
}

/** Where a request's parts lie in `struct vtblk_request`, in bytes. */
export interface RequestLayout {
  readonly size: number;
  /** `vbr_hdr`, 16 bytes. */
  readonly header: number;
  /** `vbr_ack`. */
  readonly ack: number;
}

/** What a release of the driver does in its own way. */
export interface VtblkProfile {
  /** The release. */
  readonly release: FreeBsdRelease;
  /** `vtblk_feature_desc`. */
  readonly featureNames: FeatureNames;
  /** `VTBLK_FEATURES`; since 13 `VTBLK_LEGACY_FEATURES`. */
  readonly legacyFeatures: bigint;
  /** `VTBLK_MODERN_FEATURES`. */
  readonly modernFeatures: bigint;
  /** `vtblk_read_config`, in order. */
  readonly configReads: readonly ConfigRead[];
  /**
   * When the identification string is asked for: at the end of
   * `vtblk_attach`, before DRIVER_OK and with interrupts off, or from
   * `vtblk_attach_completed`, after it.
   */
  readonly identify: "attach" | "attach-completed";
  /**
   * A read-only disk: the driver fails writes and flushes
   * (`VTBLK_FLAG_READONLY`), or GEOM does (`DISKFLAG_WRITE_PROTECT`).
   */
  readonly readOnly: "driver" | "geom";
  /** Flushes are offered to GEOM always, or where the device has them. */
  readonly flush: "always" | "negotiated";
  /** `BIO_DELETE` is known. */
  readonly discard: boolean;
  /** `struct vtblk_request`. */
  readonly request: RequestLayout;
}

const NAMES_10: FeatureNames = {
  0: "HostBarrier",
  1: "MaxSegSize",
  2: "MaxNumSegs",
  4: "DiskGeometry",
  5: "ReadOnly",
  6: "BlockSize",
  7: "SCSICmds",
  9: "WriteCache",
  10: "Topology",
  11: "ConfigWCE",
};

const NAMES_13: FeatureNames = {
  ...NAMES_10,
  9: "FlushCmd",
  12: "Multiqueue",
  13: "Discard",
  14: "WriteZeros",
};

const FEATURES_10 = featureMask(
  BlkFeature.SIZE_MAX,
  BlkFeature.SEG_MAX,
  BlkFeature.GEOMETRY,
  BlkFeature.RO,
  BlkFeature.BLK_SIZE,
  BlkFeature.FLUSH,
  BlkFeature.TOPOLOGY,
  BlkFeature.CONFIG_WCE,
  VIRTIO_F_INDIRECT_DESC,
);
const FEATURES_13 = FEATURES_10 | featureMask(BlkFeature.DISCARD);
const BARRIER = featureMask(BlkFeature.BARRIER);

const CONFIG_COMMON: readonly ConfigRead[] = [
  { feature: null, offset: 0, length: 8 },
  { feature: BlkFeature.SIZE_MAX, offset: 8, length: 4 },
  { feature: BlkFeature.SEG_MAX, offset: 12, length: 4 },
];

/** Structures are read whole. */
const CONFIG_10: readonly ConfigRead[] = [
  ...CONFIG_COMMON,
  { feature: BlkFeature.GEOMETRY, offset: 16, length: 4 },
  { feature: BlkFeature.BLK_SIZE, offset: 20, length: 4 },
  { feature: BlkFeature.TOPOLOGY, offset: 24, length: 8 },
  { feature: BlkFeature.CONFIG_WCE, offset: 32, length: 1 },
];

/** Structures are read field by field. */
const CONFIG_13: readonly ConfigRead[] = [
  ...CONFIG_COMMON,
  { feature: BlkFeature.GEOMETRY, offset: 16, length: 2 },
  { feature: BlkFeature.GEOMETRY, offset: 18, length: 1 },
  { feature: BlkFeature.GEOMETRY, offset: 19, length: 1 },
  { feature: BlkFeature.BLK_SIZE, offset: 20, length: 4 },
  { feature: BlkFeature.TOPOLOGY, offset: 24, length: 1 },
  { feature: BlkFeature.TOPOLOGY, offset: 25, length: 1 },
  { feature: BlkFeature.TOPOLOGY, offset: 26, length: 2 },
  { feature: BlkFeature.TOPOLOGY, offset: 28, length: 4 },
  { feature: BlkFeature.CONFIG_WCE, offset: 32, length: 1 },
  { feature: BlkFeature.DISCARD, offset: 36, length: 4 },
  { feature: BlkFeature.DISCARD, offset: 40, length: 4 },
  { feature: BlkFeature.DISCARD, offset: 44, length: 4 },
];

const UNTIL_12 = {
  featureNames: NAMES_10,
  legacyFeatures: FEATURES_10 | BARRIER,
  modernFeatures: 0n,
  configReads: CONFIG_10,
  identify: "attach",
  readOnly: "driver",
  flush: "always",
  discard: false,
  request: { size: 48, header: 0, ack: 24 },
} as const;

const SINCE_13 = {
  featureNames: NAMES_13,
  legacyFeatures: FEATURES_13 | BARRIER,
  modernFeatures: FEATURES_13,
  configReads: CONFIG_13,
  identify: "attach-completed",
  readOnly: "geom",
  flush: "negotiated",
  discard: true,
} as const;

/** virtio_blk(4) of 10.4. */
export const VTBLK_10_4: VtblkProfile = { release: FREEBSD_10_4, ...UNTIL_12 };
/** virtio_blk(4) of 12.1. */
export const VTBLK_12_1: VtblkProfile = { release: FREEBSD_12_1, ...UNTIL_12 };
/** virtio_blk(4) of 13.2. */
export const VTBLK_13_2: VtblkProfile = {
  release: FREEBSD_13_2,
  ...SINCE_13,
  request: { size: 48, header: 0, ack: 24 },
};
/** virtio_blk(4) of 15.1: requests go through bus_dma(9). */
export const VTBLK_15_1: VtblkProfile = {
  release: FREEBSD_15_1,
  ...SINCE_13,
  request: { size: 72, header: 16, ack: 40 },
};
