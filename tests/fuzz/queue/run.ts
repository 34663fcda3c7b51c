/**
 * Fuzzes a virtqueue: memory contents and operations of the device.
 *
 * Theory of operation: an input lays out a ring, then lets driver and device
 * take turns. The driver writes descriptors, chains, heads, indices and
 * anything else anywhere, also while the device reads. The device takes,
 * accesses, completes and gives back chains, publishes, restarts. The model
 * does the same; after each step chains, counters and all of memory are equal.
 *
 * What depends on the layout of the ring is asked of the class that extends
 * this one: where its parts are, its driver, queue and model, and what a
 * successor begins with.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { expect, type Observer } from "../engine/target.ts";
import type { FuzzMemory, RacingWord } from "../memory/fuzz_memory.ts";
import { explainRace, type RacePlan, runRace } from "../memory/race.ts";
import { watchReads } from "../memory/racing_reads.ts";
import { access, chainDifference } from "../ring/chain_check.ts";
import { type ModelChain, totalOf } from "../ring/model.ts";
import type { Places } from "../ring/program.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import type { RunningQueue } from "../../../virtqueue/queue.ts";
import { QueueError } from "../../../virtqueue/queue_error.ts";
import type { QueueOptions as RunningOptions } from "../../../virtqueue/split_ring.ts";
import type { QueueDriver } from "./driver.ts";
import { startWith } from "./hostile_area.ts";
import { HOLE, MOST_READS, MOST_TAKES, REGIONS } from "./layout.ts";
import type { QueueModel } from "./model.ts";
import type { QueueHeader } from "./options.ts";

/** A part of a ring. */
export interface RingPart {
  /** What its address is a multiple of. */
  readonly alignment: bigint;
  readonly address: bigint;
  readonly length: number;
}

/** Something that can be seen of a queue. */
export interface Figure {
  readonly name: string;
  readonly found: number | boolean;
  /** What the model says. */
  readonly right: number | boolean;
}

/** A queue as it is run: of either layout. */
interface Queue extends RunningQueue {
  /** Finds the ring again after memory changed. */
  rebind(): void;
}

/** A ring, its driver and its device. */
export abstract class QueueRun<
  Chain extends ModelChain,
  Model extends QueueModel<Chain>,
> {
  protected readonly memory: FuzzMemory;
  protected readonly options: QueueHeader["options"];
  /** Places that inputs name. */
  protected readonly places: Places;
  /** Where requests in flight are tracked, across restarts. */
  protected readonly area: Uint8Array<ArrayBuffer> | null;
  protected abstract readonly driver: QueueDriver;
  protected queue!: Queue;
  protected model!: Model;
  /** The device's side of memory. */
  readonly #shared: GuestMemory;
  readonly #observer: Observer;
  readonly #chains: { chain: DescriptorChain; model: Chain }[] = [];
  /** Nobody can know how it goes on. */
  over = false;

  /**
   * Nothing is started yet.
   *
   * @param areaSize bytes of the area of inflight tracking for a ring of a size
   */
  constructor(
    memory: FuzzMemory,
    observer: Observer,
    { options, tracked }: QueueHeader,
    areaSize: (size: number) => number,
  ) {
    this.memory = memory;
    this.#shared = memory.share();
    this.#observer = observer;
    this.options = options;
    const { size, descriptorTable, availableRing, usedRing } = options;
    this.places = {
      regions: REGIONS,
      parts: [descriptorTable, availableRing, usedRing],
      hole: HOLE,
    };
    this.area = tracked ? new Uint8Array(areaSize(size)) : null;
  }

  // What depends on the layout.

  /** The parts of the ring. */
  protected abstract parts(): RingPart[];

  /**
   * Starts a queue with {@linkcode queueOptions} and the area.
   *
   * @throws {QueueError} when the ring is not in memory or the area is refused
   */
  protected abstract makeQueue(position: number): Queue;

  /** Notes what the model is; gives back what returns to that. */
  protected abstract remember(): () => void;

  /**
   * Starts the ring again, as a successor does.
   *
   * @param crashed the process died; else it ended with nothing in flight
   */
  protected abstract succeed(crashed: boolean): void;

  /** Whether the model cannot go on after a word changed, though all is right. */
  protected blurs(_word: RacingWord): boolean {
    return false;
  }

  /** What can be seen beside chains and memory. */
  protected figures(): Figure[] {
    const { counters, inFlight, broken, position } = this.queue;
    const { state } = this.model;
    return [
      { name: "bad", found: counters.badChains, right: state.bad },
      { name: "answered", found: counters.completed, right: state.answered },
      { name: "in flight", found: inFlight, right: state.inFlight.length },
      { name: "broken", found: broken !== null, right: state.broken },
      { name: "position", found: position, right: this.model.position },
    ];
  }

  // What does not.

  /** Each part of the ring is aligned and in one region. */
  #fits(): boolean {
    return this.parts().every(({ alignment, address, length }) =>
      address % alignment === 0n && this.memory.holdsInOne(address, length)
    );
  }

  /** Starts the queue, and then its model. */
  protected start(position: number, makeModel: () => Model): void {
    const fits = this.#fits();
    try {
      this.queue = this.makeQueue(position);
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      expect(!fits, () => `The ring does not start: ${error.message}`);
      this.over = true;
      return;
    }
    expect(fits, () => "A ring started that is not in memory");
    this.model = makeModel();
    this.#check("the start");
  }

  /** What a queue is started with, but for its area. */
  protected queueOptions(position: number): RunningOptions {
    const { descriptorTable, availableRing, usedRing } = this.options;
    return {
      ...this.options,
      index: 0,
      memory: this.#shared,
      position,
      descriptorTable: Number(descriptorTable),
      availableRing: Number(availableRing),
      usedRing: Number(usedRing),
    };
  }

  protected say(line: string): void {
    this.#observer.say?.(line);
  }

  /** Everything that can be seen is what the model says. */
  #check(after: string): void {
    this.memory.compare(after);
    const difference = this.#counters();
    expect(difference === null, () => `After ${after} ${difference}`);
  }

  #counters(): string | null {
    const figures = this.figures();
    if (figures.every(({ found, right }) => found === right)) return null;
    return `${figures.map(({ name }) => name).join(", ")} are ` +
      `${figures.map(({ found }) => found)}, not ` +
      `${figures.map(({ right }) => right)}`;
  }

  #note(operation: number, outcome: number): void {
    const { inFlight, parked, broken } = this.model.state;
    const { eventIdx, inOrder } = this.options;
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
    const { driver } = this;
    switch (kind) {
      case 0:
        return driver.descriptor(a, b, c, d, e, f);
      case 1:
      case 2:
        return driver.chain(a, b, c, d, e);
      case 3:
        return driver.offer(a, b, c, d, e);
      case 4:
        return driver.jump(this.model.next, a, b, d);
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
        return driver.event(this.model.state.used, a, d);
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
        () => this.queue.take(),
      );
      const model = this.model.take();
      const difference = this.#difference(chain, model);
      expect(difference === null, () => `After take ${difference}`);
      this.#taken(chain, model);
      if (chain === null) break;
    }
  }

  #taken(chain: DescriptorChain | null, model: Chain | null): void {
    this.say(chain === null ? "take: nothing" : `take: ${chain.head}`);
    if (chain !== null) this.#chains.push({ chain, model: model! });
    this.#note(6, chain === null ? 0 : chain.truncated ? 2 : 1);
  }

  #difference(
    chain: DescriptorChain | null,
    model: Chain | null,
  ): string | null {
    const { maxSegments } = this.options;
    return chainDifference(this.memory, chain, model, maxSegments) ??
      this.#counters() ?? this.memory.difference();
  }

  #takeRacing(plan: RacePlan): void {
    const memory = this.memory;
    const restore = this.remember();
    const race = runRace(memory, plan, MOST_READS, () => this.queue.take());
    const { result: chain, word, seen } = race;
    let model: Chain | null = null;
    const attempt = (): string | null => {
      model = this.model.take();
      return this.#difference(chain, model);
    };
    if (word === null) {
      const difference = attempt();
      expect(difference === null, () => `After take ${difference}`);
      return this.#taken(chain, model);
    }
    this.say(
      `0x${word.address.toString(16)} becomes ${word.value} before read ` +
        `${plan.moment}`,
    );
    const difference = explainRace(memory, word, seen, { attempt, restore });
    if (difference === "unknown") this.over = true;
    else {
      expect(difference === null, () => `After a racing take ${difference}`);
      this.#taken(chain, model);
      if (this.blurs(word)) this.over = true;
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
    this.say(`complete ${chain.head} with ${written} of ${room}`);
    try {
      this.queue.complete(chain, written);
      expect(fits, () => `${written} bytes were written to ${room}`);
      this.model.complete(model, written);
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
    const may = this.model.canUntake(model);
    this.say(`untake ${chain.head}, which ${may ? "may" : "must not"} be`);
    try {
      this.queue.untake(chain);
    } catch (error) {
      if (!(error instanceof QueueError) || may) throw error;
      this.#check("untake out of order");
      return this.#note(9, 1);
    }
    expect(may, () => `Chain ${chain.head} was given back out of order`);
    this.model.untake(model);
    this.#chains.splice(which, 1);
    this.#check("untake");
    this.#note(9, 0);
  }

  #publish(): void {
    const wanted = this.queue.publish();
    const right = this.model.publish();
    this.say(`publish: ${wanted}`);
    expect(wanted === right, () => `publish is ${wanted}, not ${right}`);
    this.#check("publish");
    this.#note(10, wanted ? 1 : 0);
  }

  #notifications(which: number): void {
    const { queue, model } = this;
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
    this.say(`${what}: ${found}`);
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
    const length = e % 1024;
    const what = access(this.memory, chain, model, {
      kind: b,
      position,
      length,
      value: f,
    });
    this.say(`chain ${chain.head}: ${what}`);
    this.#check(what);
    this.#note(12, b % 9);
  }

  /** A region goes or comes; the device finds its ring again. */
  #remap(which: number): void {
    while (this.#chains.length > 0) this.#complete(0, 0, 0);
    const there = this.memory.toggle(which, this.#shared);
    this.say(`region ${which} ${there ? "comes" : "goes"}`);
    const fits = this.#fits();
    try {
      this.queue.rebind();
    } catch (error) {
      if (!(error instanceof QueueError) || fits) throw error;
      expect(this.queue.broken !== null, () => "The ring is gone, not broken");
      expect(
        this.queue.take() === null,
        () => "A ring that is gone is served",
      );
      this.over = true;
      return;
    }
    expect(fits, () => "The ring was found where there is no memory");
    this.model.rebind?.();
    this.#check("rebind");
    this.#note(13, there ? 1 : 0);
  }

  /** The process dies, and somebody writes to the area meanwhile. */
  #scribble(at: number, value: number): void {
    const { area } = this;
    if (area === null) return;
    for (let i = 0; i < 4; i++) {
      area[(at + i) % area.length] = value >>> (8 * i);
    }
    const said = startWith(() => this.makeQueue(this.queue.base));
    this.say(`byte ${at} of the area becomes ${value}: ${said ?? "taken"}`);
    this.over = true;
    this.#note(13, said === null ? 2 : 3);
  }

  /** The process dies, and another one goes on. */
  #crash(): void {
    if (this.area === null) return this.#restart();
    this.#chains.length = 0;
    this.succeed(true);
    this.#note(15, Math.min(this.model.state.parked.length, 3));
  }

  #restart(): void {
    while (this.#chains.length > 0) this.#complete(0, 0, 0);
    this.#publish();
    this.succeed(false);
    this.#note(14, 0);
  }
}
