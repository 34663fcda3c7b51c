/**
 * The virtio drivers of FreeBSD in one place: what each of each release asks
 * for, what it is offered, and so what it negotiates.
 *
 * The profiles are data of the models beside this file, which are driven step by
 * step. 9.3, 11.0 and 14 are here alone: what they ask for is that of their
 * generation, but for TOPOLOGY. docs/freebsd.md has the table that is made of it.
 *
 * @module
 */

import { featureMask } from "../../virtqueue/constants.ts";
import {
  type FeatureNames,
  filterTransportFeatures,
} from "./freebsd/features.ts";
import {
  FREEBSD_10_4,
  FREEBSD_11_0,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_14,
  FREEBSD_15_1,
  FREEBSD_9_3,
  type FreeBsdRelease,
} from "./freebsd/releases.ts";
import { VTBALLOON_12_1, VTBALLOON_13_2 } from "./freebsd_balloon/profiles.ts";
import { BlkFeature, VTBLK_12_1, VTBLK_13_2 } from "./freebsd_blk/profiles.ts";
import { vtnetProfile } from "./freebsd_net/features.ts";
import { VTSCSI_FEATURES } from "./freebsd_scsi/driver.ts";

/** A driver of a release. */
export interface DriverProfile {
  /** Its page of the manual. */
  readonly driver: "virtio_blk" | "vtnet" | "virtio_scsi" | "virtio_balloon";
  readonly release: FreeBsdRelease;
  /** What it asks a legacy device for, and a modern one. */
  readonly asks: { readonly legacy: bigint; readonly modern: bigint };
  /** What it calls its own features. */
  readonly names: FeatureNames;
}

const RELEASES = [
  FREEBSD_9_3,
  FREEBSD_10_4,
  FREEBSD_11_0,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_14,
  FREEBSD_15_1,
];

const SCSI_NAMES: FeatureNames = {
  0: "InOut",
  1: "Hotplug",
  2: "ChangeEvent",
  3: "T10PI",
};

/** `VTBLK_FEATURES` of 9.3 knows the name of TOPOLOGY, and does not ask for it. */
const VTBLK_9_3 = VTBLK_12_1.legacyFeatures & ~featureMask(BlkFeature.TOPOLOGY);

/** All drivers of all releases, of which there are two generations. */
export const DRIVERS: readonly DriverProfile[] = [
  ...RELEASES.map((release) => {
    const { legacyFeatures, modernFeatures, featureNames } = release.modernPci
      ? VTBLK_13_2
      : VTBLK_12_1;
    return {
      driver: "virtio_blk" as const,
      release,
      asks: {
        legacy: release === FREEBSD_9_3 ? VTBLK_9_3 : legacyFeatures,
        modern: modernFeatures,
      },
      names: featureNames,
    };
  }),
  ...RELEASES.map((release) => {
    const { names, ...asks } = vtnetProfile(release.modernPci);
    return { driver: "vtnet" as const, release, asks, names };
  }),
  ...RELEASES.map((release) => ({
    driver: "virtio_scsi" as const,
    release,
    asks: { legacy: VTSCSI_FEATURES, modern: VTSCSI_FEATURES },
    names: SCSI_NAMES,
  })),
  ...RELEASES.map((release) => {
    const { features, featureNames } = release.modernPci
      ? VTBALLOON_13_2
      : VTBALLOON_12_1;
    return {
      driver: "virtio_balloon" as const,
      release,
      asks: { legacy: features, modern: features },
      names: featureNames,
    };
  }),
];

/** INDIRECT_DESC and EVENT_IDX, which every device has. */
const RING = featureMask(28, 29);
const VERSION_1 = featureMask(32);

/**
 * What QEMU offers a guest with a device that vhostd serves by its defaults, one
 * queue or pair of queues.
 */
export const OFFERED: Readonly<Record<DriverProfile["driver"], bigint>> = {
  virtio_blk: RING | featureMask(2, 4, 6, 9, 10, 11, 13, 14),
  vtnet: RING |
    featureMask(0, 1, 2, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19) |
    featureMask(20, 21, 23),
  virtio_scsi: RING | featureMask(1, 2),
  virtio_balloon: RING | featureMask(0, 1, 2, 4, 5),
};

/** What the driver negotiates; `null` where it does not drive such a device. */
export function negotiated(
  { driver, release, asks }: DriverProfile,
  mode: "legacy" | "modern",
): bigint | null {
  if (mode === "modern" && !release.modernPci) return null;
  // QEMU's device for the balloon has no legacy interface.
  if (mode === "legacy" && driver === "virtio_balloon") return null;
  const version = mode === "modern" ? VERSION_1 : 0n;
  return filterTransportFeatures(
    (asks[mode] | version) & (OFFERED[driver] | version),
    release.transportFilter,
  );
}

/** The names of features, lowest bit first. */
function nameList(features: bigint, profile: DriverProfile): string {
  const { names, release } = profile;
  const words: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((features & 1n << BigInt(bit)) === 0n) continue;
    words.push(names[bit] ?? release.commonNames[bit] ?? `bit ${bit}`);
  }
  return words.join(", ");
}

/** The lines of the table in docs/freebsd.md, cells by line. */
export function driverTable(): string[][] {
  return DRIVERS.flatMap((profile) =>
    (["legacy", "modern"] as const).flatMap((mode) => {
      const features = negotiated(profile, mode);
      if (features === null) return [];
      return [[
        `${profile.driver}(4)`,
        profile.release.name,
        mode,
        features === 0n ? "0" : `0x${features.toString(16)}`,
        nameList(features, profile) || "none",
      ]];
    })
  );
}
