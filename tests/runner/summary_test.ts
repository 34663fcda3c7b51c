import { assertEquals } from "@std/assert";
import type { Result } from "./execute.ts";
import { describe, summarize } from "./summary.ts";

const result = (parts: Partial<Result>): Result => ({
  passed: 0,
  failed: 0,
  skipped: 0,
  skips: [],
  failures: [],
  output: "",
  duration: 1_250,
  ...parts,
});

Deno.test("summarize() ends with the counts", () => {
  const results = new Map([
    ["a", result({ passed: 3 })],
    ["b", result({ passed: 2 })],
  ]);
  assertEquals(summarize(results), {
    text: "\n5 passed, 0 failed, 0 skipped",
    code: 0,
  });
});

Deno.test("summarize() lists what was skipped and what failed", () => {
  const skips = [
    { name: "boots", reason: "needs QEMU 11" },
    { name: "resets", reason: undefined },
  ];
  const results = new Map([
    ["a", result({ passed: 1, skipped: 2, skips })],
    ["b", result({ failed: 1, failures: ["x (x_test.ts)"] })],
  ]);
  assertEquals(summarize(results), {
    text: `
Skipped:
  a: boots: needs QEMU 11
  a: resets: no reason given

Failed:
  x (x_test.ts)

1 passed, 1 failed, 2 skipped`,
    code: 1,
  });
});

Deno.test("summarize() refuses a run without a test", () => {
  const nothing = new Map([["a", result({ skipped: 0 })]]);
  assertEquals(summarize(nothing), {
    text: "\nNo test ran.\n\n0 passed, 0 failed, 0 skipped",
    code: 1,
  });
  assertEquals(summarize(new Map()).code, 1);
});

Deno.test("describe()", () => {
  assertEquals(describe(result({})), "nothing to run");
  assertEquals(describe(result({ passed: 2 })), "2 passed (1.3 s)");
  assertEquals(
    describe(result({ failed: 1, skipped: 4 })),
    "0 passed, 1 FAILED, 4 skipped (1.3 s)",
  );
});
