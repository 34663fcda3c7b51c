import { assert, assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { PollingGovernor } from "./polling.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

/** A governor, and a clock that stands still unless it is told to go on. */
class Governed {
  readonly governor: PollingGovernor;
  now = 1000;

  constructor(mode: "auto" | "off" | number) {
    this.governor = new PollingGovernor(mode, (times, at) => {
      times[at] = this.now;
    });
  }

  sleep(ms: number, aside = false): void {
    this.governor.sleeps();
    this.now += ms;
    this.governor.wakes();
    this.governor.woken(aside);
  }

  /** Looks each 1/1024 ms; for how long that was allowed, -1: not at all. */
  look(): number {
    if (!this.governor.begin()) return -1;
    let looks = 0;
    do {
      this.now += 1 / 1024;
      looks++;
    } while (this.governor.goOn());
    return looks;
  }
}

Deno.test("PollingGovernor: auto looks only where sleeps were short", () => {
  const governed = new Governed("auto");
  assertEquals(governed.look(), -1);
  governed.sleep(5);
  assertEquals(governed.look(), -1);
  governed.sleep(0.03);
  assertEquals(governed.look(), 11);
  for (let i = 0; i < 10; i++) governed.sleep(0.03);
  assertEquals(governed.look(), 103);
  governed.sleep(3);
  assertEquals(governed.look(), 52);
  for (let i = 0; i < 5; i++) governed.sleep(3);
  assertEquals(governed.look(), -1);
});

Deno.test("PollingGovernor: a fixed window stays", () => {
  const governed = new Governed(80);
  governed.sleep(0.01);
  governed.sleep(10);
  assertEquals(governed.look(), 82);
  assert(governed.governor.enabled);
});

Deno.test("PollingGovernor: off is off", () => {
  const governed = new Governed("off");
  governed.sleep(0.001);
  assertEquals([governed.look(), governed.governor.enabled], [-1, false]);
});

Deno.test("PollingGovernor: rests after a preemption", () => {
  const governed = new Governed(50), { governor } = governed;
  assert(governor.begin());
  governed.now += 0.01;
  assert(governor.goOn());
  governed.now += 0.5;
  assert(!governor.goOn());
  governed.now += 50;
  assertEquals(governed.look(), -1);
  governed.now += 51;
  assertEquals(governed.look(), 52);
});

Deno.test("PollingGovernor: looking goes on as the last window was", () => {
  const governed = new Governed(50), { governor } = governed;
  assert(!governor.looking);
  governor.begin();
  assert(governor.looking);
  governed.now += 0.5;
  assert(!governor.goOn());
  assert(governor.looking);
  governor.begin();
  assert(!governor.looking);
  governed.now += 101;
  governor.begin();
  assert(governor.looking);
});

Deno.test("PollingGovernor: a sleep that nothing of rings ended goes on", () => {
  const governed = new Governed("auto"), { governor } = governed;
  for (let i = 0; i < 3; i++) governed.sleep(0.06, true);
  assertEquals([governor.slept, governor.sleptFor(0.05)], [0, true]);
  // Of 0.24 ms in all: too long to have been spared.
  governed.sleep(0.06);
  assertEquals(Math.round(governor.slept * 1000), 240);
  assertEquals(governed.look(), -1);
  governed.sleep(0.06);
  assertEquals(Math.round(governor.slept * 1000), 60);
  assertEquals(governed.look(), 11);
  assert(!governor.sleptFor(1));
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
  assert(told[0] >= 4, `${told[0]} ms`);
});
