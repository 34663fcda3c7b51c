import { assert, assertEquals } from "@std/assert";
import { orderOf } from "./balloon_driver.ts";
import { threadSeconds } from "./balloon_process.ts";

Deno.test("orders have each page once, scattered ones have no neighbours", () => {
  for (const order of ["ascending", "descending", "scattered"] as const) {
    for (const count of [1, 7, 1024]) {
      const pages = orderOf(order, count);
      assertEquals([...pages].sort((a, b) => a - b), [...Array(count).keys()]);
    }
  }
  const batch = orderOf("scattered", 1024).slice(0, 256).sort();
  for (let i = 1; i < batch.length; i++) assert(batch[i] > batch[i - 1] + 1);
});

Deno.test("CPU time is that of the threads that are asked for", () => {
  const all = threadSeconds(Deno.pid);
  assert(all > 0);
  assertEquals(threadSeconds(Deno.pid, () => false), 0);
});
