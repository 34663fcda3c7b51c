import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { PollingGovernor } from "./polling.ts";

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
