import { assertEquals } from "@std/assert";
import { Backoff } from "./backoff.ts";

Deno.test("delays start at nothing, double, and stay at five seconds", () => {
  const backoff = new Backoff();
  const delays = Array.from({ length: 10 }, () => backoff.next());
  assertEquals(
    delays,
    [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000],
  );
  for (let i = 0; i < 2000; i++) assertEquals(backoff.next(), 5000);
});

Deno.test("a short life does not end a series, a long one does", () => {
  const backoff = new Backoff();
  backoff.next();
  backoff.lived(9_999);
  assertEquals(backoff.next(), 100);
  backoff.lived(10_000);
  assertEquals([backoff.next(), backoff.next()], [0, 100]);
});
