/**
 * An area of inflight tracking that holds anything: somebody else keeps it.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type { RunningQueue } from "../../../virtqueue/queue.ts";
import { QueueError } from "../../../virtqueue/queue_error.ts";
import { MOST_TAKES } from "./layout.ts";

/**
 * Starts a queue with such an area and takes what there is: heads or ids below
 * the size of the ring, none of them twice.
 *
 * @returns what was said of it; `null` when it was taken
 */
export function startWith(makeQueue: () => RunningQueue): string | null {
  let queue: RunningQueue;
  try {
    queue = makeQueue();
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    return error.message;
  }
  const { recovering, size } = queue;
  expect(recovering <= size, () => `${recovering} chains come again`);
  const chains: DescriptorChain[] = [];
  for (let i = 0; i < MOST_TAKES; i++) {
    const chain = queue.take();
    if (chain === null) break;
    const twice = chains.some(({ head }) => head === chain.head);
    expect(
      chain.head < size && !twice,
      () => `Chain ${chain.head} comes again, ${twice ? "twice" : "beyond"}`,
    );
    chains.push(chain);
  }
  for (const chain of chains) queue.complete(chain, 0);
  queue.publish();
  return null;
}
