/**
 * Puts a device-side queue on a fake driver's ring.
 *
 * @module
 */

import { GuestMemory } from "../memory.ts";
import { SplitQueue, type SplitQueueOptions } from "../split_queue.ts";
import type { FakeDriver } from "./driver.ts";

/**
 * The options of a queue on a fake driver's ring: 16 segments, indirect
 * descriptors allowed, the driver's memory shared, unless `changes` says else.
 */
export function queueOptions(
  driver: FakeDriver,
  changes: Partial<SplitQueueOptions> = {},
): SplitQueueOptions {
  return {
    index: 0,
    size: driver.size,
    memory: changes.memory ?? driver.memory.share(new GuestMemory()),
    descriptorTable: driver.descriptorTable,
    availableRing: driver.availableRing,
    usedRing: driver.usedRing,
    position: driver.start,
    eventIdx: driver.eventIdx,
    indirect: true,
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
