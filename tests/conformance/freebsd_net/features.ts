/**
 * Feature bits of vtnet(4).
 *
 * Source: `sys/dev/virtio/network/if_vtnet.c` (`vtnet_feature_desc`) and
 * `if_vtnetvar.h` (`VTNET_COMMON_FEATURES`), of the same four releases as the
 * other drivers, and of 9.3 and 11.0, which are as 10.4 and 12.1.
 *
 * @module
 */

import {
  featureMask,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
} from "../../../virtqueue/constants.ts";
import type { FeatureNames } from "../freebsd/features.ts";

/** Feature bits that the driver knows, by number. */
export const NetBit = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  SPEED_DUPLEX: 63,
} as const;

/** `VTNET_MODERN_FEATURES`, since 13. */
const VTNET_FEATURES: bigint = featureMask(
  ...Object.values(NetBit),
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
);

/** Those that came with 13. */
const SINCE_13: bigint = featureMask(
  NetBit.CTRL_GUEST_OFFLOADS,
  NetBit.MTU,
  NetBit.SPEED_DUPLEX,
);
const GSO = 6;

/** `VTNET_LEGACY_FEATURES`, since 13: an old bit for all of TSO, too. */
const VTNET_LEGACY_FEATURES: bigint = VTNET_FEATURES | featureMask(GSO);

/** `VTNET_FEATURES` until 12. */
const VTNET_FEATURES_UNTIL_12: bigint = VTNET_LEGACY_FEATURES &
  ~SINCE_13;

/** `vtnet_feature_desc` until 12. */
const FEATURE_NAMES_UNTIL_12: FeatureNames = {
  0: "TxChecksum",
  1: "RxChecksum",
  5: "MacAddress",
  6: "TxAllGSO",
  7: "RxTSOv4",
  8: "RxTSOv6",
  9: "RxECN",
  10: "RxUFO",
  11: "TxTSOv4",
  12: "TxTSOv6",
  13: "TxTSOECN",
  14: "TxUFO",
  15: "MrgRxBuf",
  16: "Status",
  17: "ControlVq",
  18: "RxMode",
  19: "VLanFilter",
  20: "RxModeExtra",
  21: "GuestAnnounce",
  22: "Multiqueue",
  23: "SetMacAddress",
};

/** `vtnet_feature_desc` since 13. */
const FEATURE_NAMES: FeatureNames = {
  0: "TxChecksum",
  1: "RxChecksum",
  2: "CtrlRxOffloads",
  5: "MAC",
  6: "TxGSO",
  7: "RxLROv4",
  8: "RxLROv6",
  9: "RxLROECN",
  10: "RxUFO",
  11: "TxTSOv4",
  12: "TxTSOv6",
  13: "TxTSOECN",
  14: "TxUFO",
  15: "MrgRxBuf",
  16: "Status",
  17: "CtrlVq",
  18: "CtrlRxMode",
  19: "CtrlVLANFilter",
  20: "CtrlRxModeExtra",
  21: "GuestAnnounce",
  22: "Multiqueue",
  23: "CtrlMacAddr",
  63: "SpeedDuplex",
};

/** What vtnet(4) of a generation asks for, and what it calls its features. */
export interface VtnetProfile {
  readonly legacy: bigint;
  readonly modern: bigint;
  readonly names: FeatureNames;
}

/** @param modernPci since 13 */
export function vtnetProfile(modernPci: boolean): VtnetProfile {
  return modernPci
    ? {
      legacy: VTNET_LEGACY_FEATURES,
      modern: VTNET_FEATURES,
      names: FEATURE_NAMES,
    }
    : {
      legacy: VTNET_FEATURES_UNTIL_12,
      modern: 0n,
      names: FEATURE_NAMES_UNTIL_12,
    };
}
