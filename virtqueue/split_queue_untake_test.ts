/** Chains that a device gives back. */

import { assertEquals } from "@std/assert";
import type { SplitQueue } from "./split_queue.ts";
import { assertMisuse } from "./testing/misuse.ts";
import {
  FakeDriver,
  type FakeDriverOptions,
  FakeMemory,
} from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

function rig(
  options: FakeDriverOptions = {},
): { driver: FakeDriver; queue: SplitQueue } {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 16384 }]);
  const driver = new FakeDriver(memory, { size: 4, ...options });
  return { driver, queue: startQueue(driver) };
}

Deno.test("untake() gives back, and the same chains come again in order", () => {
  const { driver, queue } = rig();
  const tokens = [0, 1, 2].map((n) =>
    driver.submit([{ readable: Uint8Array.of(n) }])
  );
  const chains = tokens.map(() => queue.take()!);
  assertEquals(queue.position, 3);
  assertMisuse("untake-order", () => queue.untake(chains[0]));
  for (const chain of chains.toReversed()) queue.untake(chain);
  assertEquals([queue.position, queue.inFlight], [0, 0]);
  assertEquals([queue.available, queue.ready], [true, true]);
  tokens.push(driver.submit([{ readable: Uint8Array.of(3) }]));
  for (const token of tokens) {
    const chain = queue.take();
    assertEquals(chain?.readUint8(0), token);
    queue.complete(chain!, 0);
  }
  queue.publish();
  assertEquals(driver.reap().map((done) => done.token), tokens);
  assertEquals(queue.position, 4);
});

Deno.test("a given back chain starts a later run of the ring", () => {
  const { driver, queue } = rig({ start: 65535 });
  const tokens = [1, 2].map((n) => driver.submit([{ writable: n }]));
  const first = queue.take()!;
  queue.untake(queue.take()!);
  queue.complete(first, 1);
  queue.publish();
  assertEquals(queue.position, 0);
  const next = startQueue(driver, { position: queue.position });
  const chain = next.take()!;
  assertEquals(chain.writableLength, 2);
  next.complete(chain, 2);
  next.publish();
  assertEquals(driver.reap().map((done) => done.token), tokens);
});

Deno.test("untake() steps over bad chains, which are not answered again", () => {
  const { driver, queue } = rig({ size: 8 });
  driver.submit([{ writable: 1 }], { descriptors: [0] });
  driver.setDescriptor(5, { address: 2 ** 50, length: 1 });
  driver.offer(5);
  driver.offer(6 + 100);
  const chain = queue.take()!;
  assertEquals(queue.take(), null);
  assertEquals(queue.counters.badChains, 2);
  queue.untake(chain);
  assertEquals(queue.position, 0);
  const again = queue.take()!;
  assertEquals(again.head, 0);
  assertEquals(queue.take(), null);
  queue.complete(again, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 2);
  assertEquals([0, 1].map((at) => driver.usedElement(at).id), [5, 0]);
});

Deno.test("untake() steps over more bad heads than the ring has entries", () => {
  const { driver, queue } = rig({ size: 2 });
  driver.submit([{ writable: 1 }], { descriptors: [0] });
  const chain = queue.take()!;
  // The head of a chain in flight, available again and again.
  for (let round = 0; round < 5; round++) {
    driver.offer(0);
    driver.offer(0);
    assertEquals(queue.take(), null);
  }
  assertEquals(queue.counters.badChains, 10);
  queue.untake(chain);
  assertEquals([queue.position, queue.inFlight], [0, 0]);
  const again = queue.take()!;
  assertEquals([again.head, again.position], [0, 0]);
  queue.complete(again, 1);
  assertEquals(queue.take(), null);
  queue.publish();
  assertEquals(driver.usedIndex, 1);
});

Deno.test("a chain is not given back after a later one was answered", () => {
  const { driver, queue } = rig({ size: 4 });
  for (let i = 0; i < 3; i++) driver.submit([{ writable: 1 }]);
  const [first, second, third] = [queue.take()!, queue.take()!, queue.take()!];
  queue.untake(third);
  queue.complete(second, 0);
  assertMisuse("untake-order", () => queue.untake(first));
  const again = queue.take()!;
  assertEquals(again.position, 2);
  queue.untake(again);
  assertMisuse("untake-order", () => queue.untake(first));
});

Deno.test("a bad chain of an earlier round does not confuse untake()", () => {
  const { driver, queue } = rig({ size: 2 });
  for (const head of [9, 9]) driver.offer(head);
  assertEquals(queue.take(), null);
  driver.submit([{ writable: 1 }]);
  driver.submit([{ writable: 1 }]);
  const [first, second] = [queue.take()!, queue.take()!];
  assertMisuse("untake-order", () => queue.untake(first));
  queue.untake(second);
  queue.untake(first);
  assertEquals(queue.position, 2);
});

Deno.test("a driver that adds chains is heard while others are given back", () => {
  const { driver, queue } = rig({ size: 8, eventIdx: true });
  driver.submit([{ writable: 1 }]);
  driver.submit([{ writable: 2 }]);
  driver.kickNeeded();
  const chains = [queue.take()!, queue.take()!];
  for (const chain of chains.toReversed()) queue.untake(chain);
  assertEquals(queue.enableNotification(), true);
  driver.submit([{ writable: 3 }]);
  assertEquals(driver.kickNeeded(), true);
});

Deno.test("given back descriptors are read anew", () => {
  const { driver, queue } = rig({ size: 8 });
  driver.submit([{ writable: 1 }], { descriptors: [3] });
  queue.untake(queue.take()!);
  driver.setDescriptor(3, { address: 2 ** 50, length: 1 });
  assertEquals(queue.take(), null);
  assertEquals(queue.counters.badChains, 1);
  queue.publish();
  assertEquals(driver.usedElement(0), { id: 3, length: 0 });
});
