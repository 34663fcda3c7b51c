/** Answers in order (VIRTIO_F_IN_ORDER) of a split queue. */

import { assert, assertEquals } from "@std/assert";
import { SplitInflight, splitInflightSize } from "./inflight.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

function makeDriver(): FakeDriver {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
  return new FakeDriver(memory, { size: 8 });
}

Deno.test("in order, answers wait for those before them", () => {
  const driver = makeDriver();
  const queue = startQueue(driver, { inOrder: true });
  for (let i = 0; i < 3; i++) driver.submit([{ writable: 4 }]);
  const chains = [queue.take()!, queue.take()!, queue.take()!];
  queue.complete(chains[1], 3);
  queue.complete(chains[2], 2);
  assertEquals([queue.inFlight, queue.publish()], [1, false]);
  assertEquals(queue.unanswered, 3);
  queue.complete(chains[0], 4);
  assertEquals(queue.unanswered, 0);
  assertEquals(queue.publish(), true);
  assertEquals(driver.reap().map(({ token, length }) => [token, length]), [
    [0, 4],
    [1, 3],
    [2, 2],
  ]);
});

Deno.test("in order, a bad chain waits too, and its head stays in flight", () => {
  const driver = makeDriver();
  const queue = startQueue(driver, { inOrder: true });
  driver.submit([{ writable: 1 }], { descriptors: [0] });
  driver.setDescriptor(5, { address: 2 ** 40, length: 1 });
  driver.offer(5);
  driver.offer(5);
  const first = queue.take()!;
  assertEquals([queue.take(), queue.counters.badChains], [null, 2]);
  assert(queue.lastError?.includes("made available again while in flight"));
  assertEquals(queue.publish(), false);
  queue.complete(first, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 2);
  assertEquals(driver.usedElement(0), { id: 0, length: 1 });
  assertEquals(driver.usedElement(1), { id: 5, length: 0 });
});

Deno.test("in order, what waits for its turn is tracked, and comes again", () => {
  const driver = makeDriver();
  const area = new Uint8Array(splitInflightSize(8));
  const start = () =>
    startQueue(driver, {
      inOrder: true,
      inflight: new SplitInflight(area, 8),
      position: driver.usedIndex,
    });
  const first = start();
  for (let i = 0; i < 3; i++) driver.submit([{ writable: 1 }]);
  const chains = [first.take()!, first.take()!, first.take()!];
  first.complete(chains[2], 1);
  first.complete(chains[1], 1);
  first.publish();
  const second = start();
  assertEquals(second.recovering, 3);
  for (let i = 0; i < 3; i++) second.complete(second.take()!, 1);
  second.publish();
  assertEquals(driver.reap().map(({ token }) => token), [0, 1, 2]);
});
