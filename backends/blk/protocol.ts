/**
 * Numbers and layouts of the virtio block device.
 *
 * Source: virtio 1.4, section 5.2 (block device).
 *
 * @module
 */

/** Virtio device ID. */
export const VIRTIO_ID_BLOCK = 2;

/** Unit of every sector number and of the capacity, in bytes. */
export const SECTOR_SIZE = 512;

// Feature bits (section 5.2.3), by number.
/** Maximum number of segments of a request is in `seg_max`. */
export const VIRTIO_BLK_F_SEG_MAX = 2;
/** Disk-style geometry is in `geometry`. */
export const VIRTIO_BLK_F_GEOMETRY = 4;
/** The device is read-only. */
export const VIRTIO_BLK_F_RO = 5;
/** Block size of the disk is in `blk_size`. */
export const VIRTIO_BLK_F_BLK_SIZE = 6;
/** The device serves cache flushes. */
export const VIRTIO_BLK_F_FLUSH = 9;
/** Information on optimal alignment is in `topology`. */
export const VIRTIO_BLK_F_TOPOLOGY = 10;
/** The driver can switch the cache mode by writing `writeback`. */
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
/** Number of request queues is in `num_queues`. */
export const VIRTIO_BLK_F_MQ = 12;
/** The device serves discards. */
export const VIRTIO_BLK_F_DISCARD = 13;
/** The device serves write zeroes. */
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

// Request types (section 5.2.6).
/** Read. */
export const VIRTIO_BLK_T_IN = 0;
/** Write. */
export const VIRTIO_BLK_T_OUT = 1;
/** Make completed writes stable. */
export const VIRTIO_BLK_T_FLUSH = 4;
/** Legacy synonym of {@linkcode VIRTIO_BLK_T_FLUSH} (section 5.2.6.3). */
export const VIRTIO_BLK_T_FLUSH_OUT = 5;
/** Read the device ID string. */
export const VIRTIO_BLK_T_GET_ID = 8;
/** Give ranges back. */
export const VIRTIO_BLK_T_DISCARD = 11;
/** Make ranges read as zeroes. */
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;
/** Legacy flag in the type: the request is a barrier (section 5.2.6.3). */
export const VIRTIO_BLK_T_BARRIER = 0x8000_0000;

// Values of the status byte.
/** Success. */
export const VIRTIO_BLK_S_OK = 0;
/** Device or driver error. */
export const VIRTIO_BLK_S_IOERR = 1;
/** Request not supported by the device. */
export const VIRTIO_BLK_S_UNSUPP = 2;

/** Bytes of the request header: le32 type, le32 reserved, le64 sector. */
export const REQUEST_HEADER_SIZE = 16;
/** Bytes of a `virtio_blk_discard_write_zeroes`: le64 sector, le32 num_sectors, le32 flags. */
export const RANGE_SIZE = 16;
/** Flag of a write zeroes range: the device may deallocate it. */
export const RANGE_FLAG_UNMAP = 1;
/** Bytes of the device ID string, NUL-padded, without a NUL when it is that long. */
export const DEVICE_ID_SIZE = 20;

/**
 * Most sectors of a range of a discard request (2 GiB): a hole of that size is
 * one quick system call.
 */
export const MAX_DISCARD_SECTORS = 1 << 22;
/** Most ranges of a discard request. */
export const MAX_DISCARD_SEGMENTS = 32;
/**
 * Most sectors of a range of a write zeroes request (32 MiB): where the file
 * system cannot zero a range, this many are written while the queue waits.
 */
export const MAX_WRITE_ZEROES_SECTORS = 1 << 16;
/** Most ranges of a write zeroes request. */
export const MAX_WRITE_ZEROES_SEGMENTS = 4;

/** Bytes of `struct virtio_blk_config` up to and including `zoned`. */
export const CONFIG_SIZE = 96;
/** Offset of `capacity`. */
export const CONFIG_CAPACITY = 0;
/** Offset of `writeback`. */
export const CONFIG_WRITEBACK = 32;

/** A disk-style geometry: what very old partitioning tools ask for. */
export interface BlkGeometry {
  /** Cylinders (0 to 65535). */
  readonly cylinders: number;
  /** Heads. */
  readonly heads: number;
  /** Sectors of a track, in sectors of 512 bytes. */
  readonly sectors: number;
}

/** The device configuration space, as far as this device fills it. */
export interface BlkConfig {
  /** Size in sectors of 512 bytes. */
  readonly capacity: number;
  /** Most data segments of a request. */
  readonly segMax: number;
  /** Disk-style geometry. */
  readonly geometry: BlkGeometry;
  /** Block size in bytes. */
  readonly blkSize: number;
  /** Blocks of a physical block, log2. */
  readonly physicalBlockExp: number;
  /** Offset of the first aligned block. */
  readonly alignmentOffset: number;
  /** Suggested minimum I/O size in blocks. */
  readonly minIoSize: number;
  /** Optimal I/O size in blocks. */
  readonly optIoSize: number;
  /** 1: writeback cache; 0: writethrough. */
  readonly writeback: number;
  /** Number of request queues. */
  readonly numQueues: number;
  /** Most sectors of a discarded range. */
  readonly maxDiscardSectors: number;
  /** Most ranges of a discard request. */
  readonly maxDiscardSeg: number;
  /** Alignment of useful discards in sectors. */
  readonly discardSectorAlignment: number;
  /** Most sectors of a zeroed range. */
  readonly maxWriteZeroesSectors: number;
  /** Most ranges of a write zeroes request. */
  readonly maxWriteZeroesSeg: number;
  /** 1: a write zeroes request can deallocate. */
  readonly writeZeroesMayUnmap: number;
}

/**
 * Geometry for a capacity: 16 heads, 63 sectors (fewer when a track must be a
 * whole number of blocks), as many cylinders as fit, at least one and at most
 * 16383, where the ATA convention ends.
 *
 * @param capacity in sectors of 512 bytes
 * @param blockSize in bytes
 *
 * @example Usage
 * ```ts
 * import { geometryOf } from "./protocol.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(geometryOf(2097152, 512), { cylinders: 2080, heads: 16, sectors: 63 });
 * ```
 */
export function geometryOf(capacity: number, blockSize: number): BlkGeometry {
  const perBlock = blockSize / SECTOR_SIZE;
  const heads = 16;
  const sectors = 63 - 63 % perBlock;
  const cylinders = Math.floor(capacity / (heads * sectors));
  return {
    cylinders: Math.min(Math.max(cylinders, 1), 16383),
    heads,
    sectors,
  };
}

/**
 * Writes a configuration space. Fields that this device does not have
 * (`size_max`, secure erase, zones) and padding are 0.
 *
 * @param into at least {@linkcode CONFIG_SIZE} bytes
 */
export function encodeConfig(config: BlkConfig, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, CONFIG_SIZE);
  into.fill(0, 0, CONFIG_SIZE);
  view.setUint32(CONFIG_CAPACITY, config.capacity % 0x1_0000_0000, true);
  view.setUint32(4, Math.floor(config.capacity / 0x1_0000_0000), true);
  view.setUint32(12, config.segMax, true);
  view.setUint16(16, config.geometry.cylinders, true);
  view.setUint8(18, config.geometry.heads);
  view.setUint8(19, config.geometry.sectors);
  view.setUint32(20, config.blkSize, true);
  view.setUint8(24, config.physicalBlockExp);
  view.setUint8(25, config.alignmentOffset);
  view.setUint16(26, config.minIoSize, true);
  view.setUint32(28, config.optIoSize, true);
  view.setUint8(CONFIG_WRITEBACK, config.writeback);
  view.setUint16(34, config.numQueues, true);
  view.setUint32(36, config.maxDiscardSectors, true);
  view.setUint32(40, config.maxDiscardSeg, true);
  view.setUint32(44, config.discardSectorAlignment, true);
  view.setUint32(48, config.maxWriteZeroesSectors, true);
  view.setUint32(52, config.maxWriteZeroesSeg, true);
  view.setUint8(56, config.writeZeroesMayUnmap);
}

/**
 * Reads a configuration space: the inverse of {@linkcode encodeConfig}.
 *
 * @param from at least 57 bytes: up to and including `write_zeroes_may_unmap`
 */
export function decodeConfig(from: Uint8Array): BlkConfig {
  const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
  return {
    capacity: view.getUint32(4, true) * 0x1_0000_0000 +
      view.getUint32(CONFIG_CAPACITY, true),
    segMax: view.getUint32(12, true),
    geometry: {
      cylinders: view.getUint16(16, true),
      heads: view.getUint8(18),
      sectors: view.getUint8(19),
    },
    blkSize: view.getUint32(20, true),
    physicalBlockExp: view.getUint8(24),
    alignmentOffset: view.getUint8(25),
    minIoSize: view.getUint16(26, true),
    optIoSize: view.getUint32(28, true),
    writeback: view.getUint8(CONFIG_WRITEBACK),
    numQueues: view.getUint16(34, true),
    maxDiscardSectors: view.getUint32(36, true),
    maxDiscardSeg: view.getUint32(40, true),
    discardSectorAlignment: view.getUint32(44, true),
    maxWriteZeroesSectors: view.getUint32(48, true),
    maxWriteZeroesSeg: view.getUint32(52, true),
    writeZeroesMayUnmap: view.getUint8(56),
  };
}
