/**
 * An area of inflight tracking that holds anything: the front-end keeps it.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import { SplitInflight } from "../../../virtqueue/inflight.ts";
import {
  QueueError,
  SplitQueue,
  type SplitQueueOptions,
} from "../../../virtqueue/split_queue.ts";

/** Chains that are taken at most. */
const MOST_TAKES = 80;

/**
 * Starts a queue with such an area and takes what there is: heads of the ring,
 * none of them twice.
 *
 * @returns what was said of it; `null` when it was taken
 */
export function startWith(
  area: Uint8Array<ArrayBuffer>,
  options: SplitQueueOptions,
): string | null {
  let queue: SplitQueue;
  try {
    const inflight = new SplitInflight(area, options.size);
    queue = new SplitQueue({ ...options, inflight });
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    return error.message;
  }
  const { recovering } = queue;
  expect(recovering <= options.size, () => `${recovering} chains come again`);
  const chains: DescriptorChain[] = [];
  for (let i = 0; i < MOST_TAKES; i++) {
    const chain = queue.take();
    if (chain === null) break;
    const twice = chains.some(({ head }) => head === chain.head);
    expect(
      chain.head < options.size && !twice,
      () => `Head ${chain.head} comes again, ${twice ? "twice" : "beyond"}`,
    );
    chains.push(chain);
  }
  for (const chain of chains) queue.complete(chain, 0);
  queue.publish();
  return null;
}
