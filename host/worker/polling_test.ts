import { assert, assertEquals } from "@std/assert";
import { CLOCK_CYCLE, ticksOf } from "../../sys/clock.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { PollingGovernor } from "./polling.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

/** A governor, and a clock that stands still unless it is told to go on. */
class Governed {
  readonly governor: PollingGovernor;
  now: number;

  /** @param now where the clock begins */
  constructor(mode: "auto" | "off" | number, now = 1000) {
    this.now = now;
    this.governor = new PollingGovernor(mode, () => this.now);
  }

  pass(ms: number): void {
    this.now = (this.now + ticksOf(ms)) % CLOCK_CYCLE;
  }

  sleep(ms: number, aside = false): void {
    this.governor.sleeps();
    this.pass(ms);
    this.governor.wakes();
    this.governor.woken(aside);
  }

  /** Looks each 4 ticks (1 µs); for how long that was allowed, -1: not at all. */
  look(): number {
    if (!this.governor.begin()) return -1;
    let looks = 0;
    do {
      this.pass(0.001);
      looks++;
    } while (this.governor.goOn());
    return looks;
  }
}

for (const [where, now] of [["", 1000], [" over its end", -5]] as const) {
  Deno.test(`PollingGovernor: auto looks only where sleeps were short, by a clock that runs${where}`, () => {
    const begin = (now + CLOCK_CYCLE) % CLOCK_CYCLE;
    const governed = new Governed("auto", begin);
    assertEquals(governed.look(), -1);
    governed.sleep(5);
    assertEquals(governed.look(), -1);
    governed.sleep(0.03);
    assertEquals(governed.look(), 10);
    governed.now = begin;
    assertEquals(governed.look(), 10);
    governed.now = begin;
    governed.sleep(0.03);
    for (let i = 0; i < 10; i++) governed.sleep(0.03);
    assertEquals(governed.look(), 98);
    governed.sleep(3);
    assertEquals(governed.look(), 49);
    for (let i = 0; i < 5; i++) governed.sleep(3);
    assertEquals(governed.look(), -1);
  });
}

Deno.test("PollingGovernor: a fixed window stays", () => {
  const governed = new Governed(80);
  governed.sleep(0.01);
  governed.sleep(10);
  assertEquals(governed.look(), 79);
  assert(governed.governor.enabled);
});

Deno.test("PollingGovernor: a microsecond is a window, too", () => {
  assertEquals(new Governed(1).look(), 1);
});

Deno.test("PollingGovernor: off is off", () => {
  const governed = new Governed("off");
  governed.sleep(0.001);
  assertEquals([governed.look(), governed.governor.enabled], [-1, false]);
});

Deno.test("PollingGovernor: rests after a preemption", () => {
  const governed = new Governed(50), { governor } = governed;
  assert(governor.begin());
  governed.pass(0.01);
  assert(governor.goOn());
  governed.pass(0.5);
  assert(!governor.goOn());
  governed.pass(50);
  assertEquals(governed.look(), -1);
  governed.pass(51);
  assertEquals(governed.look(), 49);
});

Deno.test("PollingGovernor: looking goes on as the last window was", () => {
  const governed = new Governed(50), { governor } = governed;
  assert(!governor.looking);
  governor.begin();
  assert(governor.looking);
  governed.pass(0.5);
  assert(!governor.goOn());
  assert(governor.looking);
  governor.begin();
  assert(!governor.looking);
  governed.pass(101);
  governor.begin();
  assert(governor.looking);
});

Deno.test("PollingGovernor: a sleep that nothing of rings ended goes on", () => {
  const governed = new Governed("auto"), { governor } = governed;
  for (let i = 0; i < 3; i++) governed.sleep(0.06, true);
  assertEquals([governor.slept, governor.sleptFor(ticksOf(0.05))], [0, true]);
  // Of 0.24 ms in all: too long to have been spared.
  governed.sleep(0.06);
  assertEquals(governor.slept, 4 * ticksOf(0.06));
  assertEquals(governed.look(), -1);
  governed.sleep(0.06);
  assertEquals(governor.slept, ticksOf(0.06));
  assertEquals(governed.look(), 10);
  assert(!governor.sleptFor(ticksOf(1)));
});

Deno.test("PollingGovernor: sleeps of hours are long, and no more", () => {
  const governed = new Governed("auto"), { governor } = governed;
  for (let i = 0; i < 1000; i++) governed.sleep(100_000, true);
  governed.sleep(0.01);
  assertEquals(governor.slept, CLOCK_CYCLE / 2);
  assertEquals(governed.look(), -1);
});

Deno.test("the loop tells of a sleep that a ring ended, as a whole", () => {
  const polling = new PollingGovernor("auto"), told: number[] = [];
  const woken = polling.woken.bind(polling);
  polling.woken = (aside) => {
    const before = polling.slept;
    woken(aside);
    if (polling.slept !== before) told.push(polling.slept);
  };
  const waiter = new EpollWaiter(), wait = waiter.wait.bind(waiter);
  // Every sleep takes a millisecond at least.
  waiter.wait = (timeout) => {
    const end = performance.now() + 1;
    while (performance.now() < end);
    return wait(timeout);
  };
  using bench = new Bench(waiter, 64, true, polling);
  using event = EventFd.create();
  bench.start();
  bench.turns(2);
  let others = 0;
  bench.loop.watch(event.fd, () => others += event.drain(), true);
  told.length = 0;
  for (let i = 0; i < 3; i++) {
    event.signal();
    bench.turns(1);
  }
  assertEquals([others, told], [3, []]);
  bench.kick.signal();
  bench.turns(1);
  assertEquals(told.length, 1);
  assert(told[0] >= ticksOf(4), `${told[0]} ticks`);
});
