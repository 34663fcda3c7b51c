/**
 * Which rings the tests of devices run on. {@linkcode ringTest} registers a test
 * once for each {@linkcode RingProfile}; while it runs, what makes a driver, a
 * queue, or the features of one asks here.
 *
 * @module
 */

import type { FakeDriverOptions, RingDriver } from "./driver.ts";
import { FakeDriver } from "./driver.ts";
import type { FakeMemory } from "./memory.ts";
import { featureMask, VIRTIO_F_VERSION_1 } from "../constants.ts";
import { encodePosition } from "../packed_ring.ts";
import { FakePackedDriver } from "./packed_driver.ts";

/** What a driver and a device agreed on about their rings. */
export interface RingProfile {
  /** What it is called in the names of tests. */
  readonly name: string;
  /** VIRTIO_F_RING_PACKED. */
  readonly packed: boolean;
  /** No VIRTIO_F_VERSION_1. */
  readonly legacy: boolean;
  /** VIRTIO_F_EVENT_IDX. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC. */
  readonly indirect: boolean;
}

/** Split modern, split legacy and packed rings, with and without the rest. */
export const RING_PROFILES: readonly RingProfile[] = ["split", "legacy split"]
  .concat("packed").flatMap((layout) =>
    [false, true].flatMap((eventIdx) =>
      [false, true].map((indirect): RingProfile => ({
        name: layout + (eventIdx ? ", event-idx" : "") +
          (indirect ? ", indirect" : ""),
        packed: layout === "packed",
        legacy: layout.startsWith("legacy"),
        eventIdx,
        indirect,
      }))
    )
  );

const PLAIN = RING_PROFILES[0];
let current = { ...PLAIN, indirect: true };

/** The rings of the test that runs; outside of `ringTest` plain split ones. */
export function ringProfile(): RingProfile {
  return current;
}

/** Does something that does not wait on rings of a profile. */
export function withRings<T>(profile: RingProfile, fn: () => T): T {
  const before = current;
  current = profile;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/**
 * Registers a test for each profile: the full product. Its name tells which.
 *
 * @param profiles where a test is about some of them only
 */
export function ringTest(
  name: string,
  fn: () => void | Promise<void>,
  profiles: readonly RingProfile[] = RING_PROFILES,
): void {
  for (const profile of profiles) {
    Deno.test(`${profile.name}: ${name}`, async () => {
      const before = current;
      current = profile;
      try {
        await fn();
      } finally {
        current = before;
      }
    });
  }
}

/** Runs of a property in each profile, for as many in all of them. */
export function profileRuns(total: number): number {
  return Math.ceil(total / RING_PROFILES.length);
}

/** Features that a driver of the profile acknowledges, of those it would. */
export function profileFeatures(features: bigint): bigint {
  return current.legacy
    ? features & ~featureMask(VIRTIO_F_VERSION_1)
    : features;
}

/** Makes a driver of the profile. */
export function makeDriver(
  memory: FakeMemory,
  options: FakeDriverOptions = {},
): RingDriver {
  const { packed, eventIdx, indirect } = current;
  const settled = { eventIdx, indirect, ...options };
  if (!packed) return new FakeDriver(memory, settled);
  // Where a test begins is a position, which is 0 after a reset.
  const { size = 256, start = 0 } = options;
  return new FakePackedDriver(memory, {
    ...settled,
    start: encodePosition(start, size),
  });
}
