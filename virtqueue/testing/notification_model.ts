/**
 * A model check of the notification protocols: a device that sleeps and a
 * driver that sleeps, each waking the other only when the ring says that it is
 * wanted, are run under many schedules. The code under test is the real queue; a
 * schedule decides at which points the one party is preempted and the other runs.
 * Points are the steps of both parties and, inside of a step, each access that is
 * ordered by a fence (they all go through `Atomics`, which is replaced for the
 * run).
 *
 * A run fails when both sleep with work left (a notification was missed), when
 * a request is lost, or when one is answered twice.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { RunningQueue } from "../queue.ts";
import {
  type FakeDriverOptions,
  FakeMemory,
  type RingDriver,
} from "./driver.ts";

type Step = "step" | "asleep";
type Party = Generator<Step, void, void>;

/** The two parties: a driver in a memory, and the queue of a device on its ring. */
export interface Parties<Driver extends RingDriver> {
  /** Makes the driver's side. */
  driver(memory: FakeMemory, options: FakeDriverOptions): Driver;
  /** Makes the device's side. */
  queue(driver: Driver): RunningQueue;
}

/** What both have to do. */
export interface Scenario {
  /** Whether VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx: boolean;
  /** Entries of the ring. */
  readonly size: number;
  /** Where the ring begins. */
  readonly start: number;
  /** Requests in all. */
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
  queue: RunningQueue,
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
  driver: RingDriver,
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
export function run<Driver extends RingDriver>(
  scenario: Scenario,
  make: Parties<Driver>,
  preemptions: ReadonlySet<number>,
): { failure: string | null; points: number } {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 8192 }]);
  const { size, eventIdx, start, requests } = scenario;
  const driver = make.driver(memory, { size, eventIdx, start });
  const queue = make.queue(driver);
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
export function explore<Driver extends RingDriver>(
  scenario: Scenario,
  make: Parties<Driver>,
): string | null {
  const base = run(scenario, make, new Set());
  if (base.failure !== null) return base.failure;
  for (let first = 0; first < base.points; first++) {
    const one = run(scenario, make, new Set([first]));
    if (one.failure !== null) return `${one.failure}, preempted at ${first}`;
    for (let second = first + 1; second < one.points; second++) {
      const { failure } = run(scenario, make, new Set([first, second]));
      if (failure !== null) {
        return `${failure}, preempted at ${first} and ${second}`;
      }
    }
  }
  return null;
}
