/**
 * Where a packed ring lies, and how positions in it are counted and written
 * down.
 *
 * A *position* is an entry of the ring together with the wrap counter: a number
 * from 0 to twice the size, in which the lower half stands for wrap counter 1,
 * which comes first. So positions can be compared and subtracted like the
 * indices of a split ring. Front-ends write 15 bits of index and one of the wrap
 * counter; the available position is in the lower 16 bits of a base, the used
 * position in the upper ones.
 *
 * Source: virtio 1.4, section 2.8; vhost-user.rst, "A vring state description".
 *
 * @module
 */

import {
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_SIZE,
  VIRTQ_MAX_SIZE,
} from "./constants.ts";
import { loadAcquire } from "./ordering.ts";
import type { PackedInflight } from "./packed_inflight.ts";
import { QueueError } from "./queue_error.ts";
import { checkCommon, place, type QueueOptions } from "./split_ring.ts";

/** All that a {@linkcode PackedQueue} needs. */
export interface PackedQueueOptions extends QueueOptions {
  /** Where requests in flight are noted for a successor (default: nowhere). */
  readonly inflight?: PackedInflight | null;
}

/**
 * What a device writes into its event structure to be notified of everything. It
 * is not zero, which is what a driver puts there when it sets a ring up: so it
 * shows whether a device has been there. The place has no meaning then.
 */
export const RING_EVENT_ENABLE: number = RING_EVENT_FLAGS_ENABLE << 16 | 0x8000;

/** Typed windows over the three parts of a packed ring. */
export interface PackedViews {
  /** The descriptor ring, 16 bytes an entry. */
  readonly descriptors: DataView<ArrayBuffer>;
  /** The same in units of 16 bits. */
  readonly halves: Uint16Array<ArrayBuffer>;
  /** The same in units of 32 bits. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** The driver event suppression structure, as one number. */
  readonly driverEvent: Uint32Array<ArrayBuffer>;
  /** The device event suppression structure, as one number. */
  readonly deviceEvent: Uint32Array<ArrayBuffer>;
}

/**
 * Makes the windows of a packed ring.
 *
 * @throws {QueueError} of kind `unaligned-ring` or `ring-outside-memory`
 */
export function bindPacked(options: PackedQueueOptions): PackedViews {
  const { size, descriptorTable, availableRing, usedRing } = options;
  const length = VIRTQ_DESC_SIZE * size;
  const ring = place(options, "descriptor ring", descriptorTable, {
    length,
    alignment: 16,
  });
  const event = { length: 4, alignment: 4 };
  const driver = place(options, "driver event", availableRing, event);
  const device = place(options, "device event", usedRing, event);
  const { buffer, byteOffset } = ring;
  return {
    descriptors: new DataView(buffer, byteOffset, length),
    halves: new Uint16Array(buffer, byteOffset, 8 * size),
    words: new Uint32Array(buffer, byteOffset, 4 * size),
    driverEvent: new Uint32Array(driver.buffer, driver.byteOffset, 1),
    deviceEvent: new Uint32Array(device.buffer, device.byteOffset, 1),
  };
}

/**
 * A position as front-ends and event structures have it: index and wrap counter
 * in 16 bits.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodePosition } from "./packed_ring.ts";
 *
 * assertEquals(encodePosition(0, 7), 0x8000); // The start: wrap counter 1.
 * assertEquals(encodePosition(8, 7), 1); // One lap and one entry later.
 * ```
 */
export function encodePosition(position: number, size: number): number {
  return position < size ? position | 0x8000 : position - size;
}

/** Where a ring goes on, as front-ends have it: used position in the upper half. */
export function encodeBase(
  available: number,
  used: number,
  size: number,
): number {
  return (encodePosition(available, size) |
    encodePosition(used, size) << 16) >>> 0;
}

/** The position of 16 bits of index and wrap counter, or -1 beyond the ring. */
export function decodePosition(encoded: number, size: number): number {
  const index = encoded & 0x7fff;
  if (index >= size) return -1;
  return (encoded & 0x8000) !== 0 ? index : index + size;
}

/** Both flags that tell whose turn it is. */
export const AVAIL_USED: number = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** The entry of the ring that a position is at. */
export function entryAt(position: number, size: number): number {
  return position < size ? position : position - size;
}

/** AVAIL and USED in a descriptor that the driver made available at a position. */
export function marksAt(position: number, size: number): number {
  return position < size ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/** The position that many entries further. */
export function advance(
  position: number,
  entries: number,
  size: number,
): number {
  const next = position + entries;
  return next < 2 * size ? next : next - 2 * size;
}

/** Descriptors that are found to be available with one fence. */
const LOOK_AHEAD = 32;

/**
 * Counts available descriptors from a position on; those that are counted may be
 * read.
 *
 * @param limit how many at most; the first one is looked at in any case
 */
export function countAvailable(
  halves: Uint16Array<ArrayBuffer>,
  position: number,
  size: number,
  limit: number,
): number {
  let index = entryAt(position, size);
  let marks = marksAt(position, size);
  if ((loadAcquire(halves, index * 8 + 7) & AVAIL_USED) !== marks) return 0;
  let count = 1;
  for (; count < LOOK_AHEAD && count < limit; count++) {
    let next = index + 1, nextMarks = marks;
    if (next === size) {
      next = 0;
      nextMarks ^= AVAIL_USED;
    }
    if ((halves[next * 8 + 7] & AVAIL_USED) !== nextMarks) break;
    index = next;
    marks = nextMarks;
  }
  // What is read of these descriptors is read after their flags.
  if (count > 1) loadAcquire(halves, index * 8 + 7);
  return count;
}

/** Takes marks of answers back that no driver saw: the descriptors are available. */
export function takeMarksBack(
  halves: Uint16Array<ArrayBuffer>,
  used: number,
  count: number,
  size: number,
): void {
  for (let i = 0; i < count; i++) {
    const position = advance(used, i, size);
    const flags = entryAt(position, size) * 8 + 7;
    const marks = marksAt(position, size);
    if ((halves[flags] & AVAIL_USED) !== marks) {
      halves[flags] = halves[flags] & ~AVAIL_USED | marks;
    }
  }
}

/** Entries from one position to another that is not before it. */
export function entriesBetween(
  from: number,
  to: number,
  size: number,
): number {
  return to < from ? to - from + 2 * size : to - from;
}

/** Where a ring goes on. */
export interface PackedBase {
  /** Position of the next descriptor to take. */
  readonly available: number;
  /** Position of the next descriptor to use. */
  readonly used: number;
}

/**
 * Checks the options of a packed queue, and reads where it goes on. A base
 * without its upper half is that of a front-end which knows that both positions
 * are the same in a ring that was drained.
 *
 * @throws {QueueError} of kind `invalid-size` or `invalid-option`
 */
export function checkPacked(options: PackedQueueOptions): PackedBase {
  const { index, size, position } = options;
  if (!Number.isInteger(size) || size < 1 || size > VIRTQ_MAX_SIZE) {
    throw new QueueError(
      "invalid-size",
      `Cannot start queue ${index}: size ${size} is not from 1 to ` +
        `${VIRTQ_MAX_SIZE}`,
    );
  }
  checkCommon(options, options.inflight?.heads ?? size);
  const upper = position >>> 16;
  const available = decodePosition(position & 0xffff, size);
  const used = upper === 0 ? available : decodePosition(upper, size);
  const between = entriesBetween(used, available, size);
  if (
    !Number.isInteger(position) || position < 0 || position > 0xffff_ffff ||
    available < 0 || used < 0 || between > size
  ) {
    throw new QueueError(
      "invalid-option",
      `Cannot start queue ${index}: position 0x${position.toString(16)} ` +
        `does not lie in a packed ring of ${size}`,
    );
  }
  return { available, used };
}
