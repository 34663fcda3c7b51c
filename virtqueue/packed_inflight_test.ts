/**
 * What a device that dies leaves in the area of a packed queue, and what its
 * successor makes of it. Death is made to happen before and after each store to
 * the area, and a successor knows nothing but the area: the position that it is
 * given is that of the first start.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DescriptorChain } from "./chain.ts";
import { PackedInflight, packedInflightSize } from "./packed_inflight.ts";
import type { PackedQueue } from "./packed_queue.ts";
import { FakeMemory } from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startPacked } from "./testing/queue.ts";

/** The process was killed. */
class Killed extends Error {}

let stores = 0;
let end = Infinity;
let afterwards = false;

/**
 * Who uses an area from now on dies at the store of this number.
 *
 * @param late after it instead of before it
 */
function live(number: number, late: boolean): void {
  stores = 0;
  end = number;
  afterwards = late;
}

function around(store: () => void): void {
  const last = stores++ === end;
  if (last && !afterwards) throw new Killed();
  store();
  if (last) throw new Killed();
}

/** An area whose user dies at a store. */
class MortalInflight extends PackedInflight {
  protected override store8(at: number, value: number): void {
    around(() => super.store8(at, value));
  }

  protected override store16(at: number, value: number): void {
    around(() => super.store16(at, value));
  }

  protected override store32(at: number, value: number): void {
    around(() => super.store32(at, value));
  }

  protected override store64(at: number): void {
    around(() => super.store64(at));
  }
}

const SIZE = 7;

interface Kind {
  readonly eventIdx?: boolean;
  readonly start?: number;
  readonly inOrder?: boolean;
  /** Entries of the area (default {@linkcode SIZE}). */
  readonly heads?: number;
}

/** A driver and the devices that serve it, one after the other. */
class Succession {
  readonly driver: FakePackedDriver;
  readonly area: Uint8Array<ArrayBuffer>;
  readonly #kind: Kind;
  readonly #heads: number;
  /** How often each request was carried out. */
  readonly done = new Map<number, number>();
  /** Requests that the driver saw answered, in this order. */
  readonly answered: number[] = [];
  queue!: PackedQueue;
  chains: DescriptorChain[] = [];
  /** What was taken and not given back, the last one last. */
  taken: DescriptorChain[] = [];
  /** Requests that were taken again, in the order of that. */
  again: number[] = [];
  submitted = 0;

  constructor(kind: Kind = {}) {
    this.#kind = kind;
    this.#heads = kind.heads ?? SIZE;
    this.area = new Uint8Array(packedInflightSize(this.#heads));
    const memory = new FakeMemory([{ guestAddress: 0x1000, bytes: 1 << 16 }]);
    const { eventIdx, start } = kind;
    this.driver = new FakePackedDriver(memory, { size: SIZE, eventIdx, start });
  }

  /** A device begins where its predecessor died. */
  begin(): void {
    this.chains = [];
    this.taken = [];
    this.again = [];
    this.queue = startPacked(this.driver, {
      eventIdx: this.#kind.eventIdx ?? false,
      inOrder: this.#kind.inOrder,
      inflight: new MortalInflight(this.area, this.#heads),
    });
  }

  /** Submits a request of one descriptor in the ring, or of two or three. */
  submit(descriptors = 1): boolean {
    const token = this.submitted;
    const readable = new Uint8Array([token, token >> 8]);
    const buffers = [{ readable }, { writable: 1 }, { writable: 2 }];
    const indirect = descriptors === 1;
    const list = buffers.slice(0, indirect ? 2 : descriptors);
    if (this.driver.submit(list, { indirect }) < 0) return false;
    this.submitted++;
    return true;
  }

  take(): boolean {
    const chain = this.queue.take();
    if (chain === null) return false;
    this.chains.push(chain);
    this.taken.push(chain);
    if (chain.resubmitted) this.again.push(tokenOf(chain));
    return true;
  }

  complete(which: number): void {
    if (this.chains.length === 0) return;
    const [chain] = this.chains.splice(which % this.chains.length, 1);
    const token = tokenOf(chain);
    this.done.set(token, (this.done.get(token) ?? 0) + 1);
    this.queue.complete(chain, 1);
  }

  untake(): void {
    // Only what was taken last can be given back.
    const chain = this.chains.at(-1);
    if (chain === undefined || chain !== this.taken.at(-1)) return;
    this.chains.pop();
    this.taken.pop();
    this.queue.untake(chain);
  }

  reap(): void {
    for (const { token } of this.driver.reap()) this.answered.push(token);
  }

  /** Serves all that there is. */
  finish(): void {
    for (;;) {
      while (this.take());
      if (this.chains.length === 0) break;
      while (this.chains.length > 0) this.complete(0);
      this.queue.publish();
    }
    this.queue.publish();
    this.reap();
  }
}

function tokenOf(chain: DescriptorChain): number {
  return chain.readUint16(0);
}

/** Requests of one to three descriptors over laps, answered out of order. */
function story(s: Succession): void {
  const { queue } = s;
  s.submit(2);
  s.submit();
  s.submit(3);
  s.submit();
  for (let i = 0; i < 3; i++) s.take();
  s.complete(2);
  queue.publish();
  s.complete(1);
  s.untake();
  s.take();
  s.complete(0);
  queue.publish();
  s.reap();
  for (let i = 0; i < 4; i++) s.submit(1 + i % 2);
  while (s.take());
  s.complete(3);
  s.complete(0);
  s.untake();
  queue.publish();
  s.reap();
  s.submit(3);
  while (s.take());
  s.complete(2);
  s.complete(0);
  queue.publish();
  s.reap();
  while (s.submit());
  while (s.take());
  s.complete(1);
  s.complete(2);
}

/** Everything that was submitted was answered, once. */
function assertWhole(s: Succession): void {
  assertEquals(
    s.answered.toSorted((a, b) => a - b),
    Array.from({ length: s.submitted }, (_, i) => i),
  );
  assertEquals([s.driver.inFlight, s.driver.freeDescriptors], [0, SIZE]);
  for (let i = 0; i < s.submitted; i++) assert((s.done.get(i) ?? 0) >= 1);
}

const KINDS: readonly Kind[] = [
  {},
  { eventIdx: true, start: 0x8005 },
  { start: 0x0003, heads: 16 },
  { inOrder: true, start: 0x0006 },
];

Deno.test("a device may die at any store: nothing is lost, nothing answered twice", () => {
  let deaths = 0;
  for (const kind of KINDS) {
    for (const late of [false, true]) {
      for (let store = 0;; store++) {
        const s = new Succession(kind);
        live(store, late);
        let died = false;
        try {
          s.begin();
          story(s);
        } catch (error) {
          assert(error instanceof Killed, String(error));
          died = true;
          deaths++;
        }
        live(Infinity, false);
        s.begin();
        assertEquals(s.queue.broken, null);
        s.finish();
        assertWhole(s);
        if (!died) break;
      }
    }
  }
  // Each of some hundred stores, twice, in four kinds of rings.
  assert(deaths > 1500, `${deaths} deaths`);
});

Deno.test("a successor may die at any store, too", () => {
  let deaths = 0;
  for (let first = 10; first < 300; first += 17) {
    for (let second = 0;; second++) {
      const s = new Succession();
      live(first, second % 2 === 0);
      try {
        s.begin();
        story(s);
      } catch (error) {
        assert(error instanceof Killed, String(error));
      }
      live(second, false);
      let died = false;
      try {
        s.begin();
        s.finish();
      } catch (error) {
        assert(error instanceof Killed, String(error));
        died = true;
        deaths++;
      }
      live(Infinity, false);
      s.begin();
      s.finish();
      assertWhole(s);
      if (!died) break;
    }
  }
  assert(deaths > 500, `${deaths} deaths`);
});

Deno.test("random lives and deaths: nothing is lost, nothing answered twice", () => {
  const act = fc.constantFrom(
    ...["submit", "submit", "take", "take", "complete", "untake"] as const,
    ...["publish", "reap", "die"] as const,
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(act, fc.nat(7)), { maxLength: 150, size: "max" }),
      fc.array(fc.nat(80), { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      fc.constantFrom(...KINDS),
      (acts, lives, late, kind) => {
        let life = 0;
        const s = new Succession(kind);
        const begin = (): void => {
          live(lives[life++] ?? Infinity, late);
          s.begin();
        };
        const mortally = (body: () => void): void => {
          while (true) {
            try {
              return body();
            } catch (error) {
              if (!(error instanceof Killed)) throw error;
              body = begin;
            }
          }
        };
        mortally(begin);
        for (const [what, which] of acts) {
          if (what === "submit") s.submit(1 + which % 3);
          else if (what === "reap") s.reap();
          else if (what === "die") mortally(begin);
          else if (what === "publish") mortally(() => void s.queue.publish());
          else if (what === "complete") mortally(() => s.complete(which));
          else mortally(() => void s[what]());
        }
        live(Infinity, false);
        s.begin();
        s.finish();
        assertWhole(s);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("requests come again in the order of their taking, and say so", () => {
  const s = new Succession();
  live(Infinity, false);
  s.begin();
  for (let i = 0; i < 4; i++) s.submit();
  for (let i = 0; i < 4; i++) s.take();
  s.complete(1);
  s.complete(2); // Requests 1 and 3: their answers lie over 0 and 1.
  s.queue.publish();
  s.reap();
  for (let i = 0; i < 2; i++) s.submit(2);
  while (s.take());
  s.begin();
  assertEquals(s.queue.recovering, 4);
  s.finish();
  assertEquals(s.again, [0, 2, 4, 5]);
  assertEquals(s.queue.recovering, 0);
  s.submit();
  assert(s.take());
  assertEquals(s.again, [0, 2, 4, 5]);
});

Deno.test("a request that comes again can be given back, and comes again", () => {
  const s = new Succession();
  live(Infinity, false);
  s.begin();
  for (let i = 0; i < 3; i++) s.submit(2);
  while (s.take());
  s.begin();
  s.take();
  s.untake();
  assertEquals(s.queue.recovering, 3);
  s.take();
  assertEquals(s.again, [0, 0]);
  s.untake();
  // Also for a successor: the ring does not hold it any more.
  s.begin();
  s.finish();
  assertEquals(s.again, [0, 1, 2]);
  assertWhole(s);
});

Deno.test("marks of answers that nobody saw are taken back", () => {
  const s = new Succession();
  live(Infinity, false);
  s.begin();
  for (let i = 0; i < 4; i++) s.submit();
  while (s.take());
  // All three lie in the ring, the first without its mark.
  for (let i = 0; i < 3; i++) s.complete(1);
  assertEquals(s.driver.descriptor(1).flags & 0x8080, 0x8080);
  s.begin();
  assertEquals(s.driver.descriptor(1).flags & 0x8080, 0x0080);
  s.take();
  s.complete(0);
  s.queue.publish();
  s.reap();
  assertEquals(s.answered, [0]);
  s.finish();
  assertWhole(s);
});

Deno.test("bad chains are tracked, too: they are answered once", () => {
  for (const late of [false, true]) {
    for (let store = 0; store < 30; store++) {
      const s = new Succession();
      s.driver.offer({ address: 2 ** 40, length: 1, id: 6 });
      live(store, late);
      try {
        s.begin();
        s.queue.take();
        s.queue.publish();
      } catch (error) {
        assert(error instanceof Killed, String(error));
      }
      live(Infinity, false);
      s.begin();
      s.queue.take();
      s.queue.publish();
      assertEquals(s.driver.reapOffered(1), { id: 6, length: 0 });
      assertEquals(s.driver.reapOffered(1), null);
    }
  }
});
