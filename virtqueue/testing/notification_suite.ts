/**
 * The tests of the notification protocol that both layouts share: schedules of
 * `notification_model.ts`, given to a queue as it is, which must pass all of them,
 * and to queues with a bug each, every one of which they must find.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import type { RunningQueue } from "../queue.ts";
import type { RingDriver } from "./driver.ts";
import {
  explore,
  type Parties,
  run,
  type Scenario,
} from "./notification_model.ts";

/** Puts a bug into a queue that was started on a driver's ring. */
export type Bug<Driver> = (queue: RunningQueue, driver: Driver) => void;

/** A bug: its name, itself, and the values of EVENT_IDX that it shows with. */
export type NamedBug<Driver> = readonly [
  name: string,
  bug: Bug<Driver>,
  modes: readonly boolean[],
];

/** What differs between the layouts. */
export interface Layout<Driver extends RingDriver> {
  /** What names of tests begin with. */
  readonly prefix: string;
  /** The driver, and the queue as it is. */
  readonly parties: Parties<Driver>;
  /** Size and start of three rings, a smaller one first. */
  readonly rings: readonly (readonly [size: number, start: number])[];
  /** Sizes for random schedules. */
  readonly sizes: readonly number[];
  /** Starts for random schedules. */
  readonly starts: fc.Arbitrary<number>;
  /** Bugs that this layout can have, beside those of both. */
  readonly bugs: readonly NamedBug<Driver>[];
}

/** Forgets to look at the ring again after asking for notifications. */
const withoutRecheck: Bug<RingDriver> = (queue) => {
  const enable = queue.enableNotification.bind(queue);
  queue.enableNotification = () => {
    enable();
    return false;
  };
};

/** Looks at the ring again before it asks for notifications. */
const recheckFirst: Bug<RingDriver> = (queue) => {
  const enable = queue.enableNotification.bind(queue);
  queue.enableNotification = () => {
    const came = queue.ready;
    enable();
    return came;
  };
};

/** Never asks for notifications again: it did so once, when it started. */
const neverAsks: Bug<RingDriver> = (queue) => {
  queue.enableNotification = () => queue.ready;
};

/** Never says that the driver wants a notification. */
const neverCalls: Bug<RingDriver> = (queue) => {
  const publish = queue.publish.bind(queue);
  queue.publish = () => {
    publish();
    return false;
  };
};

const BUGS: readonly NamedBug<RingDriver>[] = [
  ["no recheck after enableNotification", withoutRecheck, [false, true]],
  ["a recheck before enableNotification", recheckFirst, [false, true]],
  ["what the device wants not kept current", neverAsks, [false, true]],
  ["no used-buffer notification", neverCalls, [false, true]],
];

function scenariosOf(rings: Layout<never>["rings"]): Scenario[] {
  const work = [
    { requests: 3, burst: 1, budget: 1, reverse: false },
    { requests: 4, burst: 2, budget: 2, reverse: false },
    { requests: 5, burst: 3, budget: 4, reverse: true },
  ];
  return [false, true].flatMap((eventIdx) =>
    rings.map(([size, start], i) => ({ eventIdx, size, start, ...work[i] }))
  );
}

/** Declares the tests of one layout. */
export function testNotifications<Driver extends RingDriver>(
  layout: Layout<Driver>,
): void {
  const { prefix, parties, sizes, starts } = layout;
  const scenarios = scenariosOf(layout.rings);
  for (const scenario of scenarios) {
    const name = `size ${scenario.size}, EVENT_IDX ${scenario.eventIdx}`;
    Deno.test(`${prefix}no schedule loses or doubles anything, ${name}`, () => {
      assertEquals(explore(scenario, parties), null);
    });
  }

  Deno.test(`${prefix}random schedules lose and double nothing`, () => {
    fc.assert(
      fc.property(
        fc.record<Scenario>({
          eventIdx: fc.boolean(),
          size: fc.constantFrom(...sizes),
          start: starts,
          requests: fc.integer({ min: 1, max: 24 }),
          burst: fc.integer({ min: 1, max: 8 }),
          budget: fc.integer({ min: 1, max: 8 }),
          reverse: fc.boolean(),
        }),
        fc.uniqueArray(fc.nat(400), { maxLength: 80 }),
        (scenario, preemptions) => {
          const { failure } = run(scenario, parties, new Set(preemptions));
          assertEquals(failure, null);
        },
      ),
      { numRuns: 1000 },
    );
  });

  for (const [name, bug, modes] of [...BUGS, ...layout.bugs]) {
    const ill: Parties<Driver> = {
      driver: parties.driver,
      queue: (driver) => {
        const queue = parties.queue(driver);
        bug(queue, driver);
        return queue;
      },
    };
    for (const eventIdx of modes) {
      const full = `the model check finds: ${name}, EVENT_IDX ${eventIdx}`;
      Deno.test(prefix + full, () => {
        const failures = scenarios
          .filter((scenario) => scenario.eventIdx === eventIdx)
          .map((scenario) => explore(scenario, ill));
        // Found as what it is: both asleep, and some request without an answer.
        for (const failure of failures) {
          if (failure !== null) assertMatch(failure, /^answered [\d,]* of \d/);
        }
        assert(failures.some((failure) => failure !== null));
      });
    }
  }
}
