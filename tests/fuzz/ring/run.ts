/**
 * Fuzzes a split virtqueue: memory contents and operations of the device.
 *
 * Theory of operation: an input lays out a ring, then lets driver and device
 * take turns. The driver writes descriptors, chains, heads, indices and
 * anything else anywhere, also while the device reads. The device takes,
 * accesses, completes and gives back chains, publishes, restarts. The model
 * does the same; after each step chains, counters and all of memory are equal.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { expect, type Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { explainRace, type RacePlan, runRace } from "../memory/race.ts";
import { watchReads } from "../memory/racing_reads.ts";
import { QueueError, SplitQueue } from "../../../virtqueue/split_queue.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import { access, chainDifference } from "./chain_check.ts";
import { copyState, type ModelChain, RingModel, totalOf } from "./model.ts";
import { addressOf, lengthOf, type Places, putDescriptor } from "./program.ts";

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x1_0000, 0x1000],
  [0x1_1000, 0x400],
  [0x2_0000, 0x800],
  [2 ** 53 - 0x1000, 0x400],
] as const;
const HOLE = 0x1_8000;
/** Indirect tables, where the input does not say else. */
const TABLE = 0x1_0c00n;

const SIZES = [16, 8, 4, 2, 1, 64, 32] as const;
const STARTS = [0, 65535, 65530, 32767, 1] as const;
const SEGMENTS = [16, 1, 2, 4, 64] as const;
const FLAGS = [0, 1, 2, 3, 1, 3, 4, 5, 6, 7, 0xfff9, 0x8000] as const;

/** A call reads each descriptor of 32 chains at most. */
const MOST_READS = 32 * 4 * (64 + 0x1000 / 16 + 64);
/** Chains of an operation that empties the ring. */
const MOST_TAKES = 80;

/** Where the parts of a ring are. */
function layout(kind: number, at: number): [bigint, bigint, bigint] {
  const base = BigInt(REGIONS[0][0]);
  const shift = BigInt(at);
  switch (kind % 8) {
    case 5: // One on the other.
      return [base, base + 2n * (shift % 64n), base + 4n * (shift >> 6n)];
    case 6: // Near the end of a region, or over it.
      return [base + 0xc00n + shift % 0x800n, base, base + 0x800n];
    case 7: // High up.
      return [base, BigInt(REGIONS[3][0]) + shift % 0x400n, base + 0x800n];
    default:
      return [base, base + 0x600n, base + 0x800n];
  }
}

/** A ring, its driver and its device. */
export class Run {
  readonly #memory: FuzzMemory;
  readonly #observer: Observer;
  readonly #chains: { chain: DescriptorChain; model: ModelChain }[] = [];
  readonly #places: Places;
  readonly #options;
  #queue!: SplitQueue;
  #model!: RingModel;
  #bad = 0;
  #answered = 0;
  /** Nobody can know how it goes on. */
  over = false;

  constructor(memory: FuzzMemory, bytes: Bytes, observer: Observer) {
    this.#memory = memory;
    this.#observer = observer;
    const size = SIZES[bytes.u8() % SIZES.length];
    const flags = bytes.u8();
    const position = STARTS[bytes.u8() % STARTS.length];
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
      position,
      eventIdx: (flags & 1) !== 0,
      indirect: (flags & 2) === 0,
      slots: slots === 0 ? size : 1 + slots % size,
      maxSegments,
    };
    this.#places = {
      regions: REGIONS,
      parts: [descriptorTable, availableRing, usedRing],
      hole: HOLE,
    };
    memory.driverPut(availableRing + 2n, 2, position);
    this.#start(position);
  }

  #start(position: number): void {
    const { descriptorTable, availableRing, usedRing } = this.#options;
    const memory = this.#memory;
    const event = this.#options.eventIdx ? 2 : 0;
    const size = this.#options.size;
    const fits = descriptorTable % 16n === 0n && availableRing % 2n === 0n &&
      usedRing % 4n === 0n &&
      memory.holdsInOne(descriptorTable, 16 * size) &&
      memory.holdsInOne(availableRing, 4 + 2 * size + event) &&
      memory.holdsInOne(usedRing, 4 + 8 * size + event);
    try {
      this.#queue = new SplitQueue({
        ...this.#options,
        index: 0,
        memory: this.#memory.share(),
        position,
        descriptorTable: Number(descriptorTable),
        availableRing: Number(availableRing),
        usedRing: Number(usedRing),
      });
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      expect(!fits, () => `The ring does not start: ${error.message}`);
      this.over = true;
      return;
    }
    expect(fits, () => "A ring started that is not in memory");
    this.#model = new RingModel(memory, { ...this.#options, position });
    this.#bad = 0;
    this.#answered = 0;
    this.#check("the start");
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
    const { counters, inFlight, broken, position } = this.#queue;
    const { state } = this.#model;
    const found = [
      counters.badChains,
      counters.completed,
      inFlight,
      broken !== null,
      position,
    ];
    const right = [
      state.bad - this.#bad,
      state.answered - this.#answered,
      state.inFlight.length,
      state.broken,
      this.#model.position,
    ];
    return found.every((value, i) => value === right[i])
      ? null
      : `bad, answered, in flight, broken, position are ${found}, not ${right}`;
  }

  #note(operation: number, outcome: number): void {
    const { inFlight, parked, broken } = this.#model.state;
    this.#observer.reached(
      operation | outcome << 4 | Math.min(inFlight.length, 3) << 8 |
        Math.min(parked.length, 3) << 10 | (broken ? 1 : 0) << 12 |
        (this.#options.eventIdx ? 1 : 0) << 13,
    );
  }

  /** One record. */
  step(bytes: Bytes): void {
    const kind = bytes.u8() % 16;
    const a = bytes.u8(), b = bytes.u8(), c = bytes.u8();
    const d = bytes.u16(), e = bytes.u16(), f = bytes.u32();
    switch (kind) {
      case 0:
        return this.#descriptor(a, b, c, d, e, f);
      case 1:
      case 2:
        return this.#chain(a, b, c, d, e);
      case 3:
        return this.#offer(a < 0xf0 ? a % this.#options.size : a * 257);
      case 4:
        return this.#jump(a < 0x80 ? a : d);
      case 5:
        return this.#poke(a, b, d, f);
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
        return this.#event(a, d);
      case 14:
        return this.#restart();
      default:
        this.#takeMany(MOST_TAKES);
        while (this.#chains.length > 0 && !this.over) this.#complete(0, a, c);
        return this.#publish();
    }
  }

  // The driver.

  #descriptor(
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    f: number,
  ): void {
    const inTable = (a & 0x80) !== 0;
    const at = inTable
      ? TABLE + 16n * BigInt(a % 32)
      : this.#options.descriptorTable + 16n * BigInt(a % this.#options.size);
    const next = f >>> 8 & 0xff;
    const descriptor = {
      address: addressOf(this.#places, b, d),
      length: lengthOf(c, e),
      flags: FLAGS[f % FLAGS.length],
      next: next < 0xf0 ? next % (this.#options.size + 2) : next * 257,
    };
    putDescriptor(this.#memory, at, descriptor);
    this.#say(
      `descriptor 0x${at.toString(16)}: ${descriptor.length} at 0x${
        descriptor.address.toString(16)
      }, flags ${descriptor.flags}, next ${descriptor.next}`,
    );
  }

  /** A chain that keeps the rules, but for where its buffers are. */
  #chain(a: number, b: number, c: number, d: number, e: number): void {
    const { size, descriptorTable } = this.#options;
    const count = 1 + a % 6;
    const head = b % size;
    const indirect = (c & 1) !== 0;
    const readable = (c >> 3) % (count + 1);
    const table = (c & 2) !== 0
      ? BigInt(REGIONS[1][0]) - 8n * BigInt(1 + (c >> 4))
      : TABLE + ((c & 4) !== 0 ? 24n : 0n);
    for (let i = 0; i < count; i++) {
      const last = i === count - 1;
      const place = indirect ? i : (head + i) % size;
      putDescriptor(
        this.#memory,
        (indirect ? table : descriptorTable) + 16n * BigInt(place),
        {
          address: addressOf(this.#places, d & 15, (d >> 4) + 48 * i),
          length: lengthOf(e & 7, (e >> 3) + i),
          flags: (i >= readable ? 2 : 0) | (last ? 0 : 1),
          next: last ? 0 : indirect ? i + 1 : (head + i + 1) % size,
        },
      );
    }
    if (indirect) {
      const address = table, length = 16 * count;
      putDescriptor(
        this.#memory,
        descriptorTable + 16n * BigInt(head),
        { address, length, flags: 4, next: 0 },
      );
    }
    this.#say(
      `chain of ${count} at ${head}, ${readable} readable` +
        (indirect ? `, table at 0x${table.toString(16)}` : ""),
    );
    if ((c & 0x80) === 0) this.#offer(head);
  }

  #offer(head: number): void {
    const { availableRing, size } = this.#options;
    const index = this.#memory.read(availableRing + 2n, 2);
    const entry = availableRing + 4n + 2n * BigInt(index % size);
    this.#memory.driverPut(entry, 2, head);
    this.#memory.driverPut(availableRing + 2n, 2, index + 1 & 0xffff);
    this.#say(`head ${head} becomes available at ${index}`);
  }

  #jump(ahead: number): void {
    const { availableRing } = this.#options;
    const index = this.#model.state.position + ahead & 0xffff;
    this.#memory.driverPut(availableRing + 2n, 2, index);
    this.#say(`available index becomes ${index}`);
  }

  #poke(a: number, b: number, d: number, f: number): void {
    const address = addressOf(this.#places, a, d);
    const size = [4, 2, 1, 8][b % 4];
    this.#memory.driverPut(address, size, f);
    this.#say(`0x${address.toString(16)} becomes ${f} (${size} bytes)`);
  }

  #event(a: number, d: number): void {
    const { availableRing, size } = this.#options;
    const { used } = this.#model.state;
    if (a % 2 === 0) {
      const event = availableRing + 4n + 2n * BigInt(size);
      const index = used + (d % 16) - 8 & 0xffff;
      this.#memory.driverPut(event, 2, index);
      this.#say(`used_event becomes ${index}`);
    } else {
      this.#memory.driverPut(availableRing, 2, d);
      this.#say(`flags become ${d}`);
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

  #taken(chain: DescriptorChain | null, model: ModelChain | null): void {
    this.#say(chain === null ? "take: nothing" : `take: ${chain.head}`);
    if (chain !== null) this.#chains.push({ chain, model: model! });
    this.#note(6, chain === null ? 0 : chain.truncated ? 2 : 1);
  }

  #difference(
    chain: DescriptorChain | null,
    model: ModelChain | null,
  ): string | null {
    const { maxSegments } = this.#options;
    return chainDifference(this.#memory, chain, model, maxSegments) ??
      this.#counters() ?? this.#memory.difference();
  }

  #takeRacing(plan: RacePlan): void {
    const memory = this.#memory;
    const state = this.#model.save();
    const race = runRace(memory, plan, MOST_READS, () => this.#queue.take());
    const { result: chain, word, seen } = race;
    let model: ModelChain | null = null;
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
      restore: () => this.#model.restore(copyState(state)),
    });
    if (difference === "unknown") this.over = true;
    else {
      expect(difference === null, () => `After a racing take ${difference}`);
      this.#taken(chain, model);
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
    const length = e % 1024;
    const what = access(this.#memory, chain, model, {
      kind: b,
      position,
      length,
      value: f,
    });
    this.#say(`chain ${chain.head}: ${what}`);
    this.#check(what);
    this.#note(12, b % 9);
  }

  #restart(): void {
    while (this.#chains.length > 0) this.#complete(0, 0, 0);
    this.#publish();
    const { position } = this.#queue;
    this.#say(`restart at ${position}`);
    this.#start(position);
    this.#note(14, 0);
  }
}
