/**
 * QEMU's `vhost-user-test-device-pci` with the properties of a network device,
 * as data: its control queue is the back-end's, as all the others.
 *
 * QEMU has it behind the modern interface alone. Behind the legacy one it stands
 * for a transitional device of another front-end that hands over all queues.
 *
 * Source: `hw/virtio/vhost-user-base.c`.
 *
 * @module
 */

import { featureMask } from "../../../virtqueue/constants.ts";
import type { VhostUserModel } from "./vhost_user_pci.ts";

const CONFIG_SIZE = 20;

/** Bits of a network device that the back-end decides about. */
const FEATURES = (1n << 24n) - 1n | featureMask(63);

/** `virtio-id=1,num_vqs=2N+1,vq_size=256,config_size=20`; 2N without control. */
export function vhostUserNetModel(
  pairs: number,
  control = true,
): VhostUserModel {
  return {
    name: "vhost-user-test-device",
    queues: 2 * pairs + (control ? 1 : 0),
    queueSize: 256,
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
}
