import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { PollingGovernor } from "./polling.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

Deno.test("PollingGovernor: auto looks only where sleeps were short", () => {
  const governor = new PollingGovernor("auto");
  assertEquals(governor.window(0), 0);
  governor.slept(5);
  assertEquals(governor.window(0), 0);
  governor.slept(0.03);
  assertAlmostEquals(governor.window(0), 0.01);
  for (let i = 0; i < 10; i++) governor.slept(0.03);
  assertAlmostEquals(governor.window(0), 0.1);
  governor.slept(3);
  assertAlmostEquals(governor.window(0), 0.05);
  for (let i = 0; i < 5; i++) governor.slept(3);
  assertEquals(governor.window(0), 0);
});

Deno.test("PollingGovernor: a fixed window stays", () => {
  const governor = new PollingGovernor(80);
  governor.slept(0.01);
  governor.slept(10);
  assertAlmostEquals(governor.window(0), 0.08);
  assert(governor.enabled);
});

Deno.test("PollingGovernor: off is off", () => {
  const governor = new PollingGovernor("off");
  governor.slept(0.001);
  assertEquals([governor.window(0), governor.enabled], [0, false]);
});

Deno.test("PollingGovernor: rests after a preemption", () => {
  const governor = new PollingGovernor(50);
  assert(!governor.gap(1000, 0.01));
  assert(governor.gap(1000, 0.5));
  assertEquals(governor.window(1050), 0);
  assertAlmostEquals(governor.window(1101), 0.05);
});

Deno.test("PollingGovernor: looking goes on as the last window was", () => {
  const governor = new PollingGovernor(50);
  assert(!governor.looking);
  governor.window(0);
  assert(governor.looking);
  governor.gap(1000, 0.5);
  assert(governor.looking);
  governor.window(1050);
  assert(!governor.looking);
  governor.window(1101);
  assert(governor.looking);
});

Deno.test("the loop tells of a sleep that a ring ended, as a whole", () => {
  const polling = new PollingGovernor("auto"), told: number[] = [];
  polling.slept = (duration) => void told.push(duration);
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
