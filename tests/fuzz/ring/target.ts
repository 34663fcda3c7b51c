/**
 * The target "ring": split virtqueues.
 *
 * @module
 */

import { QueueTarget } from "../queue/target.ts";
import { SplitRun } from "./run.ts";
import { RING_SEEDS } from "./seeds.ts";

/** Makes the target. */
export function ringTarget(): QueueTarget {
  return new QueueTarget("ring", RING_SEEDS, (memory, bytes, observer) => {
    return new SplitRun(memory, bytes, observer);
  });
}
