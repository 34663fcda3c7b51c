import { assertEquals, assertThrows } from "@std/assert";
import { type Phase, phases } from "../phases.ts";
import { readOptions, UsageError } from "./options.ts";

const phase = (
  name: string,
  group: Phase["group"],
  run: Phase["run"] = { tests: ["a"], permissions: [] },
  long?: boolean,
): Phase => ({ name, title: name, group, timeout: 1, run, long });

const all = [
  phase("lint", "ok", { command: ["lint"] }),
  phase("unit", "ok"),
  phase("guest", "system"),
  phase("soak", "system", undefined, true),
];

const selected = (...args: readonly string[]): string[] =>
  readOptions(args, all).selected.map(({ name }) => name);

Deno.test("readOptions() selects phases", () => {
  assertEquals(selected(), ["lint", "unit", "guest"]);
  assertEquals(selected("--long"), ["lint", "unit", "guest", "soak"]);
  assertEquals(selected("--only", "unit"), ["unit"]);
  assertEquals(selected("--only=ok"), ["lint", "unit"]);
  assertEquals(selected("--only", "guest,unit"), ["unit", "guest"]);
  assertEquals(selected("--only", "guest", "--only", "lint"), [
    "lint",
    "guest",
  ]);
  assertEquals(selected("--only", "system"), ["guest"]);
  assertEquals(selected("--only", "system", "--long"), ["guest", "soak"]);
  assertEquals(selected("--only", "soak"), ["soak"]);
});

Deno.test("readOptions() runs tests alone with a filter", () => {
  assertEquals(selected("--filter", "boots"), ["unit", "guest"]);
  assertEquals(readOptions(["--filter", "12"], all).filter, "12");
  assertEquals(readOptions([], all).filter, undefined);
});

Deno.test("readOptions() refuses what it does not know", () => {
  const refused: [args: string[], message: string][] = [
    [
      ["--only", "none"],
      'Cannot run phase "none": the phases and groups are ok, lint, unit, ' +
      "system, guest, soak",
    ],
    [["--nonsense"], 'Unknown option "--nonsense": see --help'],
    [["unit"], 'Unknown option "unit": see --help'],
    [["--filter"], "--filter needs a text"],
  ];
  for (const [args, message] of refused) {
    assertThrows(() => readOptions(args, all), UsageError, message);
  }
});

Deno.test("phases have names of their own and the gate comes first", () => {
  const names = phases.flatMap(({ name, group }) => [name, group]);
  const once = new Set(
    names.filter((name) => !["ok", "system"].includes(name)),
  );
  assertEquals(once.size, phases.length);
  const groups = phases.map(({ group }) => group);
  assertEquals(groups, groups.toSorted());
});
