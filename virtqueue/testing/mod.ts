/**
 * A virtio driver for tests of devices: guest memory, rings in it, and queues on
 * those, to be given to the device.
 *
 * @example A chain on its way
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FakeDriver, FakeMemory, startQueue } from "./mod.ts";
 *
 * const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
 * const driver = new FakeDriver(memory, { size: 8 });
 * const queue = startQueue(driver);
 * driver.submit([{ readable: new Uint8Array(16) }, { writable: 1 }]);
 * queue.complete(queue.take()!, 0);
 * assertEquals(driver.reap(), []);
 * queue.publish();
 * assertEquals(driver.reap()[0].length, 0);
 * ```
 *
 * @module
 */

import type { GuestMemory } from "../memory.ts";
import type { RunningQueue } from "../queue.ts";
import type { RingDriver } from "./buffers.ts";
import { startRing } from "./queue.ts";

export { FakeDriver, type FakeDriverOptions } from "./driver.ts";
export { FakePackedDriver, type RawPackedDescriptor } from "./packed_driver.ts";
export type {
  Completion,
  FakeBuffer,
  RawDescriptor,
  RingDriver,
  SubmitOptions,
} from "./buffers.ts";
export { FakeMemory, type FakeRegion } from "./memory.ts";
export { GuestMemory } from "../memory.ts";
export type { DirtyLog } from "../dirty_log.ts";
export type { QueueCounters, RunningQueue, VirtQueue } from "../queue.ts";

/** What {@linkcode startQueue} may be told of a queue. */
export interface TestQueueOptions {
  /** Its number (default 0). */
  readonly index?: number;
  /** Longest chain that the device works on (default 16). */
  readonly maxSegments?: number;
  /** The guest's memory as the device has it (default: one of its own). */
  readonly memory?: GuestMemory;
}

/** Starts a queue on a fake driver's ring, split or packed. */
export function startQueue(
  driver: RingDriver,
  options: TestQueueOptions = {},
): RunningQueue {
  return startRing(driver, options);
}
