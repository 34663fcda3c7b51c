/**
 * Fuzzes a packed virtqueue: memory contents and operations of the device.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import type { Observer } from "../engine/target.ts";
import type { FuzzMemory, RacingWord } from "../memory/fuzz_memory.ts";
import { startWith } from "../queue/hostile_area.ts";
import { readHeader } from "../queue/options.ts";
import { type Figure, QueueRun, type RingPart } from "../queue/run.ts";
import {
  PackedInflight,
  packedInflightSize,
} from "../../../virtqueue/packed_inflight.ts";
import { PackedQueue } from "../../../virtqueue/packed_queue.ts";
import { encodePosition } from "../../../virtqueue/packed_ring.ts";
import { PackedDriver } from "./driver.ts";
import { type Legacy, type PackedChain, PackedModel } from "./model.ts";

/** Sizes of rings. */
const SIZES = [16, 7, 4, 3, 1, 64, 33, 2] as const;
/** Where the ring has come when it starts: laps, and entries before the next. */
const STARTS = [[0, 0], [1, 1], [1, 0], [0, 2], [2, 0]] as const;

/** The next descriptor to take and the next to use, from lap 0 on. */
type Base = readonly [available: number, used: number];

/** A packed ring, its driver and its device. */
export class PackedRun extends QueueRun<PackedChain, PackedModel> {
  protected readonly driver: PackedDriver;

  constructor(memory: FuzzMemory, bytes: Bytes, observer: Observer) {
    const header = readHeader(bytes, SIZES, true);
    super(memory, observer, header, packedInflightSize);
    const [laps, before] = STARTS[header.start % STARTS.length];
    const at = Math.max(0, laps * this.options.size - before);
    const { say } = observer;
    this.driver = new PackedDriver(memory, this.places, this.options, at, say);
    this.#begin([at, at], null);
  }

  #begin(at: Base, legacy: Legacy | null): void {
    this.start(
      this.#base(at),
      () => new PackedModel(this.memory, this.options, at, legacy),
    );
  }

  /** Both places as front-ends say them. */
  #base([available, used]: Base): number {
    const { size } = this.options;
    const half = (at: number) => encodePosition(at % (2 * size), size);
    return (half(available) | half(used) << 16) >>> 0;
  }

  protected override parts(): RingPart[] {
    const { descriptorTable, availableRing, usedRing, size } = this.options;
    return [
      { alignment: 16n, address: descriptorTable, length: 16 * size },
      { alignment: 4n, address: availableRing, length: 4 },
      { alignment: 4n, address: usedRing, length: 4 },
    ];
  }

  protected override makeQueue(position: number): PackedQueue {
    const { area } = this;
    return new PackedQueue({
      ...this.queueOptions(position),
      inflight: area && new PackedInflight(area, this.options.size),
    });
  }

  protected override figures(): Figure[] {
    const { queue, model } = this;
    return [
      ...super.figures(),
      {
        name: "base",
        found: queue.base,
        right: model.stand ? this.#base(model.base) : -1,
      },
      {
        name: "recovering",
        found: queue.recovering,
        right: model.recovering,
      },
    ];
  }

  protected override remember(): () => void {
    const { state } = this.model;
    return () => this.model.state = state;
  }

  /** Flags of descriptors ahead may have been counted before or after. */
  protected override blurs({ address }: RacingWord): boolean {
    const { descriptorTable, size } = this.options;
    const inRing = address - descriptorTable;
    return inRing >= 0n && inRing < 16n * BigInt(size) && inRing % 16n === 12n;
  }

  protected override succeed(crashed: boolean): void {
    const { legacy, state } = this.model;
    this.say(`${crashed ? "crash" : "restart"} at ${state.at}`);
    const base: Base = crashed ? [0, 0] : this.model.base;
    // An answer to a bad chain lies over one that was given back: that cannot be
    // repaired, as virtqueue/README.md says.
    if (base[0] < base[1]) this.over = true;
    if (this.over) return;
    if (this.area === null) {
      // A base whose upper half is 0 says that both places are the same.
      const [available] = base;
      const same = this.#base(base) < 65536;
      return this.#begin(same ? [available, available] : base, null);
    }
    if (!state.confused) return this.#begin(base, legacy);
    // What such a driver gets again is its own affair.
    startWith(() => this.makeQueue(this.#base(base)));
    this.over = true;
  }
}
