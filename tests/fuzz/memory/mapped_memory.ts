/**
 * Memory of a target whose devices reach it by address, too.
 *
 * @module
 */

import { mapAnonymous } from "../../../sys/mapping.ts";
import { FuzzMemory, GUARD } from "./fuzz_memory.ts";

/** Guest address and length of a region. */
export type RegionPlace = readonly [guestAddress: number, size: number];

/** Maps regions with their guards; the stack gives them back. */
export function mapMemory(
  stack: DisposableStack,
  regions: readonly RegionPlace[],
): FuzzMemory {
  return new FuzzMemory(regions.map(([guestAddress, size]) => {
    const mapping = stack.use(mapAnonymous(size + 2 * GUARD));
    const guarded = new Uint8Array(mapping.buffer);
    const hostAddress = mapping.address + GUARD;
    return { guestAddress, size, guarded, hostAddress };
  }));
}
