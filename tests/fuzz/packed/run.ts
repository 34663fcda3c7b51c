/**
 * Fuzzes a packed virtqueue: memory contents and operations of the device.
 *
 * Theory of operation: as the target "ring" does it with a split one. Driver and
 * device take turns; the driver writes anything anywhere, also while the device
 * reads. The model does the same as the device; after each step chains, counters
 * and all of memory are equal.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { expect, type Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { explainRace, type RacePlan, runRace } from "../memory/race.ts";
import { watchReads } from "../memory/racing_reads.ts";
import { access, chainDifference } from "../ring/chain_check.ts";
import {
  HOLE,
  layout,
  MOST_READS,
  MOST_TAKES,
  REGIONS,
  SEGMENTS,
} from "../ring/layout.ts";
import { totalOf } from "../ring/model.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import {
  PackedInflight,
  packedInflightSize,
} from "../../../virtqueue/packed_inflight.ts";
import {
  PackedQueue,
  type PackedQueueOptions,
} from "../../../virtqueue/packed_queue.ts";
import { encodePosition } from "../../../virtqueue/packed_ring.ts";
import { QueueError } from "../../../virtqueue/queue_error.ts";
import { PackedDriver } from "./driver.ts";
import { startWith } from "./hostile_area.ts";
import { type Legacy, type PackedChain, PackedModel } from "./model.ts";

/** Sizes of rings. */
const SIZES = [16, 7, 4, 3, 1, 64, 33, 2] as const;
/** Where the ring has come when it starts: laps, and entries before the next. */
const STARTS = [[0, 0], [1, 1], [1, 0], [0, 2], [2, 0]] as const;

/** A ring, its driver and its device. */
export class PackedRun {
  readonly #memory: FuzzMemory;
  /** The device's side of it. */
  readonly #shared: GuestMemory;
  readonly #observer: Observer;
  readonly #chains: { chain: DescriptorChain; model: PackedChain }[] = [];
  readonly #driver: PackedDriver;
  readonly #options;
  /** Where requests in flight are tracked, across restarts. */
  readonly #area: Uint8Array<ArrayBuffer> | null;
  #queue!: PackedQueue;
  #model!: PackedModel;
  /** Nobody can know how it goes on. */
  over = false;

  constructor(memory: FuzzMemory, bytes: Bytes, observer: Observer) {
    this.#memory = memory;
    this.#shared = memory.share();
    this.#observer = observer;
    const size = SIZES[bytes.u8() % SIZES.length];
    const flags = bytes.u8();
    const [laps, before] = STARTS[bytes.u8() % STARTS.length];
    const slots = bytes.u8();
    const maxSegments = SEGMENTS[bytes.u8() % SEGMENTS.length];
    const [descriptorTable, availableRing, usedRing] = layout(
      bytes.u8(),
      bytes.u16(),
    );
    this.#options = {
      size,
      descriptorTable,
      availableRing,
      usedRing,
      eventIdx: (flags & 1) !== 0,
      indirect: (flags & 2) === 0,
      inOrder: (flags & 8) !== 0,
      slots: slots === 0 ? size : 1 + slots % size,
      maxSegments,
    };
    const places = {
      regions: REGIONS,
      parts: [descriptorTable, availableRing, usedRing],
      hole: HOLE,
    };
    const at = Math.max(0, laps * size - before);
    const { say } = observer;
    this.#driver = new PackedDriver(memory, places, this.#options, at, say);
    this.#area = (flags & 4) !== 0
      ? new Uint8Array(packedInflightSize(size))
      : null;
    this.#start([at, at], null);
  }

  /** Each part of the ring is aligned and in one region. */
  #fits(): boolean {
    const { descriptorTable, availableRing, usedRing, size } = this.#options;
    const memory = this.#memory;
    return descriptorTable % 16n === 0n && availableRing % 4n === 0n &&
      usedRing % 4n === 0n &&
      memory.holdsInOne(descriptorTable, 16 * size) &&
      memory.holdsInOne(availableRing, 4) && memory.holdsInOne(usedRing, 4);
  }

  #start(at: readonly [number, number], legacy: Legacy | null): void {
    const fits = this.#fits();
    try {
      this.#queue = new PackedQueue({
        ...this.#queueOptions(this.#base(at)),
        inflight: this.#area &&
          new PackedInflight(this.#area, this.#options.size),
      });
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      expect(!fits, () => `The ring does not start: ${error.message}`);
      this.over = true;
      return;
    }
    expect(fits, () => "A ring started that is not in memory");
    this.#model = new PackedModel(this.#memory, this.#options, at, legacy);
    this.#check("the start");
  }

  /** Both places as front-ends say them. */
  #base([available, used]: readonly [number, number]): number {
    const { size } = this.#options;
    const half = (at: number) => encodePosition(at % (2 * size), size);
    return (half(available) | half(used) << 16) >>> 0;
  }

  #queueOptions(position: number): PackedQueueOptions {
    const { descriptorTable, availableRing, usedRing } = this.#options;
    return {
      ...this.#options,
      index: 0,
      memory: this.#shared,
      position,
      descriptorTable: Number(descriptorTable),
      availableRing: Number(availableRing),
      usedRing: Number(usedRing),
    };
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }

  /** Everything that can be seen is what the model says. */
  #check(after: string): void {
    this.#memory.compare(after);
    const difference = this.#counters();
    expect(difference === null, () => `After ${after} ${difference}`);
  }

  #counters(): string | null {
    const queue = this.#queue, model = this.#model;
    const { state } = model;
    const found = [
      queue.counters.badChains,
      queue.counters.completed,
      queue.inFlight,
      queue.broken !== null,
      queue.position,
      queue.base,
      queue.recovering,
    ];
    const right = [
      state.bad,
      state.answered,
      state.inFlight.length,
      state.broken,
      model.position,
      this.#base(model.base),
      model.recovering,
    ];
    return found.every((value, i) => value === right[i])
      ? null
      : `bad, answered, in flight, broken, position, base, recovering are ` +
        `${found}, not ${right}`;
  }

  #note(operation: number, outcome: number): void {
    const { inFlight, parked, broken } = this.#model.state;
    const { eventIdx, inOrder } = this.#options;
    this.#observer.reached(
      operation | outcome << 4 | Math.min(inFlight.length, 3) << 8 |
        Math.min(parked.length, 3) << 10 | (broken ? 1 : 0) << 12 |
        (eventIdx ? 1 : 0) << 13 | (inOrder ? 1 : 0) << 14,
    );
  }

  /** One record. */
  step(bytes: Bytes): void {
    const kind = bytes.u8() % 16;
    const a = bytes.u8(), b = bytes.u8(), c = bytes.u8();
    const d = bytes.u16(), e = bytes.u16(), f = bytes.u32();
    const driver = this.#driver;
    switch (kind) {
      case 0:
        return driver.descriptor(a, b, c, d, e, f);
      case 1:
      case 2:
      case 3:
        return driver.chain(a, b, c, d, e);
      case 4:
        return (a & 0x80) === 0
          ? driver.mark(this.#model.state.at + b % 4, a % 4 !== 0)
          : driver.jump(this.#model.state.at + (b < 0xc0 ? 0 : b % 8));
      case 5:
        return driver.poke(a, b, d, f);
      case 6:
        return this.#takeMany(1 + a % 4);
      case 7:
        return this.#takeRacing({
          moment: d < 0xf000 ? a % 32 : d & 0xff,
          back: b % 12,
          kind: c,
          value: f,
        });
      case 8:
        return this.#complete(a, b, c);
      case 9:
        return this.#untake(a);
      case 10:
        return this.#publish();
      case 11:
        return this.#notifications(a % 4);
      case 12:
        return this.#access(a, b, d, e, f);
      case 13:
        return driver.event(this.#model.state.used, a, d);
      case 14:
        if (b >= 0xe0) return this.#scribble(d, f);
        if (b >= 0xa0) return this.#remap(1 + d % 3);
        return a % 2 === 0 ? this.#crash() : this.#restart();
      default:
        this.#takeMany(MOST_TAKES);
        while (this.#chains.length > 0 && !this.over) this.#complete(0, a, c);
        return this.#publish();
    }
  }

  // The device.

  #takeMany(most: number): void {
    for (let i = 0; i < most; i++) {
      const chain = watchReads(
        { limit: MOST_READS },
        () => this.#queue.take(),
      );
      const model = this.#model.take();
      const difference = this.#difference(chain, model);
      expect(difference === null, () => `After take ${difference}`);
      this.#taken(chain, model);
      if (chain === null) break;
    }
  }

  #taken(chain: DescriptorChain | null, model: PackedChain | null): void {
    this.#say(chain === null ? "take: nothing" : `take: ${chain.head}`);
    if (chain !== null) this.#chains.push({ chain, model: model! });
    this.#note(6, chain === null ? 0 : chain.truncated ? 2 : 1);
  }

  #difference(
    chain: DescriptorChain | null,
    model: PackedChain | null,
  ): string | null {
    const { maxSegments } = this.#options;
    return chainDifference(this.#memory, chain, model, maxSegments) ??
      this.#counters() ?? this.#memory.difference();
  }

  #takeRacing(plan: RacePlan): void {
    const memory = this.#memory;
    const { state } = this.#model;
    const race = runRace(memory, plan, MOST_READS, () => this.#queue.take());
    const { result: chain, word, seen } = race;
    let model: PackedChain | null = null;
    const attempt = (): string | null => {
      model = this.#model.take();
      return this.#difference(chain, model);
    };
    if (word === null) {
      const difference = attempt();
      expect(difference === null, () => `After take ${difference}`);
      return this.#taken(chain, model);
    }
    this.#say(
      `0x${word.address.toString(16)} becomes ${word.value} before read ` +
        `${plan.moment}`,
    );
    const difference = explainRace(memory, word, seen, {
      attempt,
      restore: () => this.#model.state = state,
    });
    if (difference === "unknown") this.over = true;
    else {
      expect(difference === null, () => `After a racing take ${difference}`);
      this.#taken(chain, model);
      // Flags of descriptors ahead may have been counted before or after.
      const { descriptorTable, size } = this.#options;
      const inRing = word.address - descriptorTable;
      const flags = inRing >= 0n && inRing < 16n * BigInt(size) &&
        inRing % 16n === 12n;
      if (flags) this.over = true;
    }
  }

  #complete(a: number, b: number, c: number): void {
    if (this.#chains.length === 0) return;
    const [{ chain, model }] = this.#chains.splice(
      a % this.#chains.length,
      1,
    );
    const room = totalOf(model.writable);
    const written = [0, room, c % (room + 1), room + 1][b % 4];
    const fits = written <= room;
    this.#say(`complete ${chain.head} with ${written} of ${room}`);
    try {
      this.#queue.complete(chain, written);
      expect(fits, () => `${written} bytes were written to ${room}`);
      this.#model.complete(model, written);
    } catch (error) {
      if (!(error instanceof QueueError) || fits) throw error;
      this.#chains.push({ chain, model });
      this.#complete(this.#chains.length - 1, 0, 0);
    }
    this.#check("complete");
    this.#note(8, b % 4);
  }

  #untake(a: number): void {
    if (this.#chains.length === 0) return;
    const which = a % 4 > 0
      ? this.#chains.length - 1
      : (a >> 2) % this.#chains.length;
    const { chain, model } = this.#chains[which];
    const may = this.#model.canUntake(model);
    this.#say(`untake ${chain.head}, which ${may ? "may" : "must not"} be`);
    try {
      this.#queue.untake(chain);
    } catch (error) {
      if (!(error instanceof QueueError) || may) throw error;
      this.#check("untake out of order");
      return this.#note(9, 1);
    }
    expect(may, () => `Chain ${chain.head} was given back out of order`);
    this.#model.untake(model);
    this.#chains.splice(which, 1);
    this.#check("untake");
    this.#note(9, 0);
  }

  #publish(): void {
    const wanted = this.#queue.publish();
    const right = this.#model.publish();
    this.#say(`publish: ${wanted}`);
    expect(wanted === right, () => `publish is ${wanted}, not ${right}`);
    this.#check("publish");
    this.#note(10, wanted ? 1 : 0);
  }

  #notifications(which: number): void {
    const queue = this.#queue, model = this.#model;
    let found = false, right = false;
    if (which === 0) {
      queue.disableNotification();
      model.disableNotification();
    } else if (which === 1) {
      found = queue.enableNotification();
      right = model.enableNotification();
    } else if (which === 2) {
      found = queue.available;
      right = model.available();
    } else {
      found = queue.ready;
      right = model.ready();
    }
    const what = ["disable", "enable", "available", "ready"][which];
    this.#say(`${what}: ${found}`);
    expect(found === right, () => `${what} is ${found}, not ${right}`);
    this.#check(what);
    this.#note(11, which << 1 | (found ? 1 : 0));
  }

  #access(a: number, b: number, d: number, e: number, f: number): void {
    if (this.#chains.length === 0) return;
    const { chain, model } = this.#chains[a % this.#chains.length];
    const total = Math.max(totalOf(model.readable), totalOf(model.writable));
    const position = d < 0xf000
      ? d % (total + 4)
      : [-1, total, 2 ** 31, 2 ** 32, 2 ** 53][d % 5];
    const what = access(this.#memory, chain, model, {
      kind: b,
      position,
      length: e % 1024,
      value: f,
    });
    this.#say(`chain ${chain.head}: ${what}`);
    this.#check(what);
    this.#note(12, b % 9);
  }

  /** A region goes or comes; the device finds its ring again. */
  #remap(which: number): void {
    while (this.#chains.length > 0) this.#complete(0, 0, 0);
    const there = this.#memory.toggle(which, this.#shared);
    this.#say(`region ${which} ${there ? "comes" : "goes"}`);
    const fits = this.#fits();
    try {
      this.#queue.rebind();
    } catch (error) {
      if (!(error instanceof QueueError) || fits) throw error;
      expect(this.#queue.broken !== null, () => "The ring is gone, not broken");
      expect(
        this.#queue.take() === null,
        () => "A ring that is gone is served",
      );
      this.over = true;
      return;
    }
    expect(fits, () => "The ring was found where there is no memory");
    this.#model.rebind();
    this.#check("rebind");
    this.#note(13, there ? 1 : 0);
  }

  /** The process dies, and somebody writes to the area meanwhile. */
  #scribble(at: number, value: number): void {
    const area = this.#area;
    if (area === null) return;
    for (let i = 0; i < 4; i++) {
      area[(at + i) % area.length] = value >>> (8 * i);
    }
    const said = startWith(area, this.#queueOptions(this.#queue.base));
    this.#say(`byte ${at} of the area becomes ${value}: ${said ?? "taken"}`);
    this.over = true;
    this.#note(13, said === null ? 2 : 3);
  }

  /** The process dies, and another one goes on. */
  #crash(): void {
    if (this.#area === null) return this.#restart();
    this.#chains.length = 0;
    this.#say(`crash at ${this.#model.state.at}`);
    this.#succeed([0, 0]);
    this.#note(15, Math.min(this.#model.state.parked.length, 3));
  }

  #restart(): void {
    while (this.#chains.length > 0) this.#complete(0, 0, 0);
    this.#publish();
    this.#say(`restart at ${this.#model.state.at}`);
    this.#succeed(this.#model.base);
    this.#note(14, 0);
  }

  #succeed(base: readonly [number, number]): void {
    const { legacy, state } = this.#model;
    // An answer to a bad chain lies over one that was given back: that cannot be
    // repaired, as virtqueue/README.md says.
    if (base[0] < base[1]) this.over = true;
    if (this.over) return;
    if (this.#area === null) {
      // A base whose upper half is 0 says that both places are the same.
      const [available] = base;
      const said = this.#base(base) < 65536 ? [available, available] : base;
      return this.#start([said[0], said[1]], null);
    }
    if (!state.confused) return this.#start(base, legacy);
    // What such a driver gets again is its own affair.
    startWith(this.#area, this.#queueOptions(this.#queue.base));
    this.over = true;
  }
}
