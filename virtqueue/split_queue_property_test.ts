/**
 * Random interleavings of what a driver and a device do: nothing is lost,
 * nothing is doubled, chains come in order. And random garbage in the ring:
 * nothing is thrown, nothing beyond the bounds happens.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DescriptorChain } from "./chain.ts";
import { GuestMemory } from "./memory.ts";
import { SplitQueue } from "./split_queue.ts";
import { type FakeBuffer, FakeDriver, FakeMemory } from "./testing/driver.ts";
import { queueOptions } from "./testing/queue.ts";

type Action =
  | { kind: "submit"; buffers: number; indirect: boolean; flush: boolean }
  | { kind: "bad" }
  | { kind: "take"; count: number }
  | { kind: "complete"; which: number }
  | { kind: "untake"; count: number }
  | { kind: "publish" }
  | { kind: "reap"; limit: number }
  | { kind: "restart" };

const actions = fc.array(
  fc.oneof<fc.Arbitrary<Action>[]>(
    fc.record({
      kind: fc.constant("submit"),
      buffers: fc.integer({ min: 1, max: 4 }),
      indirect: fc.boolean(),
      flush: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant("submit"),
      buffers: fc.integer({ min: 1, max: 2 }),
      indirect: fc.constant(false),
      flush: fc.constant(true),
    }),
    fc.record({ kind: fc.constant("bad") }),
    fc.record({
      kind: fc.constant("take"),
      count: fc.integer({ min: 1, max: 5 }),
    }),
    fc.record({ kind: fc.constant("complete"), which: fc.nat(7) }),
    fc.record({ kind: fc.constant("complete"), which: fc.nat(7) }),
    fc.record({
      kind: fc.constant("untake"),
      count: fc.integer({ min: 1, max: 4 }),
    }),
    fc.record({ kind: fc.constant("publish") }),
    fc.record({ kind: fc.constant("reap"), limit: fc.nat(6) }),
    fc.record({ kind: fc.constant("restart") }),
  ),
  { maxLength: 120, size: "max" },
);

/** A driver, a device and what must be true of them. */
class Play {
  readonly driver: FakeDriver;
  readonly #slots: number;
  readonly #guest: GuestMemory;
  queue: SplitQueue;
  /** Chains that the device holds, in the order of taking. */
  readonly held: DescriptorChain[] = [];
  /** Tokens in the order of submission that were not taken (for good). */
  readonly waiting: number[] = [];
  /** Length answered for each token. */
  readonly answered = new Map<number, number>();
  readonly reaped = new Set<number>();
  /** Tokens of chains that the device must not see. */
  readonly bad = new Set<number>();

  constructor(size: number, start: number, eventIdx: boolean, slots: number) {
    const memory = new FakeMemory([
      { guestAddress: 2 ** 32, bytes: 16384 },
      { guestAddress: 0, bytes: 16384 },
    ]);
    this.driver = new FakeDriver(memory, { size, start, eventIdx });
    this.#guest = memory.share(new GuestMemory());
    this.#slots = slots;
    this.queue = this.#start(start);
  }

  #start(position: number): SplitQueue {
    const slots = this.#slots;
    const memory = this.#guest;
    const changes = { position, slots, memory };
    return new SplitQueue(queueOptions(this.driver, changes));
  }

  submit(buffers: number, indirect: boolean, flush: boolean): void {
    const list: FakeBuffer[] = [{ readable: new Uint8Array(4) }];
    for (let i = 1; i < buffers; i++) list.push({ writable: i });
    const token = this.driver.submit(list, { indirect, flush: false });
    if (token < 0) return;
    this.waiting.push(token);
    this.#stamp(token);
    if (flush) this.driver.flush();
  }

  /** Submits a chain that breaks a rule: readable behind writable. */
  submitBad(): void {
    const list = [{ writable: 1 }, { readable: new Uint8Array(4) }];
    const token = this.driver.submit(list);
    if (token < 0) return;
    this.waiting.push(token);
    this.bad.add(token);
  }

  /** Writes the token into the buffer that the device will read. */
  #stamp(token: number): void {
    const { driver } = this;
    const entry = (driver.start + token) & (driver.size - 1);
    const head = driver.memory.getUint16(driver.availableRing + 4 + 2 * entry);
    let at = driver.descriptorTable + 16 * head;
    const indirect = (driver.memory.getUint16(at + 12) & 4) !== 0;
    if (indirect) at = address(driver.memory, at);
    driver.memory.setUint32(address(driver.memory, at), token);
  }

  take(count: number): void {
    for (let i = 0; i < count; i++) {
      if (this.held.length === this.#slots) {
        return assertEquals(this.queue.take(), null);
      }
      const chain = this.queue.take();
      while (this.bad.has(this.waiting[0])) {
        this.answered.set(this.waiting.shift()!, 0);
      }
      if (chain === null) return;
      assertEquals(chain.readUint32(0), this.waiting.shift());
      assert(!this.held.includes(chain));
      this.held.push(chain);
      assert(this.held.length <= this.#slots);
    }
  }

  complete(which: number): void {
    if (this.held.length === 0) return;
    const [chain] = this.held.splice(which % this.held.length, 1);
    this.answered.set(chain.readUint32(0), chain.writableLength);
    this.queue.complete(chain, chain.writableLength);
  }

  /** Gives back chains taken last, as long as none behind them was answered. */
  untake(count: number): void {
    for (let i = 0; i < count && this.held.length > 0; i++) {
      const chain = this.held[this.held.length - 1];
      const token = chain.readUint32(0);
      let next = token + 1;
      while (this.bad.has(next)) next++;
      if (this.answered.has(next)) return;
      this.held.pop();
      this.queue.untake(chain);
      // Bad chains behind it were answered, or are still to be met.
      this.waiting.unshift(token);
    }
  }

  reap(limit: number): void {
    for (const { token, length } of this.driver.reap(limit)) {
      assert(!this.reaped.has(token));
      this.reaped.add(token);
      if (this.bad.has(token)) assertEquals(length, 0);
      else assertEquals(this.answered.get(token), length);
    }
  }

  restart(): void {
    while (this.held.length > 0) this.complete(0);
    // A bad chain that was answered before an earlier one was given back will
    // be answered again: no position in the ring can tell them apart.
    for (const token of this.bad) {
      if (this.answered.has(token) && token > this.waiting[0]) return;
    }
    this.queue.publish();
    this.queue = this.#start(this.queue.position);
  }

  apply(action: Action): void {
    switch (action.kind) {
      case "submit":
        return this.submit(action.buffers, action.indirect, action.flush);
      case "bad":
        return this.submitBad();
      case "take":
        return this.take(action.count);
      case "complete":
        return this.complete(action.which);
      case "untake":
        return this.untake(action.count);
      case "publish":
        return void this.queue.publish();
      case "reap":
        return this.reap(action.limit);
      case "restart":
        return this.restart();
    }
  }
}

function address(memory: FakeMemory, descriptor: number): number {
  return memory.getUint32(descriptor) +
    memory.getUint32(descriptor + 4) * 2 ** 32;
}

Deno.test("whatever the two do, every request is answered once, in order", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 4, 8, 16),
      fc.constantFrom(0, 65535, 65520),
      fc.boolean(),
      fc.integer({ min: 1, max: 16 }),
      actions,
      (size, start, eventIdx, slots, list) => {
        const play = new Play(size, start, eventIdx, slots);
        for (const action of list) {
          play.apply(action);
          assertEquals(play.queue.inFlight, play.held.length);
          assertEquals(play.queue.broken, null);
        }
        play.driver.flush();
        for (let i = 0; i < 200; i++) {
          play.take(16);
          while (play.held.length > 0) play.complete(0);
          play.queue.publish();
          play.reap(Infinity);
        }
        assertEquals(play.driver.inFlight, 0);
        assertEquals(play.queue.available, false);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("garbage in the ring throws nothing and stays in bounds", () => {
  const word = fc.nat(0xffff);
  const poke = fc.oneof(
    fc.record({ kind: fc.constant("head" as const), at: word, value: word }),
    fc.record({
      kind: fc.constant("head" as const),
      at: word,
      value: fc.nat(9),
    }),
    fc.record({
      kind: fc.constant("index" as const),
      at: fc.nat(10),
      value: fc.oneof(
        { arbitrary: fc.nat(8), weight: 20 },
        { arbitrary: word, weight: 1 },
      ),
    }),
    fc.record({
      kind: fc.constant("descriptor" as const),
      at: fc.nat(128 - 4),
      value: fc.nat(0xffffffff),
    }),
    fc.record({
      kind: fc.constant("descriptor" as const),
      at: fc.nat(128 - 4),
      value: fc.nat(5),
    }),
    fc.record({
      kind: fc.constant("event" as const),
      at: word,
      value: word,
    }),
  );
  let broken = 0;
  let served = 0;
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(poke, { maxLength: 60, size: "max" }),
      fc.infiniteStream(fc.nat(3)),
      (eventIdx, pokes, choices) => {
        // A guard behind the used ring shows writes out of bounds.
        const memory = new FakeMemory([{ guestAddress: 0, bytes: 4096 }]);
        const driver = new FakeDriver(memory, { size: 8, eventIdx });
        const queue = new SplitQueue(queueOptions(driver));
        const end = driver.usedRing + 6 + 64;
        memory.bytes(end, 512).fill(0xa5);
        const held: DescriptorChain[] = [];
        for (const { kind, at, value } of pokes) {
          if (kind === "head") driver.setAvailable(at, value);
          else if (kind === "event") driver.usedEvent = value;
          else if (kind === "index") {
            driver.setAvailableIndex(driver.availableIndex + value);
          } else memory.setUint32(driver.descriptorTable + at, value);
          for (let i = 0; i < 3; i++) {
            const choice = choices.next().value;
            if (choice === 0) {
              const chain = queue.take();
              if (chain !== null) held.push(chain);
            } else if (choice === 1 && held.length > 0) {
              const chain = held.shift()!;
              queue.complete(chain, chain.writableLength);
              served++;
            } else if (choice === 2) queue.publish();
            else queue.enableNotification();
          }
          assertEquals(queue.inFlight, held.length);
          assert(held.length <= 8);
          const heads = new Set(held.map((chain) => chain.head));
          assertEquals(heads.size, held.length);
          for (const chain of held) {
            assert(chain.head < 8);
            for (let i = 0; i < chain.count; i++) {
              assert(chain.address(i) + chain.length(i) <= 4096);
            }
          }
        }
        if (queue.broken !== null) broken++;
        assertEquals(
          memory.read(end, 512),
          new Uint8Array(512).fill(0xa5),
        );
      },
    ),
    { numRuns: 1000 },
  );
  assert(broken > 10 && served > 10, `${broken} broken, ${served} served`);
});
