/**
 * QEMU's `vhost-user-scsi-pci`, as data.
 *
 * Source: `hw/scsi/vhost-user-scsi.c`, `hw/scsi/vhost-scsi-common.c`.
 *
 * @module
 */

import { featureMask } from "../../../virtqueue/constants.ts";
import type { VhostUserModel } from "./vhost_user_pci.ts";

const HOTPLUG = 1, CHANGE = 2;
/** Offsets of `sense_size` and `cdb_size`, and their values. */
const SENSE_SIZE = 20, CDB_SIZE = 24, SENSE = 96, CDB = 32;

/** The configuration space: all of it is QEMU's own. */
function configuration(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(36);
  const view = new DataView(bytes.buffer);
  const words = [1, 126, 0xffff, 128, 16, SENSE, CDB];
  words.forEach((word, i) => view.setUint32(4 * i, word, true));
  view.setUint16(28, 0, true);
  view.setUint16(30, 255, true);
  view.setUint32(32, 16383, true);
  return bytes;
}

/** The device with one request queue, as it is without options. */
export const VHOST_USER_SCSI: VhostUserModel = {
  name: "vhost-user-scsi",
  queues: 3,
  queueSize: 128,
  configSize: 36,
  ownConfig: configuration(),
  neverDriverOk: true,
  features: featureMask(HOTPLUG, CHANGE),
  backendBits: featureMask(HOTPLUG),
  configWritten(_before, after) {
    const view = new DataView(after.buffer, after.byteOffset);
    const sense = view.getUint32(SENSE_SIZE, true);
    const cdb = view.getUint32(CDB_SIZE, true);
    if (sense !== SENSE || cdb !== CDB) {
      throw new Error("vhost-scsi does not support changing the sense data");
    }
    return null;
  },
};
