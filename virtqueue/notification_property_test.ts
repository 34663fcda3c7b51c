/**
 * A model check of the notification protocols: a device that sleeps and a
 * driver that sleeps, each waking the other only when the ring says that it is
 * wanted, are run under many schedules. The code under test is the real
 * `SplitQueue`; a schedule decides at which points the one party is preempted
 * and the other runs. Points are the steps of both parties and, inside of a
 * step, each access that is ordered by a fence (they all go through `Atomics`,
 * which is replaced for the run).
 *
 * A run fails when both sleep with work left (a notification was missed), when
 * a request is lost, or when one is answered twice. Then the same schedules are
 * given to queues with a bug each, and must find every one of them.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { needEvent } from "./notification.ts";
import { SplitQueue, type SplitQueueOptions } from "./split_queue.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { queueOptions } from "./testing/queue.ts";

type Step = "step" | "asleep";
type Party = Generator<Step, void, void>;
type MakeQueue = (driver: FakeDriver, options: SplitQueueOptions) => SplitQueue;

interface Scenario {
  readonly eventIdx: boolean;
  readonly size: number;
  readonly start: number;
  readonly requests: number;
  /** Most requests that the driver submits at once. */
  readonly burst: number;
  /** Most chains that the device takes at once. */
  readonly budget: number;
  /** Whether the device answers the chains of a turn last one first. */
  readonly reverse: boolean;
}

/** The wires between the two: an event is remembered until it is consumed. */
interface Wires {
  kick: boolean;
  call: boolean;
  answered: number[];
}

function* runDevice(
  queue: SplitQueue,
  scenario: Scenario,
  wires: Wires,
): Party {
  for (;;) {
    queue.disableNotification();
    yield "step";
    const held = [];
    while (held.length < scenario.budget) {
      const chain = queue.take();
      if (chain === null) break;
      held.push(chain);
      yield "step";
    }
    const turn = scenario.reverse ? held.toReversed() : held;
    for (const chain of turn) {
      chain.writeUint32(0, chain.readUint32(0) ^ 0x5a5a5a5a);
      queue.complete(chain, 4);
      yield "step";
    }
    if (queue.publish()) wires.call = true;
    yield "step";
    if (queue.enableNotification()) continue;
    yield "step";
    while (!wires.kick) yield "asleep";
    wires.kick = false;
  }
}

function* runDriver(
  driver: FakeDriver,
  scenario: Scenario,
  wires: Wires,
): Party {
  let left = scenario.requests;
  while (left > 0 || driver.inFlight > 0) {
    driver.disableInterrupt();
    yield "step";
    for (let i = 0; i < scenario.burst && left > 0; i++) {
      const data = new Uint8Array(4);
      new DataView(data.buffer).setUint32(0, scenario.requests - left, true);
      const buffers = [{ readable: data }, { writable: 4 }];
      const indirect = i % 2 === 1 || driver.size < 2;
      if (driver.submit(buffers, { indirect, flush: false }) < 0) break;
      left--;
      yield "step";
    }
    driver.flush();
    yield "step";
    if (driver.kickNeeded()) wires.kick = true;
    yield "step";
    for (const { token, length, data } of driver.reap()) {
      assertEquals(length, 4);
      const answer = new DataView(data.buffer).getUint32(0, true);
      assertEquals((answer ^ 0x5a5a5a5a) >>> 0, token);
      wires.answered.push(token);
    }
    yield "step";
    if (left > 0 && driver.freeDescriptors >= 2) continue;
    if (driver.inFlight === 0) continue;
    if (driver.enableInterrupt()) continue;
    yield "step";
    while (!wires.call) yield "asleep";
    wires.call = false;
  }
}

/**
 * Runs a scenario. Both parties run until they sleep; at the points whose
 * numbers are in `preemptions` the other one goes on instead.
 *
 * @returns what went wrong, or `null`, and the number of points passed.
 */
function run(
  scenario: Scenario,
  makeQueue: MakeQueue,
  preemptions: ReadonlySet<number>,
): { failure: string | null; points: number } {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 8192 }]);
  const { size, eventIdx, start, requests } = scenario;
  const driver = new FakeDriver(memory, { size, eventIdx, start });
  const queue = makeQueue(driver, queueOptions(driver));
  const wires: Wires = { kick: false, call: false, answered: [] };
  const parties = [
    runDriver(driver, scenario, wires),
    runDevice(queue, scenario, wires),
  ];
  let points = 0;
  let current = 0;
  let nested = false;
  const preempted = () => preemptions.has(points++);

  /** Runs the other party in the middle of a step of the current one. */
  const interrupt = () => {
    if (nested || !preempted()) return;
    nested = true;
    const other = parties[1 - current];
    while (other.next().value === "step" && !preempted());
    nested = false;
  };

  const { load, store } = Atomics;
  const patched = { load, store };
  patched.load = ((...all: Parameters<typeof load>) => {
    interrupt();
    const value = load(...all);
    interrupt();
    return value;
  }) as typeof load;
  patched.store = ((...all: Parameters<typeof store>) => {
    interrupt();
    const value = store(...all);
    interrupt();
    return value;
  }) as typeof store;

  Object.assign(Atomics, patched);
  try {
    let asleep = 0;
    while (asleep < 2) {
      const { value, done } = parties[current].next();
      if (done && current === 0) break;
      asleep = value === "asleep" ? asleep + 1 : 0;
      if (value === "asleep" || preempted()) current = 1 - current;
      if (points > 10_000) return { failure: "no end", points };
    }
  } catch (error) {
    return { failure: String(error), points };
  } finally {
    Object.assign(Atomics, { load, store });
  }
  const answered = wires.answered.toSorted((a, b) => a - b);
  const expected = Array.from({ length: requests }, (_, i) => i);
  if (answered.join() === expected.join()) return { failure: null, points };
  return { failure: `answered ${answered} of ${requests}`, points };
}

/** Runs every schedule with up to two preemptions; says what failed first. */
function explore(scenario: Scenario, makeQueue: MakeQueue): string | null {
  const base = run(scenario, makeQueue, new Set());
  if (base.failure !== null) return base.failure;
  for (let first = 0; first < base.points; first++) {
    const one = run(scenario, makeQueue, new Set([first]));
    if (one.failure !== null) return `${one.failure}, preempted at ${first}`;
    for (let second = first + 1; second < one.points; second++) {
      const { failure } = run(scenario, makeQueue, new Set([first, second]));
      if (failure !== null) {
        return `${failure}, preempted at ${first} and ${second}`;
      }
    }
  }
  return null;
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
    assertEquals(explore(scenario, correct), null);
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
        const { failure } = run(scenario, correct, new Set(preemptions));
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
        .map((scenario) => explore(scenario, makeQueue));
      // Found as what it is: both asleep, and some request without an answer.
      for (const failure of failures) {
        if (failure !== null) assertMatch(failure, /^answered [\d,]* of \d/);
      }
      assert(failures.some((failure) => failure !== null));
    });
  }
}
