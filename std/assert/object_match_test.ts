import { AssertionError, assertObjectMatch, assertThrows } from "@std/assert";

type Loose = Record<PropertyKey, unknown>;

const key = Symbol("key");
const disk = { name: "a", size: 8 };
const loop: Loose = { on: true };
loop.self = loop;
const list: unknown[] = [1, 2];
list.push(list);
const shared = new Date(5);
class Disk {
  constructor(public name: string) {}
}

const matching: readonly [name: string, actual: Loose, expected: Loose][] = [
  ["a part", disk, { size: 8 }],
  ["a nested part", { disk, on: true }, { disk: { name: "a" } }],
  ["a symbol as key", { [key]: 1, other: 2 }, { [key]: 1 }],
  ["one object in two places", { a: disk, b: disk }, {
    a: { name: "a" },
    b: { size: 8 },
  }],
  ["a cycle", loop, { on: true, self: { self: { on: true } } }],
  ["a cycle through arrays", { list }, { list: [1, 2, [1, 2, [1, 2]]] }],
  ["the head of an array", { a: [1, 2, 3] }, { a: [1, 2] }],
  ["no elements", { a: [1] }, { a: [] }],
  ["heads of nested arrays", { a: [[1, 2, 3]] }, { a: [[1, 2]] }],
  ["objects in arrays", { a: [disk, loop] }, { a: [{ size: 8 }] }],
  ["regular expressions", { a: /b/i, c: [/d/g] }, { a: /b/i, c: [/d/g] }],
  ["dates", { a: new Date(5), b: [new Date(5)] }, { a: shared, b: [shared] }],
  ["a part of a set", { a: new Set([1, 2]) }, { a: new Set([2]) }],
  ["a part of a map", { a: new Map([["b", 1], ["c", 2]]) }, {
    a: new Map([["c", 2]]),
  }],
  ["parts of values of a map", { a: new Map([["b", disk]]) }, {
    a: new Map([["b", { size: 8 }]]),
  }],
  [
    "sets and maps in arrays",
    { a: [new Set([1, 2]), new Map([["b", null]])] },
    {
      a: [new Set([1]), new Map([["b", null]])],
    },
  ],
  ["an instance and a plain object", { a: new Disk("b") }, {
    a: { name: "b" },
  }],
  ["a plain object and an instance", { a: { name: "b" } }, {
    a: new Disk("b"),
  }],
  ["typed arrays", { a: new Uint8Array([1]), b: 1 }, {
    a: new Uint8Array([1]),
  }],
  ["null and undefined", { a: null, b: undefined, c: 1 }, {
    a: null,
    b: undefined,
  }],
  ["an own property __proto__", { ["__proto__"]: { a: 1 } }, {
    ["__proto__"]: { a: 1 },
  }],
];

const different: readonly [name: string, actual: Loose, expected: Loose][] = [
  ["a value", disk, { size: 9 }],
  ["a missing key", disk, { name: "a", kind: "raw" }],
  ["a nested value", { disk }, { disk: { name: "b" } }],
  ["a symbol as key", { [key]: 1 }, { [key]: 2 }],
  ["a value in a cycle", loop, { self: { self: { on: false } } }],
  ["more elements", { a: [1, 2] }, { a: [1, 2, 3] }],
  ["objects in arrays", { a: [disk] }, { a: [{ size: 9 }] }],
  ["flags of regular expressions", { a: /b/i }, { a: /b/ }],
  ["orders of regular expressions", { a: [/b/g, /b/m] }, { a: [/b/m, /b/g] }],
  ["dates", { a: new Date(5) }, { a: new Date(6) }],
  ["sets", { a: new Set([1]) }, { a: new Set([2]) }],
  ["values of maps", { a: new Map([["b", 1]]) }, { a: new Map([["b", 2]]) }],
  ["an object where null is", { a: null }, { a: { b: 1 } }],
  ["null where undefined is", { a: undefined }, { a: null }],
  ["an own property __proto__", { ["__proto__"]: { a: 1 } }, {
    ["__proto__"]: { a: 2 },
  }],
];

Deno.test("assertObjectMatch() accepts", async (t) => {
  for (const [name, actual, expected] of matching) {
    await t.step(name, () => assertObjectMatch(actual, expected));
  }
});

Deno.test("assertObjectMatch() refuses", async (t) => {
  for (const [name, actual, expected] of different) {
    await t.step(name, () => {
      assertThrows(() => assertObjectMatch(actual, expected), AssertionError);
    });
  }
});

Deno.test("assertObjectMatch() shows only what was asked for", () => {
  assertThrows(
    () =>
      assertObjectMatch({ a: 1, extra: 1, b: { c: 1 } }, { a: 1, b: { c: 2 } }),
    AssertionError,
    [
      "    {",
      "      a: 1,",
      "      b: {",
      "-       c: 1,",
      "+       c: 2,",
      "      },",
      "    }",
    ].join("\n"),
  );
});

Deno.test("assertObjectMatch() shows all where nothing is common", () => {
  assertThrows(
    () => assertObjectMatch({ found: 1 }, { wanted: 1 }, "words"),
    AssertionError,
    ["    {", "-     found: 1,", "+     wanted: 1,", "    }"].join("\n"),
  );
});

Deno.test("assertObjectMatch() names a value that is no object", () => {
  const check: (actual: never, expected: Loose) => void = assertObjectMatch;
  for (const value of [null, undefined, 21, "text"]) {
    assertThrows(
      () => check(value as never, { a: 1 }),
      TypeError,
      "Cannot assertObjectMatch",
    );
  }
  assertThrows(() => check(null as never, { a: 1 }), TypeError, "null");
});
