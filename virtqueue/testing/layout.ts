/**
 * Which rings tests of devices run on. A test file that imports another one after
 * it has changed {@linkcode ringLayout} has its tests run on other rings.
 *
 * @module
 */

import type { FakeDriverOptions, RingDriver } from "./driver.ts";
import { FakeDriver } from "./driver.ts";
import type { FakeMemory } from "./memory.ts";
import { encodePosition } from "../packed_ring.ts";
import { FakePackedDriver } from "./packed_driver.ts";

/** The rings of {@linkcode makeDriver}, for the whole program. */
export const ringLayout = {
  /** Packed instead of split ones. */
  packed: false,
  /** Answers in order. */
  inOrder: false,
  /** With VIRTIO_F_EVENT_IDX. */
  eventIdx: false,
};

/** Makes a driver of the layout that was chosen. */
export function makeDriver(
  memory: FakeMemory,
  options: FakeDriverOptions = {},
): RingDriver {
  const { packed, eventIdx } = ringLayout;
  const settled = { eventIdx, ...options };
  if (!packed) return new FakeDriver(memory, settled);
  // Where a test begins is a position, which is 0 after a reset.
  const { size = 256, start = 0 } = options;
  return new FakePackedDriver(memory, {
    ...settled,
    start: encodePosition(start, size),
  });
}
