/**
 * An area of a packed ring that holds anything: somebody else keeps it.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import { MOST_TAKES } from "../ring/layout.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import { PackedInflight } from "../../../virtqueue/packed_inflight.ts";
import {
  PackedQueue,
  type PackedQueueOptions,
} from "../../../virtqueue/packed_queue.ts";
import { QueueError } from "../../../virtqueue/queue_error.ts";

/**
 * Starts a queue with such an area and takes what there is: ids below the size of
 * the ring, none of them twice.
 *
 * @returns what was said of it; `null` when it was taken
 */
export function startWith(
  area: Uint8Array<ArrayBuffer>,
  options: PackedQueueOptions,
): string | null {
  const { size } = options;
  let queue: PackedQueue;
  try {
    const inflight = new PackedInflight(area, size);
    queue = new PackedQueue({ ...options, inflight });
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    return error.message;
  }
  const { recovering } = queue;
  expect(recovering <= size, () => `${recovering} chains come again`);
  const chains: DescriptorChain[] = [];
  for (let i = 0; i < MOST_TAKES; i++) {
    const chain = queue.take();
    if (chain === null) break;
    const twice = chains.some(({ head }) => head === chain.head);
    expect(
      chain.head < size && !twice,
      () => `Id ${chain.head} comes again, ${twice ? "twice" : "beyond"}`,
    );
    chains.push(chain);
  }
  for (const chain of chains) queue.complete(chain, 0);
  queue.publish();
  return null;
}
