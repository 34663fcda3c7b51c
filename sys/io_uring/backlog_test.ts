import { assertEquals } from "@std/assert";
import { Backlog } from "./backlog.ts";

Deno.test("completions are taken in the order in which they were added", () => {
  const backlog = new Backlog();
  let next = 0, expected = 0;
  const take = (): void => {
    assertEquals(
      [...backlog.take()],
      [expected, expected + 1, expected + 2, -expected],
    );
    expected++;
  };
  // More is added than taken, through several sizes; then it is emptied, twice.
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 1000; i++) {
      for (let k = 0; k < 3; k++) {
        backlog.add(Int32Array.of(9, next, next + 1, next + 2, -next++, 9), 1);
      }
      take();
      assertEquals(backlog.size, next - expected);
    }
    while (backlog.size > 0) take();
    assertEquals(expected, next);
  }
});
