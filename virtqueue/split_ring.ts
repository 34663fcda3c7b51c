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
import type { GuestMemory } from "./memory.ts";
import { QueueError } from "./queue_error.ts";

/** All that a {@linkcode SplitQueue} needs. */
export interface SplitQueueOptions {
  /** Index of the queue in its device. */
  readonly index: number;
  /** Number of entries: a power of two, 1 to 32768. */
  readonly size: number;
  /** The guest's memory. */
  readonly memory: GuestMemory;
  /** Guest physical address of the descriptor table, a multiple of 16. */
  readonly descriptorTable: number;
  /** Guest physical address of the available ring, a multiple of 2. */
  readonly availableRing: number;
  /** Guest physical address of the used ring, a multiple of 4. */
  readonly usedRing: number;
  /** Position in the available ring to start from (0 to 65535). */
  readonly position: number;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** Longest chain, in descriptors, that the device works on. */
  readonly maxSegments: number;
  /** Notify of whatever was used, whether the driver asks for it or not (default false). */
  readonly alwaysNotify?: boolean;
  /** Where requests in flight are noted for a successor (default: nowhere). */
  readonly inflight?: SplitInflight | null;
  /** Number of chain objects: most chains in flight (default: `size`). */
  readonly slots?: number;
  /** {@linkcode DescriptorChain.slot} of the first chain object (default 0). */
  readonly slotBase?: number;
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

/** The bytes of one part of a ring, which lie in one region and are aligned. */
function place(
  options: SplitQueueOptions,
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
  checkInteger(index, "maxSegments", options.maxSegments, 1, VIRTQ_MAX_SIZE);
  checkInteger(index, "slots", options.slots ?? size, 1, VIRTQ_MAX_SIZE);
  checkInteger(index, "slotBase", options.slotBase ?? 0, 0, 2 ** 30);
  const heads = options.inflight?.heads ?? size;
  if (heads < size) {
    throw new QueueError(
      "inflight-area",
      `Cannot start queue ${index}: size ${size} exceeds the ${heads} heads ` +
        `whose requests can be tracked`,
    );
  }
}

function checkInteger(
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
