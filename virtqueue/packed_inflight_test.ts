/**
 * What a device that dies leaves in the area of a packed queue, and what its
 * successor makes of it. Death is made to happen before and after each store to
 * the area, and a successor knows nothing but the area: the position that it is
 * given is that of the first start.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { PackedInflight, packedInflightSize } from "./packed_inflight.ts";
import { FakeMemory } from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startPacked } from "./testing/queue.ts";
import {
  ACTS,
  around,
  dieAnywhere,
  dies,
  live,
  liveAndDie,
  Succession,
  successorDiesAnywhere,
  testResubmission,
} from "./testing/succession.ts";

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

/** A driver of a packed ring, and the devices that serve it. */
function succession(kind: Kind = {}): Succession<FakePackedDriver> {
  const { eventIdx = false, start, inOrder, heads = SIZE } = kind;
  const memory = new FakeMemory([{ guestAddress: 0x1000, bytes: 1 << 16 }]);
  const driver = new FakePackedDriver(memory, { size: SIZE, eventIdx, start });
  const area = new Uint8Array(packedInflightSize(heads));
  return new Succession(driver, () =>
    startPacked(driver, {
      eventIdx,
      inOrder,
      inflight: new MortalInflight(area, heads),
    }));
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

const KINDS: readonly Kind[] = [
  {},
  { eventIdx: true, start: 0x8005 },
  { start: 0x0003, heads: 16 },
  { inOrder: true, start: 0x0006 },
];

Deno.test("a device may die at any store: nothing is lost, nothing answered twice", () => {
  let deaths = 0;
  for (const kind of KINDS) {
    deaths += dieAnywhere(() => succession(kind), story);
  }
  // Each of some hundred stores, twice, in four kinds of rings.
  assert(deaths > 1500, `${deaths} deaths`);
});

Deno.test("a successor may die at any store, too", () => {
  let deaths = 0;
  for (let first = 10; first < 300; first += 17) {
    deaths += successorDiesAnywhere(succession, story, first);
  }
  assert(deaths > 500, `${deaths} deaths`);
});

Deno.test("random lives and deaths: nothing is lost, nothing answered twice", () => {
  const act = fc.tuple(fc.constantFrom(...ACTS), fc.nat(7));
  fc.assert(
    fc.property(
      fc.array(act, { maxLength: 150, size: "max" }),
      fc.array(fc.nat(80), { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      fc.constantFrom(...KINDS),
      (acts, lives, late, kind) =>
        liveAndDie(succession(kind), acts, lives, late),
    ),
    { numRuns: 500 },
  );
});

for (const count of [1, 2]) testResubmission(succession, count);

Deno.test("marks of answers that nobody saw are taken back", () => {
  const s = succession();
  s.beginForever();
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
  s.assertWhole();
});

Deno.test("bad chains are tracked, too: they are answered once", () => {
  for (const late of [false, true]) {
    for (let store = 0; store < 30; store++) {
      const s = succession();
      // The first of three members is bad.
      s.driver.offer(
        { address: 2 ** 40, length: 1, id: 3, flags: 1 },
        { address: 0x1000, length: 1, id: 4, flags: 1 },
        { address: 0x1000, length: 1, id: 6 },
      );
      live(store, late);
      dies(() => {
        s.begin();
        s.queue.take();
        s.queue.publish();
      });
      s.beginForever();
      s.queue.take();
      s.queue.publish();
      assertEquals(s.driver.reapOffered(3), { id: 6, length: 0 });
      assertEquals(s.driver.reapOffered(1), null);
    }
  }
});

Deno.test("the base of a ring lies in it while requests come again", () => {
  const memory = new FakeMemory([{ guestAddress: 0x1000, bytes: 1 << 16 }]);
  const driver = new FakePackedDriver(memory, { size: SIZE });
  const area = new Uint8Array(packedInflightSize(SIZE));
  const start = (position = driver.start) =>
    startPacked(driver, {
      position,
      inflight: new PackedInflight(area, SIZE),
    });
  const first = start();
  for (let i = 0; i < 4; i++) driver.submit([{ writable: 1 }]);
  for (let i = 0; i < 4; i++) first.take();
  // It dies; its successor answers one of four, and stops in order.
  const second = start();
  second.complete(second.take()!, 1);
  second.publish();
  assertEquals([second.recovering, second.base], [3, 0x8001_8001]);
  const third = start(second.base);
  for (let left = 3; left > 0; left--) {
    assertEquals(third.recovering, left);
    third.complete(third.take()!, 1);
    third.publish();
  }
  assertEquals([third.recovering, third.base], [0, 0x8004_8004]);
  assertEquals(driver.reap().length, 4);
});
