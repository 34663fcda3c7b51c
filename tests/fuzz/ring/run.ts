/**
 * Fuzzes a split virtqueue: memory contents and operations of the device.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import type { Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { readHeader } from "../queue/options.ts";
import { QueueRun, type RingPart } from "../queue/run.ts";
import {
  SplitInflight,
  splitInflightSize,
} from "../../../virtqueue/inflight.ts";
import { SplitQueue } from "../../../virtqueue/split_queue.ts";
import { SplitDriver } from "./driver.ts";
import { copyState, type ModelChain, RingModel } from "./model.ts";
import { type Tracking, UNTRACKED } from "./tracking.ts";

/** Sizes of rings. */
const SIZES = [16, 8, 4, 2, 1, 64, 32] as const;
/** Where indices begin. */
const STARTS = [0, 65535, 65530, 32767, 1] as const;

/** A split ring, its driver and its device. */
export class SplitRun extends QueueRun<ModelChain, RingModel> {
  protected readonly driver: SplitDriver;

  constructor(memory: FuzzMemory, bytes: Bytes, observer: Observer) {
    const header = readHeader(bytes, SIZES, false);
    super(memory, observer, header, splitInflightSize);
    const { say } = observer;
    this.driver = new SplitDriver(memory, this.places, this.options, say);
    const position = STARTS[header.start % STARTS.length];
    memory.driverPut(this.options.availableRing + 2n, 2, position);
    this.#begin(position, this.area && UNTRACKED);
  }

  #begin(position: number, tracked: Tracking | null): void {
    const options = { ...this.options, position };
    this.start(
      position,
      () => new RingModel(this.memory, options, tracked),
    );
  }

  protected override parts(): RingPart[] {
    const { descriptorTable, availableRing, usedRing, size } = this.options;
    const event = this.options.eventIdx ? 2 : 0;
    return [
      { alignment: 16n, address: descriptorTable, length: 16 * size },
      { alignment: 2n, address: availableRing, length: 4 + 2 * size + event },
      { alignment: 4n, address: usedRing, length: 4 + 8 * size + event },
    ];
  }

  protected override makeQueue(position: number): SplitQueue {
    const { area } = this;
    return new SplitQueue({
      ...this.queueOptions(position),
      inflight: area && new SplitInflight(area, this.options.size),
    });
  }

  protected override remember(): () => void {
    const state = this.model.save();
    return () => this.model.restore(copyState(state));
  }

  protected override succeed(crashed: boolean): void {
    const { position } = this.queue;
    this.say(`${crashed ? "crash" : "restart"} at ${position}`);
    this.#begin(position, this.model.state.tracking);
  }
}
