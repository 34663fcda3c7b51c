import { assert, assertEquals } from "@std/assert";
import { Histogram } from "./histogram.ts";

Deno.test("Histogram: percentiles are right to one part in 32", () => {
  const histogram = new Histogram();
  for (let i = 1; i <= 10_000; i++) histogram.record(i * 100);
  for (const [share, exact] of [[0.5, 500_000], [0.99, 990_000], [1, 1e6]]) {
    const found = histogram.percentile(share);
    assert(Math.abs(found / exact - 1) < 1 / 16, `${share}: ${found}`);
  }
  assertEquals(histogram.total, 10_000);
  histogram.clear();
  assertEquals([histogram.total, histogram.percentile(0.5)], [0, 0]);
});
