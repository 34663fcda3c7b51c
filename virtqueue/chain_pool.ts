/**
 * Preallocated chain objects.
 *
 * @module
 */

import { DescriptorChain, type OpenChain } from "./chain.ts";
import type { GuestMemory } from "./memory.ts";
import type { VirtQueue } from "./queue.ts";

/**
 * The chain objects of one queue. They are made when they are first needed and
 * then reused, the one given back last first.
 */
export class ChainPool {
  /** Most chain objects. */
  readonly slots: number;
  readonly #queue: VirtQueue;
  readonly #memory: GuestMemory;
  readonly #slotBase: number;
  readonly #maxSegments: number;
  readonly #free: DescriptorChain[] = [];
  #top = 0;
  #made = 0;

  /**
   * Makes a pool.
   *
   * @param slots most chain objects, and so most chains in flight
   * @param slotBase {@linkcode DescriptorChain.slot} of the first
   * @param maxSegments longest chain that the device works on
   */
  constructor(
    queue: VirtQueue,
    memory: GuestMemory,
    slots: number,
    slotBase: number,
    maxSegments: number,
  ) {
    this.#queue = queue;
    this.#memory = memory;
    this.slots = slots;
    this.#slotBase = slotBase;
    this.#maxSegments = maxSegments;
  }

  /** True when a chain object is free. */
  get ready(): boolean {
    return this.#top > 0 || this.#made < this.slots;
  }

  /** The next free chain object, or `null`; {@linkcode drop} takes it out. */
  peek(): DescriptorChain | null {
    if (this.#top > 0) return this.#free[this.#top - 1];
    return this.#made < this.slots ? this.#make() : null;
  }

  /** Takes out the chain object that {@linkcode peek} showed. */
  drop(): void {
    this.#top--;
  }

  /** Gives a chain object back. */
  release(chain: DescriptorChain): void {
    const open: OpenChain = chain;
    open.taken = false;
    this.#free[this.#top++] = chain;
  }

  #make(): DescriptorChain {
    const chain = new DescriptorChain(
      this.#queue,
      this.#memory,
      this.#slotBase + this.#made,
      this.#maxSegments,
    );
    this.#made++;
    this.#free[this.#top++] = chain;
    return chain;
  }
}
