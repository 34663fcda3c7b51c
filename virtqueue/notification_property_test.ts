/**
 * A model check of the notification protocol of split rings, see
 * `testing/notification_model.ts`. The same schedules are given to queues with a
 * bug each, and must find every one of them.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { needEvent } from "./notification.ts";
import { SplitQueue, type SplitQueueOptions } from "./split_queue.ts";
import { FakeDriver } from "./testing/driver.ts";
import {
  explore,
  type Parties,
  run,
  type Scenario,
} from "./testing/notification_model.ts";
import { queueOptions } from "./testing/queue.ts";

type MakeQueue = (driver: FakeDriver, options: SplitQueueOptions) => SplitQueue;

function parties(makeQueue: MakeQueue): Parties<FakeDriver> {
  return {
    driver: (memory, options) => new FakeDriver(memory, options),
    queue: (driver) => makeQueue(driver, queueOptions(driver)),
  };
}

const correct: MakeQueue = (_driver, options) => new SplitQueue(options);

/** Forgets to look at the ring again after asking for notifications. */
const withoutRecheck: MakeQueue = (_driver, options) =>
  new class extends SplitQueue {
    override enableNotification(): boolean {
      super.enableNotification();
      return false;
    }
  }(options);

/** Looks at the ring again before it asks for notifications. */
const recheckFirst: MakeQueue = (_driver, options) =>
  new class extends SplitQueue {
    override enableNotification(): boolean {
      const came = this.ready;
      super.enableNotification();
      return came;
    }
  }(options);

/** Never asks for notifications again. */
const neverAsks: MakeQueue = (_driver, options) => {
  let started = false;
  return new class extends SplitQueue {
    override enableNotification(): boolean {
      if (started) return this.ready;
      started = true;
      return super.enableNotification();
    }
  }(options);
};

/** Decides about notifications with `used_event` off by some entries. */
function eventOffBy(error: number): MakeQueue {
  return (driver, options) =>
    new class extends SplitQueue {
      override publish(): boolean {
        const previous = driver.usedIndex;
        super.publish();
        const next = driver.usedIndex;
        return needEvent((driver.usedEvent + error) & 0xffff, next, previous);
      }
    }(options);
}

/** Reads what the driver wants before it publishes. */
const wishFirst: MakeQueue = (driver, options) =>
  new class extends SplitQueue {
    override publish(): boolean {
      const event = driver.usedEvent;
      const flags = driver.availableFlags;
      const previous = driver.usedIndex;
      super.publish();
      const next = driver.usedIndex;
      if (next === previous) return false;
      return driver.eventIdx
        ? needEvent(event, next, previous)
        : (flags & 1) === 0;
    }
  }(options);

/** Never says that the driver wants a notification. */
const neverCalls: MakeQueue = (_driver, options) =>
  new class extends SplitQueue {
    override publish(): boolean {
      super.publish();
      return false;
    }
  }(options);

const scenarios: Scenario[] = [false, true].flatMap((eventIdx) =>
  [
    { size: 2, start: 0, requests: 3, burst: 1, budget: 1 },
    { size: 4, start: 65534, requests: 4, burst: 2, budget: 2 },
    { size: 8, start: 65533, requests: 5, burst: 3, budget: 4 },
  ].map((each) => ({ ...each, eventIdx, reverse: each.size === 8 }))
);

for (const scenario of scenarios) {
  const name = `size ${scenario.size}, EVENT_IDX ${scenario.eventIdx}`;
  Deno.test(`no schedule loses or doubles anything, ${name}`, () => {
    assertEquals(explore(scenario, parties(correct)), null);
  });
}

Deno.test("random schedules lose and double nothing", () => {
  fc.assert(
    fc.property(
      fc.record<Scenario>({
        eventIdx: fc.boolean(),
        size: fc.constantFrom(1, 2, 4, 8),
        start: fc.constantFrom(0, 65535, 65530, 32767),
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
  ["avail_event or flags not kept current", neverAsks, [false, true]],
  ["used_event or flags read too early", wishFirst, [false, true]],
  ["no used-buffer notification", neverCalls, [false, true]],
  ["used_event off by one upwards", eventOffBy(1), [true]],
  ["used_event off by one downwards", eventOffBy(-1), [true]],
];

for (const [name, makeQueue, modes] of bugs) {
  for (const eventIdx of modes) {
    Deno.test(`the model check finds: ${name}, EVENT_IDX ${eventIdx}`, () => {
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
