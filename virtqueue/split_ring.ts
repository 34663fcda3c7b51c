/**
 * Where a split ring lies: the options that place it in guest memory, and the
 * typed windows through which it is accessed.
 *
 * Each of the three parts must lie in one region as a whole. The fields behind
 * the entries, `used_event` and `avail_event`, are part of a ring only when
 * VIRTIO_F_EVENT_IDX was negotiated.
 *
 * Source: virtio 1.4, section 2.7.
 *
 * @module
 */

import type { SplitInflight } from "./inflight.ts";
import { VIRTQ_DESC_SIZE, VIRTQ_MAX_SIZE } from "./constants.ts";
import { CHAIN_FAULTS } from "./descriptors.ts";
import type { GuestMemory } from "./memory.ts";
import { QueueError } from "./queue_error.ts";

/** What queues of both layouts need. */
export interface QueueOptions {
  /** Index of the queue in its device. */
  readonly index: number;
  /** Number of entries, 1 to 32768; in a split queue a power of two. */
  readonly size: number;
  /** The guest's memory. */
  readonly memory: GuestMemory;
  /** Guest physical address of the descriptor table or ring, a multiple of 16. */
  readonly descriptorTable: number;
  /**
   * Guest physical address of the available ring, a multiple of 2; of a packed
   * queue the driver event suppression structure, a multiple of 4.
   */
  readonly availableRing: number;
  /**
   * Guest physical address of the used ring, or of the device event suppression
   * structure, a multiple of 4.
   */
  readonly usedRing: number;
  /** Where to go on: see {@linkcode RunningQueue.base}. */
  readonly position: number;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** Longest chain, in descriptors, that the device works on. */
  readonly maxSegments: number;
  /** Notify of whatever was used, whether the driver asks for it or not (default false). */
  readonly alwaysNotify?: boolean;
  /** Whether VIRTIO_F_IN_ORDER was negotiated (default false). */
  readonly inOrder?: boolean;
  /** Number of chain objects: most chains in flight (default: `size`). */
  readonly slots?: number;
  /** {@linkcode DescriptorChain.slot} of the first chain object (default 0). */
  readonly slotBase?: number;
}

/** All that a {@linkcode SplitQueue} needs. */
export interface SplitQueueOptions extends QueueOptions {
  /** Where requests in flight are noted for a successor (default: nowhere). */
  readonly inflight?: SplitInflight | null;
}

/** Typed windows over the three parts of a ring. */
export interface RingViews {
  /** The descriptor table, 16 bytes an entry. */
  readonly descriptors: DataView<ArrayBuffer>;
  /** `flags`, `idx`, the entries, and with EVENT_IDX `used_event`. */
  readonly available: Uint16Array<ArrayBuffer>;
  /** `flags`, `idx`, the elements, and with EVENT_IDX `avail_event`. */
  readonly used: Uint16Array<ArrayBuffer>;
  /** The elements of the used ring: id and length in turn. */
  readonly usedElements: Uint32Array<ArrayBuffer>;
}

/**
 * Makes the windows of a ring.
 *
 * @throws {QueueError} of kind `unaligned-ring` or `ring-outside-memory`
 */
export function bindRings(options: SplitQueueOptions): RingViews {
  const { size, descriptorTable, availableRing, usedRing } = options;
  const event = options.eventIdx ? 2 : 0;
  const tableBytes = VIRTQ_DESC_SIZE * size;
  const table = place(options, "descriptor table", descriptorTable, {
    length: tableBytes,
    alignment: 16,
  });
  const available = place(options, "available ring", availableRing, {
    length: 4 + 2 * size + event,
    alignment: 2,
  });
  const used = place(options, "used ring", usedRing, {
    length: 4 + 8 * size + event,
    alignment: 4,
  });
  return {
    descriptors: new DataView(table.buffer, table.byteOffset, tableBytes),
    available: new Uint16Array(
      available.buffer,
      available.byteOffset,
      available.byteLength >> 1,
    ),
    used: new Uint16Array(used.buffer, used.byteOffset, used.byteLength >> 1),
    usedElements: new Uint32Array(used.buffer, used.byteOffset + 4, 2 * size),
  };
}

/**
 * The bytes of one part of a ring, which lie in one region and are aligned.
 *
 * @param need length and alignment in bytes
 * @throws {QueueError} of kind `unaligned-ring` or `ring-outside-memory`
 */
export function place(
  options: QueueOptions,
  what: string,
  address: number,
  need: { length: number; alignment: number },
): Uint8Array<ArrayBuffer> {
  const { index, memory } = options;
  const { length, alignment } = need;
  if (address % alignment !== 0) {
    throw new QueueError(
      "unaligned-ring",
      `Cannot start queue ${index}: ${what} at 0x${address.toString(16)} ` +
        `is not aligned to ${alignment} bytes`,
    );
  }
  const region = memory.find(address, length);
  if (region < 0) {
    throw new QueueError(
      "ring-outside-memory",
      `Cannot start queue ${index}: ${what} at 0x${address.toString(16)} of ` +
        `${length} bytes does not lie in one region of guest memory`,
    );
  }
  const offset = address - memory.regionAddress(region);
  const bytes = memory.bytes(region).subarray(offset, offset + length);
  const unit = Math.min(alignment, 4);
  if (
    bytes.byteOffset % unit !== 0 ||
    (memory.hostBase(region) + offset) % unit !== 0
  ) {
    throw new QueueError(
      "unaligned-ring",
      `Cannot start queue ${index}: ${what} at 0x${address.toString(16)} ` +
        `lies in a region that is not aligned to ${unit} bytes`,
    );
  }
  return bytes;
}

/**
 * Checks the numbers of a queue's options.
 *
 * @throws {QueueError} of kind `invalid-size` or `invalid-option`
 */
export function checkOptions(options: SplitQueueOptions): void {
  const { index, size } = options;
  if (
    !Number.isInteger(size) || size < 1 || size > VIRTQ_MAX_SIZE ||
    (size & (size - 1)) !== 0
  ) {
    throw new QueueError(
      "invalid-size",
      `Cannot start queue ${index}: size ${size} is not a power of two ` +
        `from 1 to ${VIRTQ_MAX_SIZE}`,
    );
  }
  checkInteger(index, "position", options.position, 0, 0xffff);
  checkCommon(options, options.inflight?.heads ?? size);
}

/**
 * Checks what is the same for both layouts.
 *
 * @param heads number of heads that can be tracked
 * @throws {QueueError} of kind `invalid-option` or `inflight-area`
 */
export function checkCommon(options: QueueOptions, heads: number): void {
  const { index, size } = options;
  checkInteger(index, "maxSegments", options.maxSegments, 1, VIRTQ_MAX_SIZE);
  checkInteger(index, "slots", options.slots ?? size, 1, VIRTQ_MAX_SIZE);
  checkInteger(index, "slotBase", options.slotBase ?? 0, 0, 2 ** 30);
  if (heads < size) {
    throw new QueueError(
      "inflight-area",
      `Cannot start queue ${index}: size ${size} exceeds the ${heads} heads ` +
        `whose requests can be tracked`,
    );
  }
}

/**
 * Checks a number.
 *
 * @throws {QueueError} of kind `invalid-option`
 */
export function checkInteger(
  queue: number,
  name: string,
  value: number,
  least: number,
  most: number,
): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new QueueError(
      "invalid-option",
      `Cannot start queue ${queue}: ${name} ${value} is not an integer ` +
        `from ${least} to ${most}`,
    );
  }
}

/**
 * Whether heads stand in an available ring from a position on.
 *
 * @param size of the ring
 * @param heads the first of them last
 */
export function standInRing(
  available: Uint16Array,
  size: number,
  position: number,
  heads: Uint16Array,
): boolean {
  const last = heads.length - 1;
  // Behind `flags` and `idx`.
  return heads.every((head, i) =>
    available[2 + ((position + last - i) & (size - 1))] === head
  );
}

/** Faults of an entry of the available ring that are not faults of descriptors. */
export const SPLIT_HEAD_RANGE = -1;
/** The entry names a chain that is in flight. */
export const SPLIT_HEAD_IN_FLIGHT = -2;

/**
 * What is wrong with an entry of the available ring, for people.
 *
 * @param fault one of `CHAIN_*`, or of `SPLIT_HEAD_*`
 * @param head what the entry says
 */
export function splitFault(fault: number, head: number, size: number): string {
  if (fault === SPLIT_HEAD_RANGE) {
    return `head ${head} is beyond the ring of ${size}`;
  }
  const chain = `chain at descriptor ${head}`;
  return fault === SPLIT_HEAD_IN_FLIGHT
    ? `${chain}: made available again while in flight`
    : `${chain}: ${CHAIN_FAULTS[fault]}`;
}
