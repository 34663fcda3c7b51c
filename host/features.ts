/**
 * Names of virtio feature bits, for people.
 *
 * @module
 */

import { VHOST_USER_F_PROTOCOL_FEATURES } from "../vhost/constants.ts";
import { deviceType } from "./device_types.ts";

/** Bits that mean the same for every device. Source: virtio 1.4, section 6. */
const TRANSPORT_FEATURES: ReadonlyMap<number, string> = new Map([
  [24, "NOTIFY_ON_EMPTY"],
  [26, "LOG_ALL"],
  [27, "ANY_LAYOUT"],
  [28, "INDIRECT_DESC"],
  [29, "EVENT_IDX"],
  [VHOST_USER_F_PROTOCOL_FEATURES, "PROTOCOL_FEATURES"],
  [32, "VERSION_1"],
  [33, "ACCESS_PLATFORM"],
  [34, "RING_PACKED"],
  [35, "IN_ORDER"],
  [36, "ORDER_PLATFORM"],
  [37, "SR_IOV"],
  [38, "NOTIFICATION_DATA"],
  [39, "NOTIF_CONFIG_DATA"],
  [40, "RING_RESET"],
  [41, "ADMIN_VQ"],
  [43, "SUSPEND"],
]);

/**
 * The features of a mask by their names in the specification, without prefix;
 * a bit without a name is `bit N`.
 *
 * @param type type of the device, which names bits 0 to 23, 41, 42 and from 50 on
 *
 * @example Usage
 * ```ts
 * import { featureNames } from "./features.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(featureNames("blk", 0x1_0000_0204n), ["SEG_MAX", "FLUSH", "VERSION_1"]);
 * ```
 */
export function featureNames(type: string, features: bigint): string[] {
  const own = deviceType(type)?.features;
  const names: string[] = [];
  for (let bit = 0; features >> BigInt(bit) !== 0n; bit++) {
    if (((features >> BigInt(bit)) & 1n) === 0n) continue;
    const name = own?.get(bit) ?? TRANSPORT_FEATURES.get(bit);
    names.push(name ?? `bit ${bit}`);
  }
  return names;
}
