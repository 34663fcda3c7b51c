/**
 * Releases of FreeBSD, as far as all virtio drivers share what differs.
 *
 * @module
 */

import {
  COMMON_NAMES_10,
  COMMON_NAMES_13,
  type FeatureNames,
  type TransportFilter,
} from "./features.ts";

/** Facts of a release. */
export interface FreeBsdRelease {
  /** `uname -r`, up to the hyphen. */
  readonly name: string;
  /** `MAXPHYS`, since 13 `maxphys`, on amd64: bytes of the largest transfer. */
  readonly maxphys: number;
  /** There is a modern driver (`virtio_pci_modern.c`). */
  readonly modernPci: boolean;
  /**
   * The source files of the bus drivers: one until 12, then one for each
   * interface beside what they share.
   */
  readonly pciFiles: {
    readonly legacy: string;
    readonly modern?: string;
    readonly split: boolean;
  };
  /** `virtio_filter_transport_features`. */
  readonly transportFilter: TransportFilter;
  /** Names of features that all devices share. */
  readonly commonNames: FeatureNames;
  /** Highest physical address of a ring (`vtpci_alloc_virtqueues`). */
  readonly ringHighAddress: number;
  /** A device that lost its driver is told so again (`vtpci_child_detached`). */
  readonly acknowledgesAfterDetach: boolean;
}

const UNTIL_12 = {
  maxphys: 128 * 1024,
  modernPci: false,
  pciFiles: { legacy: "pci/virtio_pci.c", split: false },
  transportFilter: "10",
  commonNames: COMMON_NAMES_10,
  ringHighAddress: 0xffff_ffff,
  acknowledgesAfterDetach: false,
} as const;

const SINCE_13 = {
  maxphys: 1024 * 1024,
  modernPci: true,
  pciFiles: {
    legacy: "pci/virtio_pci_legacy.c",
    modern: "pci/virtio_pci_modern.c",
    split: true,
  },
  transportFilter: "13",
  commonNames: COMMON_NAMES_13,
  ringHighAddress: Infinity,
  acknowledgesAfterDetach: true,
} as const;

/** FreeBSD 9.3: its features are known, its drivers are not simulated. */
export const FREEBSD_9_3: FreeBsdRelease = { name: "9.3", ...UNTIL_12 };
/** FreeBSD 10.4. */
export const FREEBSD_10_4: FreeBsdRelease = { name: "10.4", ...UNTIL_12 };
/** FreeBSD 11.0: as 9.3. */
export const FREEBSD_11_0: FreeBsdRelease = { name: "11.0", ...UNTIL_12 };
/** FreeBSD 12.1. */
export const FREEBSD_12_1: FreeBsdRelease = { name: "12.1", ...UNTIL_12 };
/** FreeBSD 13.2. */
export const FREEBSD_13_2: FreeBsdRelease = { name: "13.2", ...SINCE_13 };
/** FreeBSD 14: what 13.2 and 15.1, before and after it, have in common. */
export const FREEBSD_14: FreeBsdRelease = { name: "14", ...SINCE_13 };
/** FreeBSD 15.1. */
export const FREEBSD_15_1: FreeBsdRelease = { name: "15.1", ...SINCE_13 };
