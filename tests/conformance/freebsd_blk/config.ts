/**
 * The configuration space as virtio_blk(4) reads it, and the disk that it makes
 * of it.
 *
 * Source: `sys/dev/virtio/block/virtio_blk.c`, `vtblk_read_config` and
 * `vtblk_alloc_disk`; `virtio_blk.h`, `struct virtio_blk_config`.
 *
 * @module
 */

import { PAGE_SIZE } from "../freebsd/kernel.ts";
import type { VirtioPci } from "../freebsd/virtio_pci.ts";
import type { Disk } from "./disk.ts";
import { BlkFeature, type ConfigRead, type VtblkProfile } from "./profiles.ts";

/** `VTBLK_BSIZE`. */
const SECTOR = 512;

/** `struct virtio_blk_config`; what was not read is 0. */
export interface BlkConfig {
  /** In sectors of 512 bytes. */
  readonly capacity: number;
  readonly sizeMax: number;
  readonly segMax: number;
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
  readonly blkSize: number;
  readonly physicalBlockExp: number;
  readonly alignmentOffset: number;
  readonly minIoSize: number;
  readonly optIoSize: number;
  readonly wce: number;
  readonly maxDiscardSectors: number;
  readonly maxDiscardSeg: number;
  readonly discardSectorAlignment: number;
}

/** `vtblk_read_config`. */
export async function readConfig(
  bus: VirtioPci,
  reads: readonly ConfigRead[],
): Promise<BlkConfig> {
  const bytes = new Uint8Array(48);
  for (const { feature, offset, length } of reads) {
    if (feature !== null && !bus.withFeature(feature)) continue;
    bytes.set(await bus.readConfig(offset, length), offset);
  }
  const view = new DataView(bytes.buffer);
  return {
    capacity: Number(view.getBigUint64(0, true)),
    sizeMax: view.getUint32(8, true),
    segMax: view.getUint32(12, true),
    cylinders: view.getUint16(16, true),
    heads: view.getUint8(18),
    sectors: view.getUint8(19),
    blkSize: view.getUint32(20, true),
    physicalBlockExp: view.getUint8(24),
    alignmentOffset: view.getUint8(25),
    minIoSize: view.getUint16(26, true),
    optIoSize: view.getUint32(28, true),
    wce: view.getUint8(32),
    maxDiscardSectors: view.getUint32(36, true),
    maxDiscardSeg: view.getUint32(40, true),
    discardSectorAlignment: view.getUint32(44, true),
  };
}

/**
 * The part of `vtblk_alloc_disk` that fills in `struct disk`.
 *
 * @param most bytes of page-aligned data that fit one request
 */
export function describeDisk(
  disk: Disk,
  profile: VtblkProfile,
  bus: VirtioPci,
  config: BlkConfig,
  most: number,
): void {
  const readOnly = bus.withFeature(BlkFeature.RO);
  if (profile.readOnly === "geom" && readOnly) {
    disk.flags.writeProtect = true;
  } else {
    disk.flags.canFlushCache = profile.flush === "always" ||
      bus.withFeature(BlkFeature.FLUSH);
  }
  disk.canDump = !readOnly;
  disk.mediaSize = config.capacity * SECTOR;
  disk.sectorSize = bus.withFeature(BlkFeature.BLK_SIZE)
    ? config.blkSize
    : SECTOR;
  // A page less than fits: a buffer may begin inside of one.
  disk.maxSize = Math.max(most - PAGE_SIZE, PAGE_SIZE);
  if (bus.withFeature(BlkFeature.GEOMETRY)) {
    disk.firmwareHeads = config.heads;
    disk.firmwareSectors = config.sectors;
  }
  if (bus.withFeature(BlkFeature.TOPOLOGY) && config.physicalBlockExp > 0) {
    const { sectorSize } = disk;
    disk.stripeSize = sectorSize * 2 ** config.physicalBlockExp;
    disk.stripeOffset =
      (disk.stripeSize - config.alignmentOffset * sectorSize) %
      disk.stripeSize;
  }
  if (bus.withFeature(BlkFeature.DISCARD)) {
    disk.flags.canDelete = true;
    // A product of 32 bits, whatever it is assigned to.
    disk.deleteMaxSize = config.maxDiscardSectors * SECTOR % 2 ** 32;
  }
}
