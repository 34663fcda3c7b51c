import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { HostError } from "../error.ts";
import { joinOptions, type OptionPair, splitOptions } from "./grammar.ts";

Deno.test("splitOptions() splits at commas and at the first equals sign", () => {
  const cases: [string, OptionPair[]][] = [
    ["", []],
    ["a=1", [["a", "1"]]],
    ["a=1,b=2", [["a", "1"], ["b", "2"]]],
    ["a=1,b", [["a", "1"], ["b", null]]],
    ["a=1,", [["a", "1"]]],
    ["a=", [["a", ""]]],
    ["a=,b=2", [["a", ""], ["b", "2"]]],
    ["a=x=y=z", [["a", "x=y=z"]]],
    ["a=1,,b=2", [["a", "1,b=2"]]],
    ["a=1,,,b=2", [["a", "1,"], ["b", "2"]]],
    ["a=,,", [["a", ","]]],
    ["a=,,,,", [["a", ",,"]]],
    ["a= 1 ", [["a", " 1 "]]],
    ["a=\n", [["a", "\n"]]],
  ];
  for (const [text, expected] of cases) {
    assertEquals(splitOptions(text), expected, text);
  }
});

Deno.test("splitOptions() refuses options without a name", () => {
  for (const text of ["=1", ",a=1", "a=1,=2", ","]) {
    const error = assertThrows(() => splitOptions(text), HostError);
    assertEquals(error.kind, "usage");
    assertEquals(
      error.message,
      `An option without a name in "${text}": write key=value,key=value`,
    );
  }
});

Deno.test("splitOptions() reads back what joinOptions() wrote", () => {
  const key = fc.string({ minLength: 1, unit: fc.constantFrom(..."abc-0") });
  const value = fc.string({ unit: fc.constantFrom(..."ab,=\n ") });
  const pair = fc.tuple(key, fc.option(value));
  fc.assert(fc.property(fc.array(pair), (pairs) => {
    assertEquals(splitOptions(joinOptions(pairs)), pairs);
  }));
});
