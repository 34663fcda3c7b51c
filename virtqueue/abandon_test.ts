/** Requests that stay in flight when their ring stops, and who does them. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { DIRTY_LOG_PAGE, DirtyLog, dirtyLogSize } from "./dirty_log.ts";
import { packedInflightSize } from "./packed_inflight.ts";
import { encodeBase } from "./packed_ring.ts";
import { QueueError } from "./queue_error.ts";
import type { RunningQueue } from "./queue.ts";
import type { RingDriver } from "./testing/buffers.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startRing, startTracked } from "./testing/queue.ts";

const SIZE = 8;

/** A driver, and the queues that serve its ring one after the other. */
interface Rig {
  readonly driver: RingDriver;
  readonly memory: FakeMemory;
  /** The next queue, at the position that the one before answered. */
  start(position: number): RunningQueue;
  /** The position of an answer, where a front-end counts available entries too. */
  base(available: number, used: number): number;
}

function rig(packed: boolean, inOrder: boolean): Rig {
  const memory = new FakeMemory([{ guestAddress: 0x1000, bytes: 1 << 16 }]);
  const Driver = packed ? FakePackedDriver : FakeDriver;
  const driver = new Driver(memory, { size: SIZE, indirect: true });
  // Longer than that of a split ring.
  const area = new Uint8Array(packedInflightSize(SIZE));
  return {
    driver,
    memory,
    start: (position) => startTracked(driver, area, { inOrder, position }),
    base: (available, used) =>
      packed ? encodeBase(available, used, SIZE) : available,
  };
}

const LAYOUTS: [string, (inOrder: boolean) => Rig][] = [
  ["split", (inOrder) => rig(false, inOrder)],
  ["packed", (inOrder) => rig(true, inOrder)],
];

function submit(driver: RingDriver): void {
  const readable = new Uint8Array(1);
  driver.submit([{ readable }, { writable: 1 }], { indirect: true });
}

function tokens(driver: RingDriver): number[] {
  return driver.reap().map(({ token }) => token);
}

for (const [layout, make] of LAYOUTS) {
  Deno.test(`${layout}: what is abandoned is not answered, and is the successor's`, () => {
    const { driver, start, base } = make(false);
    const queue = start(driver.start);
    for (let i = 0; i < 5; i++) submit(driver);
    const chains = Array.from({ length: 4 }, () => queue.take()!);
    queue.complete(chains[1], 1);
    queue.publish();
    for (const i of [3, 0, 2]) queue.abandon(chains[i]);
    assertEquals([queue.inFlight, queue.publish()], [0, false]);
    assertEquals(tokens(driver), [1]);
    // Behind all that was taken: the fifth one is yet to come.
    assertEquals(queue.suspendedBase, base(4, 1));
    const next = start(queue.suspendedBase);
    assertEquals(next.recovering, 3);
    const again = Array.from({ length: 4 }, () => next.take()!);
    assertEquals(again.map((chain) => chain.resubmitted), [
      ...[true, true, true, false],
    ]);
    assertEquals(next.take(), null);
    for (const chain of again) next.complete(chain, 1);
    next.publish();
    assertEquals(tokens(driver), [0, 2, 3, 4]);
    assertEquals(next.suspendedBase, base(5, 5));
  });

  Deno.test(`${layout}: a queue may go before it took all that it inherited`, () => {
    const { driver, start, base } = make(false);
    const first = start(driver.start);
    for (let i = 0; i < 4; i++) submit(driver);
    for (let i = 0; i < 3; i++) first.abandon(first.take()!);
    const second = start(first.suspendedBase);
    second.abandon(second.take()!);
    assertEquals(second.recovering, 2);
    assertEquals(second.suspendedBase, base(3, 0));
    const third = start(second.suspendedBase);
    assertEquals(third.recovering, 3);
    for (let i = 0; i < 4; i++) third.complete(third.take()!, 1);
    third.publish();
    assertEquals(tokens(driver), [0, 1, 2, 3]);
  });

  Deno.test(`${layout}: what was given back is before what comes next`, () => {
    const { driver, start, base } = make(false);
    const queue = start(driver.start);
    for (let i = 0; i < 4; i++) submit(driver);
    const [kept, ...rest] = Array.from({ length: 4 }, () => queue.take()!);
    for (const chain of rest.reverse()) queue.untake(chain);
    queue.abandon(kept);
    assertEquals(queue.suspendedBase, base(1, 0));
    const next = start(queue.suspendedBase);
    assertEquals(next.recovering, 1);
    for (let i = 0; i < 4; i++) next.complete(next.take()!, 1);
    next.publish();
    assertEquals(tokens(driver), [0, 1, 2, 3]);
  });

  Deno.test(`${layout}, in order: what is finished behind it stays, too`, () => {
    const { driver, start, base } = make(true);
    const queue = start(driver.start);
    for (let i = 0; i < 3; i++) submit(driver);
    const chains = Array.from({ length: 3 }, () => queue.take()!);
    queue.complete(chains[0], 1);
    queue.complete(chains[2], 1);
    queue.publish();
    queue.abandon(chains[1]);
    assertEquals([queue.inFlight, queue.publish()], [0, false]);
    assertEquals(tokens(driver), [0]);
    assertEquals(queue.suspendedBase, base(3, 1));
    const next = start(queue.suspendedBase);
    assertEquals(next.recovering, 2);
    for (let i = 0; i < 2; i++) next.complete(next.take()!, 1);
    next.publish();
    assertEquals(tokens(driver), [1, 2]);
  });

  Deno.test(`${layout}: all that an abandoned request may have written is logged`, () => {
    const { driver, memory, start } = make(false);
    const queue = start(driver.start);
    const bits = new Uint8Array(dirtyLogSize(0x1_1000));
    queue.logWrites(new DirtyLog(bits), -1);
    const address = memory.allocate(3 * DIRTY_LOG_PAGE, DIRTY_LOG_PAGE);
    driver.submit([
      { address, length: 2 * DIRTY_LOG_PAGE, write: true },
    ], { indirect: false });
    const chain = queue.take()!;
    bits.fill(0);
    queue.abandon(chain);
    const first = address / DIRTY_LOG_PAGE;
    const marked = [0, 1, 2].map((page) =>
      bits[(first + page) >> 3] >> ((first + page) & 7) & 1
    );
    assertEquals(marked, [1, 1, 0]);
  });

  Deno.test(`${layout}: only what is in flight, and tracked, can be abandoned`, () => {
    const { driver, start } = make(false);
    const queue = start(driver.start);
    submit(driver);
    submit(driver);
    const chain = queue.take()!;
    queue.abandon(chain);
    const refused = (body: () => void, kind: string): void => {
      const error = assertThrows(body, QueueError);
      assertEquals(error.kind, kind);
    };
    refused(() => queue.abandon(chain), "not-in-flight");
    refused(() => queue.complete(chain, 0), "not-in-flight");
    const untracked = startRing(driver, { position: driver.start });
    const other = untracked.take()!;
    refused(() => queue.abandon(other), "not-in-flight");
    refused(() => untracked.abandon(other), "not-tracked");
    assert(other.taken);
  });
}
