/**
 * Random interleavings of a driver and a device, over both layouts of rings, with
 * answers in any order and in order: nothing is lost, nothing is doubled, chains
 * come in order, and whoever asked to be notified is.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DescriptorChain } from "./chain.ts";
import { GuestMemory } from "./memory.ts";
import type { RunningQueue } from "./queue.ts";
import {
  type FakeBuffer,
  FakeDriver,
  FakeMemory,
  type RingDriver,
} from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startRing } from "./testing/queue.ts";

interface Setting {
  readonly packed: boolean;
  readonly size: number;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  readonly slots: number;
  readonly indirect: boolean;
}

/** A driver, a device and what must be true of them. */
class Play {
  readonly driver: RingDriver;
  readonly #setting: Setting;
  readonly #memory: GuestMemory;
  queue: RunningQueue;
  /** Tokens that were not taken for good, in the order of submission. */
  readonly #waiting: number[] = [];
  readonly #held: { chain: DescriptorChain; token: number }[] = [];
  /** Tokens in the order of their taking, less those that were given back. */
  readonly #taken: number[] = [];
  readonly #lengths = new Map<number, number>();
  readonly reaped: number[] = [];
  submitted = 0;
  /** The driver sleeps until it is notified. */
  #driverSleeps = false;
  /** The device sleeps until it is notified. */
  #deviceSleeps = false;

  constructor(setting: Setting, start?: number) {
    this.#setting = setting;
    const { packed, size, eventIdx } = setting;
    const bytes = size > 1000 ? 1 << 21 : 1 << 15;
    const memory = new FakeMemory([{ guestAddress: 4096, bytes }]);
    this.driver = packed
      ? new FakePackedDriver(memory, { size, eventIdx, start })
      : new FakeDriver(memory, { size, eventIdx, start });
    this.#memory = memory.share(new GuestMemory());
    this.queue = this.#start(this.driver.start);
  }

  #start(position: number): RunningQueue {
    const { inOrder, slots } = this.#setting;
    const memory = this.#memory;
    return startRing(this.driver, { position, inOrder, slots, memory });
  }

  submit(buffers: number, flush: boolean): void {
    const token = this.submitted;
    const list: FakeBuffer[] = [{
      readable: Uint8Array.of(token, token >> 8, token >> 16),
    }];
    for (let i = 1; i < buffers; i++) list.push({ writable: i });
    const { indirect } = this.#setting;
    const options = { indirect: indirect && token % 3 > 0, flush: false };
    if (this.driver.submit(list, options) < 0) return;
    this.submitted++;
    this.#waiting.push(token);
    if (flush) this.flush();
  }

  flush(): void {
    this.driver.flush();
    const available = this.queue.available;
    const kick = this.driver.kickNeeded();
    if (this.#deviceSleeps && available) {
      assert(kick, "the device sleeps and was not notified");
      this.#deviceSleeps = false;
    }
  }

  take(): boolean {
    const chain = this.queue.take();
    if (chain === null) return false;
    this.#deviceSleeps = false;
    const token = chain.readUint16(0) + (chain.readUint8(2) << 16);
    assertEquals(token, this.#waiting.shift());
    assert(!chain.resubmitted);
    this.#held.push({ chain, token });
    this.#taken.push(token);
    return true;
  }

  complete(which: number): void {
    if (this.#held.length === 0) return;
    const [{ chain, token }] = this.#held.splice(which % this.#held.length, 1);
    const length = chain.writableLength === 0 ? 0 : token % 2;
    this.#lengths.set(token, length);
    this.queue.complete(chain, length);
  }

  untake(): void {
    const last = this.#held.at(-1);
    if (last === undefined || last.token !== this.#taken.at(-1)) return;
    this.#held.pop();
    this.#taken.pop();
    this.#waiting.unshift(last.token);
    this.queue.untake(last.chain);
    this.#deviceSleeps = false;
  }

  publish(): void {
    const notified = this.queue.publish();
    if (this.#driverSleeps && this.driver.usedPending) {
      assert(notified, "the driver sleeps and was not notified");
      this.#driverSleeps = false;
    }
  }

  reap(limit: number): void {
    for (const { token, length } of this.driver.reap(limit)) {
      assertEquals(length, this.#lengths.get(token));
      this.reaped.push(token);
    }
    this.#driverSleeps = false;
  }

  sleepDriver(sleep: boolean): void {
    if (sleep) this.#driverSleeps = !this.driver.enableInterrupt();
    else {
      this.driver.disableInterrupt();
      this.#driverSleeps = false;
    }
  }

  sleepDevice(sleep: boolean): void {
    if (sleep) {
      const again = this.queue.enableNotification();
      // With all chain objects in flight, it waits for its own completions.
      this.#deviceSleeps = !again && !this.queue.available;
    } else {
      this.queue.disableNotification();
      this.#deviceSleeps = false;
    }
  }

  restart(): void {
    while (this.#held.at(-1)?.token === this.#taken.at(-1)) {
      if (this.#held.length === 0) break;
      this.untake();
    }
    while (this.#held.length > 0) this.complete(0);
    this.publish();
    this.queue = this.#start(this.queue.base);
    this.#deviceSleeps = false;
  }

  finish(): void {
    this.driver.flush();
    do {
      while (this.take());
      while (this.#held.length > 0) this.complete(0);
      this.publish();
      this.reap(Infinity);
    } while (this.#waiting.length > 0);
    assertEquals(this.queue.broken, null);
    assertEquals(this.queue.inFlight, 0);
    const all = Array.from({ length: this.submitted }, (_, i) => i);
    assertEquals(this.reaped.toSorted((a, b) => a - b), all);
    if (this.#setting.inOrder) assertEquals(this.reaped, all);
    assertEquals(this.driver.freeDescriptors, this.driver.size);
  }
}

const setting = fc.record<Setting>({
  packed: fc.boolean(),
  size: fc.constantFrom(1, 2, 3, 4, 7, 8, 13, 16, 256),
  eventIdx: fc.boolean(),
  inOrder: fc.boolean(),
  slots: fc.constantFrom(2, 5, 256),
  indirect: fc.boolean(),
}).filter(({ packed, size }) => packed || (size & (size - 1)) === 0);

const act = fc.tuple(
  fc.constantFrom(
    ...["submit", "submit", "submit", "hold", "flush", "take", "take"] as const,
    ...["take", "complete", "complete", "untake", "publish", "reap"] as const,
    ...["interrupt", "quiet", "sleep", "awake", "restart"] as const,
  ),
  fc.nat(7),
);

Deno.test("either layout: nothing is lost, nothing doubled, all are notified", () => {
  let reaped = 0, packed = 0;
  fc.assert(
    fc.property(
      setting,
      fc.boolean(),
      fc.nat(),
      fc.array(act, { maxLength: 200, size: "max" }),
      (setting, elsewhere, place, acts) => {
        const start = !elsewhere
          ? undefined
          : setting.packed
          ? (place % setting.size) | (place % 2) << 15
          : 65_536 - place % 20 & 0xffff;
        const play = new Play(setting, start);
        for (const [what, which] of acts) {
          if (what === "submit") play.submit(1 + which % 4, true);
          else if (what === "hold") play.submit(1 + which % 4, false);
          else if (what === "flush") play.flush();
          else if (what === "take") play.take();
          else if (what === "complete") play.complete(which);
          else if (what === "untake") play.untake();
          else if (what === "publish") play.publish();
          else if (what === "reap") play.reap(which);
          else if (what === "restart") play.restart();
          else if (what === "interrupt" || what === "quiet") {
            play.sleepDriver(what === "interrupt");
          } else play.sleepDevice(what === "sleep");
        }
        play.finish();
        reaped += play.reaped.length;
        if (setting.packed) packed += play.reaped.length;
      },
    ),
    { numRuns: 1500 },
  );
  assert(reaped > 10_000 && packed > 5_000, `${reaped}, ${packed} packed`);
});

Deno.test("the largest rings work: laps, wrap counters and 15 bits of index", () => {
  for (const packed of [false, true]) {
    for (const inOrder of [false, true]) {
      const size = 32_768;
      const play = new Play({
        packed,
        size,
        eventIdx: true,
        inOrder,
        slots: 256,
        indirect: false,
      });
      for (let turn = 0; turn < 900; turn++) {
        for (let i = 0; i < 40; i++) play.submit(1 + i % 4, i % 4 === 3);
        for (let i = 0; i < 40; i++) play.take();
        for (let i = 0; i < 40; i++) play.complete(i % 5);
        play.publish();
        play.reap(Infinity);
      }
      play.finish();
      assertEquals(play.submitted, 36_000);
    }
  }
});
