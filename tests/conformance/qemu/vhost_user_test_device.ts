/**
 * QEMU's `vhost-user-test-device-pci` with the properties of a balloon, as data.
 *
 * Source: `hw/virtio/vhost-user-base.c`: features come from the back-end alone,
 * a write of the configuration space sends all of it (`vub_set_config`), every
 * change is told to the guest (`vub_config_notifier`), and nothing tells the
 * back-end of a reset. Traced with QEMU 11.
 *
 * @module
 */

import {
  featureMask,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_PACKED,
} from "../../../virtqueue/constants.ts";
import type { VhostUserModel } from "./vhost_user_pci.ts";

/** `VHOST_F_LOG_ALL`, which this device lets drivers see. */
const LOG_ALL = 26;
/** Bits that the back-end decides about: those of the balloon and of all. */
const FEATURES = featureMask(0, 1, 2, 3, 4, 5) | featureMask(
  LOG_ALL,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_ORDER_PLATFORM,
);
const CONFIG_SIZE = 16;

/** `virtio-id=5,num_vqs=5,vq_size=128,config_size=16`. */
export const VHOST_USER_BALLOON: VhostUserModel = {
  name: "vhost-user-test-device",
  queues: 5,
  queueSize: 128,
  configSize: CONFIG_SIZE,
  silent: true,
  features: FEATURES,
  backendBits: FEATURES,
  configChanged(own, changed) {
    own.set(changed);
    return true;
  },
  configWritten: () => ({ offset: 0, length: CONFIG_SIZE }),
};
