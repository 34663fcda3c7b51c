import { assert, assertEquals } from "@std/assert";
import { GuestMemory } from "./memory.ts";
import type { SplitQueue } from "./split_queue.ts";
import { assertMisuse } from "./testing/misuse.ts";
import {
  FakeDriver,
  type FakeDriverOptions,
  FakeMemory,
} from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

const DATA = 0x10_0000;

function rig(
  options: FakeDriverOptions = {},
  changes: { slots?: number; slotBase?: number; alwaysNotify?: boolean } = {},
): { memory: FakeMemory; driver: FakeDriver; queue: SplitQueue } {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 16384 },
    { guestAddress: DATA, bytes: 16384 },
  ]);
  const driver = new FakeDriver(memory, { size: 4, ...options });
  return { memory, driver, queue: startQueue(driver, changes) };
}

function takeHeads(queue: SplitQueue): number[] {
  const heads: number[] = [];
  for (let chain = queue.take(); chain !== null; chain = queue.take()) {
    heads.push(chain.head);
  }
  return heads;
}

Deno.test("a request goes to the device and its answer to the driver", () => {
  const { driver, queue } = rig();
  assertEquals([queue.available, queue.ready], [false, false]);
  assertEquals(queue.take(), null);
  const token = driver.submit([
    { readable: Uint8Array.of(1, 2) },
    { writable: 3 },
  ]);
  assertEquals([queue.available, queue.ready], [true, true]);
  const chain = queue.take();
  assert(chain !== null);
  assertEquals([chain.queue === queue, chain.taken], [true, true]);
  assertEquals([queue.inFlight, queue.available], [1, false]);
  chain.write(0, Uint8Array.of(7, 8));
  queue.complete(chain, 2);
  assertEquals([queue.inFlight, chain.taken], [0, false]);
  assertEquals(driver.reap(), []);
  assertEquals(queue.publish(), true);
  assertEquals(driver.reap(), [{
    token,
    id: chain.head,
    length: 2,
    data: Uint8Array.of(7, 8, 0),
  }]);
  assertEquals(queue.counters, {
    completed: 1,
    badChains: 0,
    notifications: 1,
    kicks: 0,
  });
  assertEquals([queue.broken, queue.lastError], [null, null]);
});

for (const eventIdx of [false, true]) {
  Deno.test(`a queue can notify in any case, EVENT_IDX ${eventIdx}`, () => {
    for (const alwaysNotify of [false, true]) {
      const { driver, queue } = rig({ eventIdx }, { alwaysNotify });
      driver.disableInterrupt();
      for (let i = 0; i < 3; i++) {
        driver.submit([{ writable: 1 }]);
        queue.complete(queue.take()!, 0);
        assertEquals(queue.publish(), alwaysNotify);
        assertEquals(queue.publish(), false, "nothing was used since");
        assertEquals(driver.reap().length, 1);
      }
      assertEquals(queue.counters.notifications, alwaysNotify ? 3 : 0);
    }
  });
}

Deno.test("answers may come in any order", () => {
  const { driver, queue } = rig();
  const tokens = [1, 2, 3, 4].map((n) => driver.submit([{ writable: n }]));
  const chains = tokens.map(() => queue.take());
  for (const i of [2, 0, 3, 1]) queue.complete(chains[i]!, 0);
  queue.publish();
  assertEquals(
    driver.reap().map((done) => done.token),
    [2, 0, 3, 1].map((i) => tokens[i]),
  );
});

for (const eventIdx of [false, true]) {
  Deno.test(`indices wrap at 2^16, EVENT_IDX ${eventIdx}`, () => {
    for (const size of [1, 2, 8, 256]) {
      const { driver, queue } = rig({ size, eventIdx, start: 65530 });
      for (let i = 0; i < 20; i++) {
        const token = driver.submit([{ writable: 1 }]);
        assertEquals(driver.kickNeeded(), true);
        const chain = queue.take();
        assert(chain !== null);
        assertEquals(chain.position, (65530 + i) % 65536);
        queue.complete(chain, 1);
        assertEquals(queue.publish(), true);
        assertEquals(driver.reap().map((done) => done.token), [token]);
        assertEquals(driver.enableInterrupt(), false);
        assertEquals(queue.enableNotification(), false);
        assertEquals(queue.position, (65531 + i) % 65536);
      }
    }
  });
}

Deno.test("the whole ring can be in flight, a chain an entry", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 2 ** 20 }]);
  const driver = new FakeDriver(memory, { size: 32768, start: 40000 });
  const queue = startQueue(driver);
  for (let i = 0; i < 32768; i++) {
    driver.submit([{ address: 0, length: 1, write: false }], {
      flush: false,
    });
  }
  driver.flush();
  const heads = takeHeads(queue);
  assertEquals(new Set(heads).size, 32768);
  assertEquals([queue.inFlight, queue.available], [32768, false]);
});

Deno.test("take() gives up when every chain object is in flight", () => {
  const { driver, queue } = rig({}, { slots: 2, slotBase: 100 });
  for (let i = 0; i < 3; i++) driver.submit([{ writable: 1 }]);
  const [first, second] = [queue.take(), queue.take()];
  assert(first !== null && second !== null);
  assertEquals([first.slot, second.slot], [100, 101]);
  assertEquals(queue.take(), null);
  assertEquals([queue.available, queue.ready], [true, false]);
  assertEquals(queue.enableNotification(), false);
  queue.complete(first, 0);
  assertEquals(queue.ready, true);
  assertEquals(queue.enableNotification(), true);
  assertEquals(queue.take() === first, true);
});

Deno.test("complete() takes only what is in flight, and lengths that fit", () => {
  const { driver, queue } = rig();
  const other = rig();
  driver.submit([{ writable: 4 }]);
  const chain = queue.take();
  assert(chain !== null);
  for (const length of [5, -1, NaN]) {
    assertMisuse("invalid-length", () => queue.complete(chain, length));
  }
  assertMisuse("not-in-flight", () => other.queue.complete(chain, 0));
  assertMisuse("not-in-flight", () => other.queue.untake(chain));
  queue.complete(chain, 4);
  assertMisuse("not-in-flight", () => queue.complete(chain, 4));
  assertMisuse("not-in-flight", () => queue.untake(chain));
  queue.publish();
  assertEquals(driver.reap().length, 1);
});

Deno.test("a head beyond the ring is skipped and never answered", () => {
  const { driver, queue } = rig();
  for (const head of [65535, 4]) driver.offer(head);
  const token = driver.submit([{ writable: 1 }]);
  const chain = queue.take()!;
  assertEquals(queue.counters.badChains, 2);
  assertEquals(queue.lastError, "head 4 is beyond the ring of 4");
  queue.complete(chain, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 1);
  assertEquals(driver.reap().map((done) => done.token), [token]);
});

Deno.test("a head that is in flight is skipped and answered once", () => {
  const { driver, queue } = rig();
  const token = driver.submit([{ writable: 1 }], { descriptors: [2] });
  driver.offer(2);
  driver.offer(2);
  const chain = queue.take()!;
  assertEquals(queue.take(), null);
  assertEquals(queue.counters.badChains, 2);
  assertEquals(
    queue.lastError,
    "chain at descriptor 2: made available again while in flight",
  );
  queue.complete(chain, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 1);
  assertEquals(driver.reap().map((done) => done.token), [token]);
});

Deno.test("an available index too far ahead breaks the ring for good", () => {
  for (const ahead of [5, 32768, 65535]) {
    const { driver, queue } = rig({ start: 7 });
    driver.setAvailableIndex(7 + ahead);
    assertEquals(queue.take(), null);
    assertEquals(
      queue.broken,
      `available index ${(7 + ahead) % 65536} is ${ahead} ahead of 7, ` +
        "more than the size 4",
    );
    // Whatever the driver does now, nothing is taken and nothing is written.
    driver.setAvailableIndex(8);
    driver.submit([{ writable: 1 }]);
    const before = driver.memory.read(driver.usedRing, 70);
    assertEquals([queue.available, queue.ready], [false, false]);
    assertEquals(queue.take(), null);
    assertEquals(queue.enableNotification(), false);
    queue.disableNotification();
    assertEquals(queue.publish(), false);
    assertEquals(driver.memory.read(driver.usedRing, 70), before);
  }
});

Deno.test("a broken ring lets what is in flight end, unseen by the driver", () => {
  const { driver, queue } = rig();
  driver.submit([{ writable: 1 }]);
  const chain = queue.take()!;
  driver.setAvailableIndex(1000);
  assertEquals(queue.available, false);
  assert(queue.broken !== null);
  queue.complete(chain, 1);
  assertEquals(queue.inFlight, 0);
  assertEquals(queue.publish(), false);
  assertEquals(driver.usedIndex, 0);
});

Deno.test("one call of take() looks at a bounded number of bad entries", () => {
  const { driver, queue } = rig({ size: 256 });
  for (let i = 0; i < 255; i++) driver.offer(1000);
  driver.submit([{ writable: 1 }]);
  let calls = 1;
  while (queue.take() === null) {
    assertEquals([queue.available, queue.ready], [true, true]);
    assertEquals(queue.enableNotification(), true);
    calls++;
  }
  assertEquals(calls, 8);
  assertEquals(queue.counters.badChains, 255);
});

Deno.test("the used index goes on from what is in memory", () => {
  const { driver, queue } = rig();
  driver.submit([{ writable: 1 }]);
  queue.complete(queue.take()!, 1);
  queue.publish();
  assertEquals(driver.reap().length, 1);
  const next = startQueue(driver, { position: queue.position });
  const token = driver.submit([{ writable: 1 }]);
  next.complete(next.take()!, 1);
  assertEquals(next.publish(), true);
  assertEquals(driver.reap().map((done) => done.token), [token]);
  // A driver's reset starts both indices from 0 again.
  driver.reset();
  const fresh = startQueue(driver, { position: 0 });
  const again = driver.submit([{ writable: 1 }]);
  fresh.complete(fresh.take()!, 1);
  fresh.publish();
  assertEquals(driver.reap().map((done) => done.token), [again]);
});

Deno.test("without EVENT_IDX flags suppress notifications, both ways", () => {
  const { driver, queue } = rig();
  const request = () => driver.submit([{ writable: 1 }]);
  const answer = () => queue.complete(queue.take()!, 1);
  request();
  assertEquals(driver.kickNeeded(), true);
  queue.disableNotification();
  assertEquals(driver.usedFlags, 1);
  request();
  assertEquals(driver.kickNeeded(), false);
  assertEquals(queue.enableNotification(), true);
  assertEquals(driver.usedFlags, 0);
  answer();
  assertEquals(queue.publish(), true);
  driver.disableInterrupt();
  answer();
  assertEquals(queue.publish(), false);
  assertEquals(driver.enableInterrupt(), true);
  assertEquals(queue.publish(), false);
  assertEquals(queue.counters.notifications, 1);
});

Deno.test("with EVENT_IDX events suppress notifications, both ways", () => {
  const { driver, queue } = rig({ size: 8, eventIdx: true });
  const request = () => driver.submit([{ writable: 1 }]);
  const answer = () => queue.complete(queue.take()!, 1);
  request();
  assertEquals(driver.kickNeeded(), true);
  queue.disableNotification();
  assertEquals(driver.usedFlags, 0);
  request();
  assertEquals(driver.kickNeeded(), false);
  answer();
  answer();
  driver.usedEvent = 1;
  assertEquals(queue.publish(), true);
  assertEquals(driver.availEvent, 0);
  assertEquals(queue.enableNotification(), false);
  assertEquals(driver.availEvent, 2);
  request();
  request();
  assertEquals(driver.kickNeeded(), true);
  answer();
  driver.usedEvent = 3;
  assertEquals(queue.publish(), false);
  answer();
  assertEquals(queue.publish(), true);
  // FreeBSD's "interrupts off": far behind, never passed by one ring.
  driver.usedEvent = (4 - 8 - 1) & 0xffff;
  request();
  answer();
  assertEquals(queue.publish(), false);
  // The flags field has no meaning with EVENT_IDX.
  driver.usedEvent = 5;
  driver.availableFlags = 1;
  request();
  answer();
  assertEquals(queue.publish(), true);
});

Deno.test("a started queue asks for notifications, whatever was left behind", () => {
  const { driver } = rig();
  startQueue(driver).disableNotification();
  assertEquals(driver.usedFlags, 1);
  startQueue(driver);
  assertEquals(driver.usedFlags, 0);
  const events = rig({ eventIdx: true, start: 9 }).driver;
  events.submit([{ writable: 1 }]);
  events.memory.setUint16(events.usedRing, 1);
  startQueue(events, { position: 10 });
  assertEquals([events.availEvent, events.usedFlags], [10, 0]);
});

Deno.test("nothing to publish is no notification", () => {
  const { driver, queue } = rig();
  assertEquals(queue.publish(), false);
  driver.submit([{ writable: 1 }]);
  queue.complete(queue.take()!, 1);
  assertEquals([queue.publish(), queue.publish()], [true, false]);
});

Deno.test("rebind() follows the ring to a new mapping", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 4096 }]);
  const driver = new FakeDriver(memory, { size: 4 });
  const guest = memory.share(new GuestMemory());
  const queue = startQueue(driver, { memory: guest });
  // The same guest address, other bytes behind it.
  const copy = memory.read(0, 4096);
  guest.remove(0, 4096);
  guest.add({ guestAddress: 0, size: 4096, buffer: copy.buffer });
  queue.rebind();
  driver.submit([{ writable: 1 }]);
  assertEquals(queue.take(), null);
  copy.set(memory.read(0, 4096));
  const chain = queue.take();
  assert(chain !== null);
  chain.writeUint8(0, 0x42);
  assertEquals(copy[chain.address(0)], 0x42);
  queue.complete(chain, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 0);
  assertEquals(copy[driver.usedRing + 2], 1);
});

Deno.test("rebind() breaks a queue whose ring is gone", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 4096 }]);
  const driver = new FakeDriver(memory, { size: 4 });
  const guest = memory.share(new GuestMemory());
  const queue = startQueue(driver, { memory: guest, index: 3 });
  driver.submit([{ writable: 1 }]);
  guest.remove(0, 4096);
  assertMisuse("ring-outside-memory", () => queue.rebind());
  assertEquals(
    queue.broken,
    "Cannot start queue 3: descriptor table at 0x0 of 64 bytes " +
      "does not lie in one region of guest memory",
  );
  assertEquals([queue.take(), queue.available], [null, false]);
});
