/**
 * What a block device says of itself: features and configuration.
 *
 * @module
 */

import { featureMask } from "../../virtqueue/constants.ts";
import type { Storage } from "../storage/storage.ts";
import type { ResolvedBlkOptions } from "./options.ts";
import {
  type BlkConfig,
  geometryOf,
  MAX_DISCARD_SECTORS,
  MAX_DISCARD_SEGMENTS,
  MAX_WRITE_ZEROES_SECTORS,
  MAX_WRITE_ZEROES_SEGMENTS,
  SECTOR_SIZE,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from "./protocol.ts";

/**
 * The device features to offer.
 *
 * SIZE_MAX is not among them: a segment may be of any length, and FreeBSD does
 * not attach to a disk whose `size_max` is below its largest transfer.
 */
export function offeredFeatures(
  options: ResolvedBlkOptions,
  storage: Storage,
): bigint {
  const bits = [
    VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_GEOMETRY,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_CONFIG_WCE,
  ];
  if (options.queues > 1) bits.push(VIRTIO_BLK_F_MQ);
  if (storage.readOnly) {
    bits.push(VIRTIO_BLK_F_RO);
  } else {
    if (options.discard && storage.canDiscard) bits.push(VIRTIO_BLK_F_DISCARD);
    if (options.writeZeroes) bits.push(VIRTIO_BLK_F_WRITE_ZEROES);
  }
  return featureMask(...bits);
}

/**
 * The configuration to show. Limits are filled in also where their feature is
 * not offered: a driver that reads a limit of 0 never gets anything done.
 *
 * @param writeback 1: writeback cache; 0: writethrough
 */
export function describeConfig(
  options: ResolvedBlkOptions,
  storage: Storage,
  writeback: number,
): BlkConfig {
  const blockSize = storage.blockSize;
  const capacity = Math.floor(storage.capacity / SECTOR_SIZE);
  const physicalBlockExp = Math.max(
    Math.floor(Math.log2(storage.optimalSize / blockSize)),
    0,
  );
  const physicalBlocks = 2 ** physicalBlockExp;
  return {
    capacity,
    segMax: options.segMax,
    geometry: geometryOf(capacity, blockSize),
    blkSize: blockSize,
    physicalBlockExp,
    alignmentOffset: 0,
    minIoSize: physicalBlocks,
    optIoSize: physicalBlocks,
    writeback,
    numQueues: options.queues,
    maxDiscardSectors: MAX_DISCARD_SECTORS,
    maxDiscardSeg: MAX_DISCARD_SEGMENTS,
    discardSectorAlignment: storage.discardGranularity / SECTOR_SIZE,
    maxWriteZeroesSectors: MAX_WRITE_ZEROES_SECTORS,
    maxWriteZeroesSeg: MAX_WRITE_ZEROES_SEGMENTS,
    writeZeroesMayUnmap: options.discard && storage.canUnmap ? 1 : 0,
  };
}
