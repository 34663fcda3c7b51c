import { assert, assertAlmostEquals } from "@std/assert";
import { readClock } from "./clock.ts";

Deno.test("the clock runs as the runtime's does, and never back", () => {
  const times = new Float64Array(3);
  readClock(times, 0);
  const start = performance.now();
  while (performance.now() - start < 20) {
    times[1] = times[2];
    readClock(times, 2);
    assert(times[2] >= times[1], `${times[2]} after ${times[1]}`);
  }
  const end = performance.now();
  readClock(times, 2);
  // Ours was read before the first and after the last of the others.
  const passed = times[2] - times[0];
  assert(passed >= end - start - 0.1, `${passed} ms of ${end - start}`);
  // Whoever is preempted between two looks sees a gap.
  assertAlmostEquals(passed, end - start, 50);
});
