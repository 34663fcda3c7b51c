import { assertEquals } from "@std/assert";
import { areSame, didYouMean, nearest } from "./suggest.ts";

const NAMES = ["path", "socket", "readonly", "seg-max", "block-size", "queues"];

Deno.test("nearest() finds the name that was probably meant", () => {
  const cases: [string, string | null][] = [
    ["sokcet", "socket"],
    ["socket", "socket"],
    ["read-only", "readonly"],
    ["readOnly", "readonly"],
    ["segmax", "seg-max"],
    ["seg_max", "seg-max"],
    ["blocksize", "block-size"],
    ["block", "block-size"],
    ["queue", "queues"],
    ["num-queues", null],
    ["pth", "path"],
    ["x", null],
    ["", null],
    ["colour", null],
    ["s".repeat(100), null],
  ];
  for (const [given, expected] of cases) {
    assertEquals(nearest(given, NAMES), expected, given);
  }
  assertEquals(nearest("path", []), null);
});

Deno.test("areSame() knows a word however it is written", () => {
  for (const name of ["readOnly", "read-only", "read_only", "READONLY"]) {
    assertEquals(areSame(name, "readonly"), true, name);
  }
  assertEquals(areSame("readonly", "readable"), false);
});

Deno.test("didYouMean() makes the end of a message", () => {
  assertEquals(didYouMean("paht", NAMES), ' (did you mean "path"?)');
  assertEquals(didYouMean("nothing", NAMES), "");
});
