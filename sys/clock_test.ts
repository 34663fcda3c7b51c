import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { CLOCK_CYCLE, readClock, ticksBetween, ticksOf } from "./clock.ts";

Deno.test("the clock runs as the runtime's does, and never back", () => {
  const first = readClock();
  let last = first;
  const start = performance.now();
  while (performance.now() - start < 20) {
    const now = readClock();
    assert(Number.isInteger(now) && now >= 0 && now < CLOCK_CYCLE, `${now}`);
    const step = ticksBetween(last, now);
    assert(step < CLOCK_CYCLE / 2, `${now} after ${last}`);
    last = now;
  }
  const end = performance.now();
  // Ours was read before the first and after the last of the others.
  const passed = ticksBetween(first, readClock()) / ticksOf(1000) * 1000;
  assert(passed >= end - start - 0.1, `${passed} ms of ${end - start}`);
  // Whoever is preempted between two looks sees a gap.
  assertAlmostEquals(passed, end - start, 50);
});

Deno.test("times are small integers", () => {
  // V8 has 31 bits for them where it compresses pointers, else 32; one is the sign.
  assert(Number.isInteger(CLOCK_CYCLE) && CLOCK_CYCLE < 2 ** 30);
  assertEquals(CLOCK_CYCLE, ticksOf(256_000));
  assertEquals(ticksBetween(CLOCK_CYCLE - 3, 4), 7);
  assertEquals([ticksOf(0), ticksOf(0.000_256), ticksOf(0.001)], [0, 1, 4]);
});
