/**
 * Puts a device-side queue on a fake driver's ring.
 *
 * @module
 */

import { SplitInflight } from "../inflight.ts";
import { GuestMemory } from "../memory.ts";
import { PackedInflight } from "../packed_inflight.ts";
import { PackedQueue, type PackedQueueOptions } from "../packed_queue.ts";
import { SplitQueue, type SplitQueueOptions } from "../split_queue.ts";
import type { QueueOptions } from "../split_ring.ts";
import type { FakeDriver } from "./driver.ts";
import type { RingDriver } from "./buffers.ts";
import type { FakePackedDriver } from "./packed_driver.ts";

/**
 * The options of a queue on a fake driver's ring: 16 segments, what
 * the driver negotiated, its memory shared, unless `changes` says else.
 */
export function queueOptions<Changes extends Partial<QueueOptions>>(
  driver: RingDriver,
  changes: Changes = {} as Changes,
): QueueOptions & Changes {
  return {
    index: 0,
    size: driver.size,
    memory: changes.memory ?? driver.memory.share(new GuestMemory()),
    descriptorTable: driver.descriptorTable,
    availableRing: driver.availableRing,
    usedRing: driver.usedRing,
    position: driver.start,
    eventIdx: driver.eventIdx,
    indirect: driver.indirect,
    maxSegments: 16,
    ...changes,
  };
}

/**
 * Starts a queue on a fake driver's ring.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FakeDriver, FakeMemory } from "./driver.ts";
 * import { startQueue } from "./queue.ts";
 *
 * const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
 * const driver = new FakeDriver(memory);
 * const queue = startQueue(driver, { maxSegments: 4 });
 * driver.submit([{ readable: new Uint8Array(3) }]);
 * assertEquals(queue.take()?.readableLength, 3);
 * ```
 */
export function startQueue(
  driver: FakeDriver,
  changes: Partial<SplitQueueOptions> = {},
): SplitQueue {
  return new SplitQueue(queueOptions(driver, changes));
}

/** Starts a queue on a fake driver's packed ring. */
export function startPacked(
  driver: FakePackedDriver,
  changes: Partial<PackedQueueOptions> = {},
): PackedQueue {
  return new PackedQueue(queueOptions(driver, changes));
}

/** Starts a queue on a fake driver's ring, of whichever layout. */
export function startRing(
  driver: RingDriver,
  changes: Partial<QueueOptions> = {},
): SplitQueue | PackedQueue {
  const options = queueOptions(driver, changes);
  return driver.packed ? new PackedQueue(options) : new SplitQueue(options);
}

/**
 * As {@linkcode startRing}, with requests tracked.
 *
 * @param area with room for as many entries as the ring has, in its layout
 */
export function startTracked(
  driver: RingDriver,
  area: Uint8Array<ArrayBuffer>,
  changes: Partial<QueueOptions> = {},
): SplitQueue | PackedQueue {
  const options = queueOptions(driver, changes), { size } = options;
  return driver.packed
    ? new PackedQueue({ ...options, inflight: new PackedInflight(area, size) })
    : new SplitQueue({ ...options, inflight: new SplitInflight(area, size) });
}
