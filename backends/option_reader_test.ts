import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type GivenOptions,
  OptionError,
  OptionReader,
} from "./option_reader.ts";
import type { OptionSpec } from "./option_schema.ts";

const SPECS: readonly OptionSpec[] = [
  { name: "on", type: "flag", default: true, help: "" },
  { name: "may-be", type: "flag", help: "" },
  { name: "depth", type: "integer", minimum: 1, maximum: 8, help: "" },
  { name: "rings", type: "integer", minimum: 1, default: 2, help: "" },
  { name: "color", type: "choice", choices: ["red", "16"], help: "" },
  { name: "label", type: "string", maximumLength: 5, help: "" },
];

function reader(given: GivenOptions = {}): OptionReader {
  return new OptionReader(SPECS, given);
}

Deno.test("OptionReader takes values by their names in camelCase", () => {
  const options = reader({
    on: false,
    mayBe: true,
    depth: 8,
    color: 16,
    label: "a\u00e9",
  });
  assertEquals(options.flag("on"), false);
  assertEquals(options.optionalFlag("may-be"), true);
  assertEquals(options.integer("depth"), 8);
  assertEquals(options.choice("color"), "16");
  assertEquals(options.text("label"), "a\u00e9");
  assertEquals(options.given("may-be"), true);
});

Deno.test("OptionReader fills in defaults", () => {
  const options = reader();
  assertEquals(options.flag("on"), true);
  assertEquals(options.flag("may-be"), false);
  assertEquals(options.flag("may-be", true), true);
  assertEquals(options.optionalFlag("may-be"), undefined);
  assertEquals(options.integer("rings"), 2);
  assertEquals(options.integer("depth", 0), 0);
  assertEquals(options.optionalChoice("color"), undefined);
  assertEquals([options.text("label"), options.printable("label", "x")], [
    "",
    "x",
  ]);
});

Deno.test("OptionReader refuses keys that nobody reads", () => {
  const cases: [string, string][] = [
    ["maybe", '"maybe" is no option (did you mean "mayBe"?)'],
    ["may-be", '"may-be" is no option (did you mean "mayBe"?)'],
    [
      "zzz",
      '"zzz" is no option; options are on, mayBe, depth, rings, color, label',
    ],
  ];
  for (const [key, message] of cases) {
    const error = assertThrows(() => reader({ [key]: true }), OptionError);
    assertEquals([error.message, error.option], [message, key]);
    assertEquals(error.kind, "usage");
  }
  assertEquals(reader({ zzz: undefined }).flag("on"), true);
  const more = new OptionReader(SPECS, { parts: [], on: false }, ["parts"]);
  assertEquals(more.flag("on"), false);
  assertThrows(
    () => new OptionReader(SPECS, { part: [] }, ["parts"]),
    OptionError,
    'did you mean "parts"?',
  );
});

Deno.test("OptionReader tells a default from a change", () => {
  assert(!reader().changed("rings"));
  assert(!reader({ rings: 2 }).changed("rings"));
  assert(reader({ rings: 3 }).changed("rings"));
});

Deno.test("OptionReader names the option, the value and what is right", () => {
  const wrong: [GivenOptions, (options: OptionReader) => unknown, string][] = [
    [{ on: "yes" }, (o) => o.flag("on"), "on=yes: it is on or off"],
    [{ on: null }, (o) => o.flag("on"), "on=null: it is on or off"],
    [
      { depth: 9 },
      (o) => o.integer("depth"),
      "depth=9: it is an integer from 1 to 8",
    ],
    [{ depth: 1.5 }, (o) => o.integer("depth"), "depth=1.5: it is an integer"],
    [{ depth: null }, (o) => o.integer("depth", 0), "depth=null: it is an"],
    [{}, (o) => o.integer("depth"), "depth=undefined: it is an integer"],
    [
      { color: "blue" },
      (o) => o.choice("color"),
      "color=blue: it is one of red, 16",
    ],
    [
      { label: "abcdef" },
      (o) => o.text("label"),
      "label=abcdef: it is at most",
    ],
    [{ label: "a\0" }, (o) => o.text("label"), "label=a\0: it is at most 5"],
    [
      { label: "\u00e9" },
      (o) => o.printable("label"),
      "label=\u00e9: it is at most 5 printable ASCII characters",
    ],
  ];
  for (const [given, read, says] of wrong) {
    const error = assertThrows(() => read(reader(given)), OptionError);
    assert(error.message.startsWith(`Cannot use ${says}`), error.message);
    assertEquals([error.kind, error.name], ["usage", "OptionError"]);
    assertEquals(error.option, says.split("=")[0]);
  }
});

Deno.test("OptionReader says what is missing, and how to give it", () => {
  const error = assertThrows(() => reader().choice("color"), OptionError);
  assertEquals(error.message, '"color" is missing: add color=red|16');
});

Deno.test("OptionReader knows the options of its schema alone", () => {
  assertThrows(() => reader().flag("off"), RangeError, 'No option "off"');
});
