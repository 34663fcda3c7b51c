import { assertEquals } from "@std/assert";
import { skippedName, skipUnless } from "./skip.ts";

let ran = 0;
const met = skipUnless(true, "needs nothing");
const unmet = skipUnless(false, "shows how a test is skipped");

met.test("skipUnless() runs a test whose condition holds", () => {
  ran++;
});

Deno.test("skipUnless() declares tests and steps", async (t) => {
  assertEquals(ran, 1);
  assertEquals([met.met, unmet.met], [true, false]);
  assertEquals(await met.step(t, "runs a step", () => void ran++), true);
  assertEquals(ran, 2);
});

Deno.test("skippedName() puts the reason last", () => {
  assertEquals(skippedName("a", "needs b"), "a [skipped: needs b]");
});
