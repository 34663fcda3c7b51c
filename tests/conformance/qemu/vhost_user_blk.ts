/**
 * QEMU's `vhost-user-blk-pci`, as data.
 *
 * Source: `hw/block/vhost-user-blk.c`.
 *
 * @module
 */

import { featureMask } from "../../../virtqueue/constants.ts";
import type { VhostUserModel } from "./vhost_user_pci.ts";

const SIZE_MAX = 1, SEG_MAX = 2, GEOMETRY = 4, RO = 5, BLK_SIZE = 6, FLUSH = 9;
const TOPOLOGY = 10, CONFIG_WCE = 11, MQ = 12, DISCARD = 13, WRITE_ZEROES = 14;

/** Offset of `capacity`, 8 bytes, and of `wce`, one byte. */
const CAPACITY = 0, WCE = 32;

/** Device features; the back-end decides about every one of them. */
const FEATURES = featureMask(
  SIZE_MAX,
  SEG_MAX,
  GEOMETRY,
  RO,
  BLK_SIZE,
  FLUSH,
  TOPOLOGY,
  CONFIG_WCE,
  DISCARD,
  WRITE_ZEROES,
);

/**
 * The device with one queue, as it is without options. The configuration is
 * read up to `write_zeroes_may_unmap`; of a change, only the capacity counts
 * (`vhost_user_blk_handle_config_change`); of a write, only the cache mode
 * (`vhost_user_blk_set_config`).
 */
export const VHOST_USER_BLK: VhostUserModel = {
  name: "vhost-user-blk",
  queues: 1,
  queueSize: 128,
  configSize: 57,
  features: FEATURES,
  backendBits: FEATURES | featureMask(MQ),
  configChanged(own, changed) {
    const capacity = changed.subarray(CAPACITY, CAPACITY + 8);
    if (capacity.every((byte, i) => byte === own[CAPACITY + i])) return false;
    own.set(capacity, CAPACITY);
    return true;
  },
  configWritten(before, after) {
    return before[WCE] === after[WCE] ? null : { offset: WCE, length: 1 };
  },
};
