/**
 * Feature bits and offloads: what is offered, and what follows from what was
 * negotiated.
 *
 * @module
 */

import { featureMask, hasFeature } from "../../virtqueue/constants.ts";
import type { NetBackend } from "./backend.ts";
import type { ResolvedNetOptions } from "./options.ts";
import { NetFeature, Offload } from "./protocol.ts";

/** Offloads of frames that the guest sends, by feature. */
const HOST: readonly (readonly [number, number])[] = [
  [NetFeature.CSUM, Offload.CSUM],
  [NetFeature.HOST_TSO4, Offload.TSO4],
  [NetFeature.HOST_TSO6, Offload.TSO6],
  [NetFeature.HOST_ECN, Offload.ECN],
  [NetFeature.HOST_UFO, Offload.UFO],
];

/** Offloads of frames that the guest receives, by feature. */
const GUEST: readonly (readonly [number, number])[] = [
  [NetFeature.GUEST_CSUM, Offload.CSUM],
  [NetFeature.GUEST_TSO4, Offload.TSO4],
  [NetFeature.GUEST_TSO6, Offload.TSO6],
  [NetFeature.GUEST_ECN, Offload.ECN],
  [NetFeature.GUEST_UFO, Offload.UFO],
];

/** Without checksums there is no segmentation, without TSO no ECN. */
function consistent(offloads: number): number {
  if ((offloads & Offload.CSUM) === 0) return 0;
  return (offloads & (Offload.TSO4 | Offload.TSO6)) === 0
    ? offloads & ~Offload.ECN
    : offloads;
}

function wanted(csum: boolean, tso: boolean, ufo: boolean): number {
  return (csum ? Offload.CSUM : 0) |
    (tso ? Offload.TSO4 | Offload.TSO6 | Offload.ECN : 0) |
    (ufo ? Offload.UFO : 0);
}

function bitsOf(
  table: readonly (readonly [number, number])[],
  offloads: number,
): bigint {
  return featureMask(
    ...table.filter(([, offload]) => (offloads & offload) !== 0)
      .map(([feature]) => feature),
  );
}

/** The feature bits that a device with these options offers. */
export function offeredFeatures(
  options: ResolvedNetOptions,
  backend: NetBackend,
): bigint {
  const { csum, tso, ufo, guestCsum, guestTso, guestUfo } = options;
  // A checksum can always be filled in by us.
  const takes = (backend.takes | Offload.CSUM) & wanted(csum, tso, ufo);
  const gives = backend.gives & wanted(guestCsum, guestTso, guestUfo);
  let features = bitsOf(HOST, consistent(takes)) |
    bitsOf(GUEST, consistent(gives)) |
    featureMask(NetFeature.STATUS);
  if (options.mac !== null) features |= featureMask(NetFeature.MAC);
  if (options.mtu > 0) features |= featureMask(NetFeature.MTU);
  if (options.mrgRxbuf) features |= featureMask(NetFeature.MRG_RXBUF);
  if (options.speed > 0) features |= featureMask(NetFeature.SPEED_DUPLEX);
  if (!options.ctrlVq) return features;
  features |= featureMask(
    NetFeature.CTRL_VQ,
    NetFeature.CTRL_RX,
    NetFeature.CTRL_RX_EXTRA,
    NetFeature.CTRL_VLAN,
    NetFeature.CTRL_MAC_ADDR,
  );
  if (consistent(gives) !== 0) {
    features |= featureMask(NetFeature.CTRL_GUEST_OFFLOADS);
  }
  if (options.announce) features |= featureMask(NetFeature.GUEST_ANNOUNCE);
  if (options.queues > 1) features |= featureMask(NetFeature.MQ);
  return features;
}

/** What may be undone in frames that the guest sends. */
export function hostOffloads(features: bigint): number {
  let offloads = 0;
  for (const [feature, offload] of HOST) {
    if (hasFeature(features, feature)) offloads |= offload;
  }
  return consistent(offloads);
}

/** What may be undone in frames that the guest receives. */
export function guestOffloads(features: bigint): number {
  let offloads = 0;
  for (const [feature, offload] of GUEST) {
    if (hasFeature(features, feature)) offloads |= offload;
  }
  return consistent(offloads);
}

/** Names of the offloads in a set, for people. */
export function offloadNames(offloads: number): string[] {
  return Object.entries(Offload).filter(([, bit]) => (offloads & bit) !== 0)
    .map(([name]) => name.toLowerCase());
}
