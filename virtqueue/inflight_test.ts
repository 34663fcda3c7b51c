/**
 * What a device that dies leaves in the area, and what its successor makes of it.
 * Death is made to happen before and after each store to the area.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { SplitInflight, splitInflightSize } from "./inflight.ts";
import { QueueError } from "./queue_error.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";
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
class MortalInflight extends SplitInflight {
  protected override store8(at: number, value: number): void {
    around(() => super.store8(at, value));
  }

  protected override store16(at: number, value: number): void {
    around(() => super.store16(at, value));
  }

  protected override store32(at: number, value: number): void {
    around(() => super.store32(at, value));
  }
}

const SIZE = 8;

/** A driver of a split ring, and devices that begin where it saw the last end. */
function succession(eventIdx = false, start = 0): Succession<FakeDriver> {
  const memory = new FakeMemory([{ guestAddress: 0x1000, bytes: 1 << 16 }]);
  const driver = new FakeDriver(memory, { size: SIZE, eventIdx, start });
  const area = new Uint8Array(splitInflightSize(SIZE));
  return new Succession(driver, () =>
    startQueue(driver, {
      eventIdx,
      // What a front-end says after the death of a back-end.
      position: driver.usedIndex,
      inflight: new MortalInflight(area, SIZE),
    }));
}

/** Twelve requests over a ring of eight, answered out of order and in batches. */
function story(s: Succession): void {
  const { queue } = s;
  for (let i = 0; i < 6; i++) s.submit();
  for (let i = 0; i < 5; i++) s.take();
  s.complete(3);
  queue.publish();
  s.complete(1);
  s.complete(2);
  s.complete(0);
  s.untake();
  queue.publish();
  s.reap();
  for (let i = 0; i < 6; i++) s.submit();
  while (s.take());
  s.complete(4);
  s.complete(0);
  queue.publish();
  s.reap();
  s.complete(2);
  s.complete(1);
}

Deno.test("a device may die at any store: nothing is lost, nothing answered twice", () => {
  let deaths = 0;
  for (const eventIdx of [false, true]) {
    for (const start of [0, 65_530]) {
      deaths += dieAnywhere(() => succession(eventIdx, start), story);
    }
  }
  // Each of some hundred stores, twice, in four kinds of rings.
  assert(deaths > 400, `${deaths} deaths`);
});

Deno.test("a successor may die at any store, too", () => {
  let deaths = 0;
  for (let first = 10; first < 90; first += 13) {
    deaths += successorDiesAnywhere(succession, story, first);
  }
  assert(deaths > 100, `${deaths} deaths`);
});

Deno.test("random lives and deaths: nothing is lost, nothing answered twice", () => {
  const act = fc.tuple(fc.constantFrom(...ACTS), fc.nat(7));
  fc.assert(
    fc.property(
      fc.array(act, { maxLength: 150, size: "max" }),
      fc.array(fc.nat(40), { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      (acts, lives, late) => liveAndDie(succession(late), acts, lives, late),
    ),
    { numRuns: 300 },
  );
});

for (const count of [1, 2]) testResubmission(succession, count);

Deno.test("a request that was never taken is not tracked", () => {
  const s = succession();
  s.beginForever();
  for (let i = 0; i < 3; i++) s.submit();
  s.take();
  s.untake();
  s.begin();
  assertEquals(s.queue.recovering, 0);
  s.finish();
  s.assertWhole();
});

Deno.test("bad chains are tracked, too: they are answered once", () => {
  for (const late of [false, true]) {
    for (let store = 0; store < 20; store++) {
      const s = succession();
      s.driver.setDescriptor(7, { address: 2 ** 40, length: 1 });
      s.driver.offer(7);
      live(store, late);
      dies(() => {
        s.begin();
        s.queue.take();
        s.queue.publish();
      });
      s.beginForever();
      s.queue.take();
      s.queue.publish();
      assertEquals(s.driver.usedIndex, 1);
      assertEquals(s.driver.usedElement(0), { id: 7, length: 0 });
    }
  }
});

Deno.test("what the area holds is not believed: heads, links and numbers", () => {
  const garbage = fc.uint8Array({
    minLength: splitInflightSize(SIZE),
    maxLength: splitInflightSize(SIZE),
  });
  fc.assert(
    fc.property(garbage, fc.nat(0xffff), (area, used) => {
      const bytes = new Uint8Array(area);
      const view = new DataView(bytes.buffer);
      view.setUint16(8, 1, true);
      view.setUint16(10, SIZE, true);
      const heads = new SplitInflight(bytes, SIZE).recover(used, SIZE);
      assertEquals(new Set(heads).size, heads.length);
      assert(heads.every((head) => head < SIZE));
      assertEquals(view.getUint16(14, true), used);
    }),
  );
});

Deno.test("the note of another life of the ring clears nothing", () => {
  const bytes = new Uint8Array(splitInflightSize(SIZE));
  const area = new SplitInflight(bytes, SIZE);
  area.recover(500, SIZE);
  area.take(3);
  // The driver was reset: its used index begins at 0 again.
  assertEquals(new SplitInflight(bytes, SIZE).recover(0, SIZE), [3]);
});

Deno.test("a smaller ring looks at its own heads only", () => {
  const bytes = new Uint8Array(splitInflightSize(64));
  new SplitInflight(bytes, 64).take(40);
  const area = new SplitInflight(bytes, 64);
  area.take(5);
  assertEquals(area.recover(0, 32), [5]);
  assertEquals(area.recover(0, 64), [5, 40]);
});

Deno.test("the layout is the specification's", () => {
  const bytes = new Uint8Array(splitInflightSize(4));
  const view = new DataView(bytes.buffer);
  const area = new SplitInflight(bytes, 4);
  area.recover(0xfffe, 4);
  area.take(2);
  area.take(1);
  area.answered(2);
  area.answered(1);
  assertEquals(
    [8, 10, 12, 14].map((at) => view.getUint16(at, true)),
    [1, 4, 1, 0xfffe],
  );
  // Head 1 is linked to head 2.
  assertEquals(view.getUint16(16 + 16 + 6, true), 2);
  assertEquals(view.getBigUint64(16 + 32 + 8, true), 1n);
  assertEquals(view.getBigUint64(16 + 16 + 8, true), 2n);
  assertEquals([bytes[16 + 16], bytes[16 + 32]], [1, 1]);
  area.published(0);
  assertEquals(view.getUint16(14, true), 0);
  assertEquals([bytes[16 + 16], bytes[16 + 32]], [0, 0]);
  // Numbers go on above those that are in use.
  area.take(3);
  view.setBigUint64(16 + 48 + 8, 2n ** 40n, true);
  const next = new SplitInflight(bytes, 4);
  assertEquals(next.recover(0, 4), [3]);
  next.take(0);
  assertEquals(view.getBigUint64(16 + 8, true), 2n ** 40n + 1n);
});

Deno.test("an area that does not fit is refused", () => {
  const refuse = (body: () => unknown, message: string): void => {
    const error = assertThrows(body, QueueError, message);
    assertEquals((error as QueueError).kind, "inflight-area");
  };
  refuse(() => new SplitInflight(new Uint8Array(128), 8), "has 128 bytes");
  const bytes = new Uint8Array(splitInflightSize(8));
  new SplitInflight(bytes, 8);
  refuse(
    () => new SplitInflight(bytes, 4),
    "version 1 for 8, not of version 1",
  );
  bytes[8] = 2;
  refuse(() => new SplitInflight(bytes, 8), "version 2");
  bytes[8] = 1;
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 1 << 16 }]);
  const driver = new FakeDriver(memory, { size: 16 });
  refuse(
    () => startQueue(driver, { inflight: new SplitInflight(bytes, 8) }),
    "size 16 exceeds the 8 heads",
  );
});
