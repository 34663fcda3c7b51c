/**
 * A queue that judges what its device does with it.
 *
 * Theory of operation. A device that is given this queue takes and answers
 * chains as of any other; each call is compared with {@linkcode RingModel}. So
 * a chain is answered at most once, and with no more bytes than it has room
 * for. What the device may have written is taken over by the model of memory
 * when a chain is answered, and nothing else is: whatever it wrote beside shows
 * when memory is compared.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { chainDifference } from "../ring/chain_check.ts";
import {
  type ModelBuffer,
  type ModelChain,
  RingModel,
  totalOf,
} from "../ring/model.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { SplitQueue } from "../../../virtqueue/split_queue.ts";

/** Who is told of what a device does with a queue. */
export interface QueueWatch {
  /** The device took a chain. */
  taken?(queue: WatchedQueue, chain: ModelChain): void;
  /** The device gave a chain back unanswered. */
  untaken?(queue: WatchedQueue, chain: ModelChain): void;
  /**
   * The device is about to answer a chain.
   *
   * @returns bytes of the writable part that it may have written
   */
  completed(queue: WatchedQueue, chain: ModelChain, written: number): number;
  /** The model of memory has what the device wrote. */
  adopted?(queue: WatchedQueue, chain: ModelChain, written: number): void;
  /** The device has answered a chain. */
  answered?(queue: WatchedQueue, chain: ModelChain, written: number): void;
}

/** What a {@linkcode WatchedQueue} is made with. */
export interface WatchedQueueOptions {
  readonly index: number;
  readonly size: number;
  readonly memory: FuzzMemory;
  readonly shared: GuestMemory;
  readonly descriptorTable: bigint;
  readonly availableRing: bigint;
  readonly usedRing: bigint;
  readonly eventIdx: boolean;
  readonly alwaysNotify?: boolean;
  readonly maxSegments: number;
  readonly slotBase: number;
}

/** Some bytes of a part, as far as it goes. */
export function within(
  buffers: readonly ModelBuffer[],
  position: number,
  length: number,
): ModelBuffer[] {
  const found: ModelBuffer[] = [];
  let start = 0;
  for (const buffer of buffers) {
    const from = Math.max(position - start, 0);
    const to = Math.min(position + length - start, buffer.length);
    if (from < to) {
      found.push({
        address: buffer.address + BigInt(from),
        length: to - from,
      });
    }
    start += buffer.length;
  }
  return found;
}

/** Some bytes of a part as the model has them, as far as it goes. */
export function readPart(
  memory: FuzzMemory,
  buffers: readonly ModelBuffer[],
  position: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const parts = within(buffers, position, length);
  const bytes = new Uint8Array(totalOf(parts));
  let at = 0;
  for (const { address, length } of parts) {
    bytes.set(memory.copy(address, length), at);
    at += length;
  }
  return bytes;
}

/** A split queue with its model. */
export class WatchedQueue extends SplitQueue {
  readonly #memory: FuzzMemory;
  readonly #watch: QueueWatch;
  readonly #model: RingModel;
  readonly #maxSegments: number;
  readonly #alwaysNotify: boolean;
  readonly #chains = new Map<DescriptorChain, ModelChain>();

  /** Starts a ring. */
  constructor(options: WatchedQueueOptions, watch: QueueWatch) {
    const { index, size, memory, shared, eventIdx, maxSegments } = options;
    const common = { size, eventIdx, position: 0, indirect: true, slots: size };
    super({
      ...common,
      index,
      memory: shared,
      maxSegments,
      slotBase: options.slotBase,
      alwaysNotify: options.alwaysNotify,
      descriptorTable: Number(options.descriptorTable),
      availableRing: Number(options.availableRing),
      usedRing: Number(options.usedRing),
    });
    const { descriptorTable, availableRing, usedRing } = options;
    const places = { descriptorTable, availableRing, usedRing };
    this.#model = new RingModel(memory, { ...common, ...places });
    this.#memory = memory;
    this.#watch = watch;
    this.#maxSegments = maxSegments;
    this.#alwaysNotify = options.alwaysNotify ?? false;
  }

  override get ready(): boolean {
    const ready = super.ready, right = this.#model.ready();
    expect(ready === right, () => `queue ${this.index}: ready is ${ready}`);
    return ready;
  }

  override take(): DescriptorChain | null {
    const chain = super.take(), model = this.#model.take();
    const difference = chainDifference(
      this.#memory,
      chain,
      model,
      this.#maxSegments,
    );
    expect(difference === null, () => `queue ${this.index}: ${difference}`);
    if (chain === null) return null;
    this.#chains.set(chain, model!);
    this.#watch.taken?.(this, model!);
    return chain;
  }

  override complete(chain: DescriptorChain, written: number): void {
    const model = this.#chains.get(chain);
    expect(
      model !== undefined,
      () => `queue ${this.index}: a chain is answered that is not in flight`,
    );
    const room = totalOf(model.writable);
    expect(
      Number.isInteger(written) && written >= 0 && written <= room,
      () => `queue ${this.index}: ${written} bytes are written into ${room}`,
    );
    const most = this.#watch.completed(this, model, written);
    for (const { address, length } of within(model.writable, 0, most)) {
      this.#memory.adopt(address, length);
    }
    this.#watch.adopted?.(this, model, written);
    super.complete(chain, written);
    this.#model.complete(model, written);
    this.#chains.delete(chain);
    this.#watch.answered?.(this, model, written);
  }

  override untake(chain: DescriptorChain): void {
    const model = this.#chains.get(chain);
    expect(
      model !== undefined && this.#model.canUntake(model),
      () => `queue ${this.index}: a chain is given back that is not the last`,
    );
    super.untake(chain);
    this.#model.untake(model);
    this.#chains.delete(chain);
    this.#watch.untaken?.(this, model);
  }

  override publish(): boolean {
    const { state } = this.#model;
    const due = state.used !== state.published && !state.broken;
    const wanted = super.publish();
    const asked = this.#model.publish();
    const right = due && (this.#alwaysNotify || asked);
    expect(
      wanted === right,
      () => `queue ${this.index}: publish is ${wanted}`,
    );
    return wanted;
  }

  /** Compares what is counted. */
  check(): void {
    const { state } = this.#model;
    const found = [
      this.counters.completed,
      this.counters.badChains,
      super.inFlight,
      this.broken !== null,
    ];
    const right = [
      state.answered,
      state.bad,
      state.inFlight.length,
      state.broken,
    ];
    expect(
      found.every((value, i) => value === right[i]),
      () =>
        `queue ${this.index}: completed, bad, in flight, broken are ` +
        `${found}, not ${right}`,
    );
  }
}
