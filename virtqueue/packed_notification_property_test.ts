/**
 * A model check of the notification protocol of packed rings, see
 * `testing/notification_model.ts`. The same schedules are given to queues with a
 * bug each, and must find every one of them.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { PackedQueue, type PackedQueueOptions } from "./packed_queue.ts";
import { needPackedEvent } from "./notification.ts";
import { encodePosition } from "./packed_ring.ts";
import {
  explore,
  type Parties,
  run,
  type Scenario,
} from "./testing/notification_model.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { queueOptions } from "./testing/queue.ts";

type MakeQueue = (
  driver: FakePackedDriver,
  options: PackedQueueOptions,
) => PackedQueue;

function parties(makeQueue: MakeQueue): Parties<FakePackedDriver> {
  return {
    driver: (memory, { size = 1, start = 0, ...options }) =>
      new FakePackedDriver(memory, {
        ...options,
        size,
        start: encodePosition(start % (2 * size), size),
      }),
    queue: (driver) => makeQueue(driver, queueOptions(driver)),
  };
}

const correct: MakeQueue = (_driver, options) => new PackedQueue(options);

/** Forgets to look at the ring again after asking for notifications. */
const withoutRecheck: MakeQueue = (_driver, options) =>
  new class extends PackedQueue {
    override enableNotification(): boolean {
      super.enableNotification();
      return false;
    }
  }(options);

/** Looks at the ring again before it asks for notifications. */
const recheckFirst: MakeQueue = (_driver, options) =>
  new class extends PackedQueue {
    override enableNotification(): boolean {
      const came = this.ready;
      super.enableNotification();
      return came;
    }
  }(options);

/** Never asks for notifications again. */
const neverAsks: MakeQueue = (_driver, options) => {
  let started = false;
  return new class extends PackedQueue {
    override enableNotification(): boolean {
      if (started) return this.ready;
      started = true;
      return super.enableNotification();
    }
  }(options);
};

/** Whether an event structure wants to know of a step. */
function wants(
  event: number,
  driver: FakePackedDriver,
  next: number,
  previous: number,
): boolean {
  if (next === previous) return false;
  return event >>> 16 === 2
    ? needPackedEvent(event & 0xffff, next, previous, driver.size)
    : event >>> 16 === 0;
}

/** The position up to which answers were given. */
function usedOf(queue: PackedQueue, size: number): number {
  const upper = queue.base >>> 16;
  return upper >= 0x8000 ? upper - 0x8000 : upper + size;
}

/** Reads what the driver wants before it publishes. */
const wishFirst: MakeQueue = (driver, options) => {
  let published = -1;
  return new class extends PackedQueue {
    override publish(): boolean {
      const previous = published < 0 ? encodedStart(driver) : published;
      const event = driver.driverEvent;
      super.publish();
      const next = published = usedOf(this, driver.size);
      return wants(event, driver, next, previous);
    }
  }(options);
};

/** Takes the descriptor that the driver named for that of another lap. */
const wrongLap: MakeQueue = (driver, options) => {
  let published = -1;
  return new class extends PackedQueue {
    override publish(): boolean {
      const previous = published < 0 ? encodedStart(driver) : published;
      super.publish();
      const next = published = usedOf(this, driver.size);
      const event = driver.driverEvent;
      if (event >>> 16 !== 2) return wants(event, driver, next, previous);
      const at = event & 0x8000
        ? event & 0x7fff
        : (event & 0x7fff) + driver.size;
      const other = encodePosition(
        (at + driver.size) % (2 * driver.size),
        driver.size,
      );
      return wants(2 << 16 | other, driver, next, previous);
    }
  }(options);
};

/** Where a ring began, as a position. */
function encodedStart({ start, size }: FakePackedDriver): number {
  const half = start & 0xffff;
  return half >= 0x8000 ? half - 0x8000 : half + size;
}

/** Never says that the driver wants a notification. */
const neverCalls: MakeQueue = (_driver, options) =>
  new class extends PackedQueue {
    override publish(): boolean {
      super.publish();
      return false;
    }
  }(options);

const scenarios: Scenario[] = [false, true].flatMap((eventIdx) =>
  [
    { size: 2, start: 0, requests: 3, burst: 1, budget: 1 },
    { size: 3, start: 5, requests: 4, burst: 2, budget: 2 },
    { size: 7, start: 4, requests: 5, burst: 3, budget: 4 },
  ].map((each) => ({ ...each, eventIdx, reverse: each.size === 7 }))
);

for (const scenario of scenarios) {
  const name = `size ${scenario.size}, EVENT_IDX ${scenario.eventIdx}`;
  Deno.test(`packed: no schedule loses or doubles anything, ${name}`, () => {
    assertEquals(explore(scenario, parties(correct)), null);
  });
}

Deno.test("packed: random schedules lose and double nothing", () => {
  fc.assert(
    fc.property(
      fc.record<Scenario>({
        eventIdx: fc.boolean(),
        size: fc.constantFrom(1, 2, 3, 7, 8),
        start: fc.nat(15),
        requests: fc.integer({ min: 1, max: 24 }),
        burst: fc.integer({ min: 1, max: 8 }),
        budget: fc.integer({ min: 1, max: 8 }),
        reverse: fc.boolean(),
      }),
      fc.uniqueArray(fc.nat(400), { maxLength: 80 }),
      (scenario, preemptions) => {
        const { failure } = run(
          scenario,
          parties(correct),
          new Set(preemptions),
        );
        assertEquals(failure, null);
      },
    ),
    { numRuns: 1000 },
  );
});

const bugs: [string, MakeQueue, boolean[]][] = [
  ["no recheck after enableNotification", withoutRecheck, [false, true]],
  ["a recheck before enableNotification", recheckFirst, [false, true]],
  ["device event not kept current", neverAsks, [false, true]],
  ["driver event read too early", wishFirst, [false, true]],
  ["no used-buffer notification", neverCalls, [false, true]],
  ["driver event of another lap", wrongLap, [true]],
];

for (const [name, makeQueue, modes] of bugs) {
  for (const eventIdx of modes) {
    Deno.test(`packed: the model check finds: ${name}, EVENT_IDX ${eventIdx}`, () => {
      const failures = scenarios
        .filter((scenario) => scenario.eventIdx === eventIdx)
        .map((scenario) => explore(scenario, parties(makeQueue)));
      // Found as what it is: both asleep, and some request without an answer.
      for (const failure of failures) {
        if (failure !== null) assertMatch(failure, /^answered [\d,]* of \d/);
      }
      assert(failures.some((failure) => failure !== null));
    });
  }
}
