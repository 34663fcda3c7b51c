/**
 * The target "packed": packed virtqueues.
 *
 * @module
 */

import { QueueTarget } from "../queue/target.ts";
import { PackedRun } from "./run.ts";
import { PACKED_SEEDS } from "./seeds.ts";

/** Makes the target. */
export function packedTarget(): QueueTarget {
  return new QueueTarget("packed", PACKED_SEEDS, (memory, bytes, observer) => {
    return new PackedRun(memory, bytes, observer);
  });
}
