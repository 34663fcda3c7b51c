/**
 * Devices that die, and their successors on the same ring: for tests of inflight
 * tracking of either layout.
 *
 * Theory of operation. An area whose stores all go through {@linkcode around} has
 * a user who dies before or after the store whose number {@linkcode live} set: an
 * exception that nothing between the store and the test catches stands for the
 * death. A {@linkcode Succession} is one driver and the devices that serve it one
 * after the other, and counts what becomes of each request.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { DescriptorChain } from "../chain.ts";
import type { RunningQueue } from "../queue.ts";
import type { RingDriver } from "./buffers.ts";

/** The process was killed. */
class Killed extends Error {}

let stores = 0;
let end = Infinity;
let afterwards = false;

/**
 * Who uses an area from now on dies at the store of this number.
 *
 * @param number counted from 0; `Infinity`: nobody dies
 * @param late after it instead of before it
 */
export function live(number: number, late: boolean): void {
  stores = 0;
  end = number;
  afterwards = late;
}

/** Does a store to an area, which may be the one at which its user dies. */
export function around(store: () => void): void {
  const last = stores++ === end;
  if (last && !afterwards) throw new Killed();
  store();
  if (last) throw new Killed();
}

/** Runs what a device does; whether it died of it. */
export function dies(body: () => void): boolean {
  try {
    body();
    return false;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return true;
  }
}

/** A driver and the devices that serve it, one after the other. */
export class Succession<Driver extends RingDriver = RingDriver> {
  /** The driver, who outlives them all. */
  readonly driver: Driver;
  readonly #start: () => RunningQueue;
  /** How often each request was carried out. */
  readonly done = new Map<number, number>();
  /** Requests that the driver saw answered, in this order. */
  readonly answered: number[] = [];
  /** The queue of the device that lives now. */
  queue!: RunningQueue;
  /** What it took and did not answer. */
  chains: DescriptorChain[] = [];
  /** What was taken and not given back, the last one last. */
  taken: DescriptorChain[] = [];
  /** Requests that were taken again, in the order of that. */
  again: number[] = [];
  /** Number of requests that the driver made available. */
  submitted = 0;

  /**
   * Makes a driver without a device.
   *
   * @param start starts the queue of the next device, on the area of them all
   */
  constructor(driver: Driver, start: () => RunningQueue) {
    this.driver = driver;
    this.#start = start;
  }

  /** A device begins where its predecessor died. */
  begin(): void {
    this.chains = [];
    this.taken = [];
    this.again = [];
    this.queue = this.#start();
  }

  /** A device that does not die begins. */
  beginForever(): void {
    live(Infinity, false);
    this.begin();
  }

  /**
   * Submits a request of one descriptor in the ring, or of two or three.
   *
   * @returns false when the ring has no room for it
   */
  submit(descriptors = 1): boolean {
    const token = this.submitted;
    const readable = new Uint8Array([token, token >> 8]);
    const buffers = [{ readable }, { writable: 1 }, { writable: 2 }];
    const indirect = descriptors === 1;
    const list = buffers.slice(0, indirect ? 2 : descriptors);
    const given = this.driver.submit(list, { indirect });
    if (given < 0) return false;
    assertEquals(given, token);
    this.submitted++;
    return true;
  }

  /** Takes a request; false when there is none. */
  take(): boolean {
    const chain = this.queue.take();
    if (chain === null) return false;
    this.chains.push(chain);
    this.taken.push(chain);
    if (chain.resubmitted) this.again.push(tokenOf(chain));
    return true;
  }

  /** Carries out and answers one of the requests that were taken. */
  complete(which: number): void {
    if (this.chains.length === 0) return;
    const [chain] = this.chains.splice(which % this.chains.length, 1);
    const token = tokenOf(chain);
    this.done.set(token, (this.done.get(token) ?? 0) + 1);
    this.queue.complete(chain, 1);
  }

  /** Gives back what was taken last, unless it was answered. */
  untake(): void {
    const chain = this.chains.at(-1);
    if (chain === undefined || chain !== this.taken.at(-1)) return;
    this.chains.pop();
    this.taken.pop();
    this.queue.untake(chain);
  }

  /** The driver looks for answers. */
  reap(): void {
    for (const { token } of this.driver.reap()) this.answered.push(token);
  }

  /** Serves all that there is. */
  finish(): void {
    for (;;) {
      while (this.take());
      if (this.chains.length === 0) break;
      while (this.chains.length > 0) this.complete(0);
      this.queue.publish();
    }
    this.queue.publish();
    this.reap();
  }

  /** Everything that was submitted was answered, once. */
  assertWhole(): void {
    const { driver, submitted } = this;
    assertEquals(
      this.answered.toSorted((a, b) => a - b),
      Array.from({ length: submitted }, (_, i) => i),
    );
    assertEquals([driver.inFlight, driver.freeDescriptors], [0, driver.size]);
    for (let i = 0; i < submitted; i++) assert((this.done.get(i) ?? 0) >= 1);
  }
}

function tokenOf(chain: DescriptorChain): number {
  return chain.readUint16(0);
}

/**
 * A device lives a story and dies at each of its stores; its successor finishes,
 * and nothing is lost, nothing answered twice.
 *
 * @returns how many died
 */
export function dieAnywhere<Each extends Succession>(
  make: () => Each,
  story: (s: Each) => void,
): number {
  let deaths = 0;
  for (const late of [false, true]) {
    for (let store = 0;; store++) {
      const s = make();
      live(store, late);
      const died = dies(() => {
        s.begin();
        story(s);
      });
      s.beginForever();
      assertEquals(s.queue.broken, null);
      s.finish();
      s.assertWhole();
      if (!died) break;
      deaths++;
    }
  }
  return deaths;
}

/**
 * A device dies at one store of a story, its successor at each of its own in
 * turn; the third one finishes, and nothing is lost, nothing answered twice.
 *
 * @returns how many successors died
 */
export function successorDiesAnywhere<Each extends Succession>(
  make: () => Each,
  story: (s: Each) => void,
  first: number,
): number {
  for (let second = 0;; second++) {
    const s = make();
    live(first, second % 2 === 0);
    dies(() => {
      s.begin();
      story(s);
    });
    live(second, false);
    const died = dies(() => {
      s.begin();
      s.finish();
    });
    s.beginForever();
    s.finish();
    s.assertWhole();
    if (!died) return second;
  }
}

/** What may happen next, one of many; the number is for what needs one. */
export const ACTS = [
  ...["submit", "submit", "take", "take", "complete", "untake"] as const,
  ...["publish", "reap", "die"] as const,
];

/** One act of {@linkcode liveAndDie}. */
export type Act = readonly [what: (typeof ACTS)[number], which: number];

/**
 * Devices follow each other while things happen; the last one finishes, and
 * nothing is lost, nothing answered twice.
 *
 * @param lives the store at which each dies, the first ones first
 * @param late after it instead of before it
 */
export function liveAndDie(
  s: Succession,
  acts: readonly Act[],
  lives: readonly number[],
  late: boolean,
): void {
  let life = 0;
  const begin = (): void => {
    live(lives[life++] ?? Infinity, late);
    s.begin();
  };
  const mortally = (body: () => void): void => {
    while (dies(body)) body = begin;
  };
  mortally(begin);
  for (const [what, which] of acts) {
    if (what === "submit") s.submit(1 + which % 3);
    else if (what === "reap") s.reap();
    else if (what === "die") mortally(begin);
    else if (what === "publish") mortally(() => void s.queue.publish());
    else if (what === "complete") mortally(() => s.complete(which));
    else mortally(() => void s[what]());
  }
  s.beginForever();
  s.finish();
  s.assertWhole();
}

/**
 * Declares the tests of what a successor takes again.
 *
 * @param descriptors of each request for which it matters: with one each they are
 * noted where answered ones were, with two they lie where answers lay
 */
export function testResubmission(
  make: () => Succession,
  descriptors: number,
): void {
  const of = `requests of ${descriptors}`;
  Deno.test(`${of} come again in the order of their taking, and say so`, () => {
    const s = make();
    s.beginForever();
    for (let i = 0; i < 4; i++) s.submit();
    for (let i = 0; i < 4; i++) s.take();
    s.complete(1);
    s.complete(2); // Requests 1 and 3.
    s.queue.publish();
    s.reap();
    // Those leave room for requests 4 and 5.
    for (let i = 0; i < 2; i++) assert(s.submit(descriptors));
    while (s.take());
    s.begin();
    assertEquals(s.queue.recovering, 4);
    s.finish();
    assertEquals(s.again, [0, 2, 4, 5]);
    assertEquals(s.queue.recovering, 0);
    s.submit();
    assert(s.take());
    assertEquals(s.again, [0, 2, 4, 5]);
  });

  Deno.test(`${of} that come again can be given back, and come again`, () => {
    const s = make();
    s.beginForever();
    for (let i = 0; i < 3; i++) assert(s.submit(descriptors));
    while (s.take());
    s.begin();
    s.take();
    s.untake();
    assertEquals(s.queue.recovering, 3);
    s.take();
    assertEquals(s.again, [0, 0]);
    s.untake();
    // Also for a successor: the ring does not hold it any more.
    s.begin();
    s.finish();
    assertEquals(s.again, [0, 1, 2]);
    s.assertWhole();
  });
}
