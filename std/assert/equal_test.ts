import { equal } from "@std/assert";
import nodeAssert from "node:assert/strict";

type Pair = readonly [name: string, a: unknown, b: unknown];

class Point {
  constructor(public x: number) {}
}
class Sensor {
  static #values = new WeakMap<Sensor, number>();
  constructor(value: number) {
    Sensor.#values.set(this, value);
  }
  get value(): number | undefined {
    return Sensor.#values.get(this);
  }
}

const symbol = Symbol("key");
const loop = (): object => {
  const value: { next?: object } = {};
  value.next = value;
  return value;
};
const loopMap = (): Map<string, unknown> => {
  const map = new Map<string, unknown>();
  return map.set("next", map);
};
const withoutPrototype = Object.assign(Object.create(null), { a: 1 });
const numbers = Array.from({ length: 10_000 }, (_, i) => i);
const reversed = numbers.toReversed();

const equalPairs: readonly Pair[] = [
  ["strings", "disk", "disk"],
  ["NaN", NaN, NaN],
  ["zeros of both signs", 0, -0],
  ["zeros of both signs in arrays", [1, 0], [1, -0]],
  ["nested objects", { a: { b: [1] } }, { a: { b: [1] } }],
  ["keys in any order", { a: 1, b: 2 }, { b: 2, a: 1 }],
  ["a symbol as key", { [symbol]: 1 }, { [symbol]: 1 }],
  ["no prototype and a plain object", withoutPrototype, { a: 1 }],
  ["a plain object and no prototype", { a: 1 }, withoutPrototype],
  ["own properties named constructor", { constructor: [1] }, {
    constructor: [1],
  }],
  ["instances of a class", new Point(1), new Point(1)],
  ["values behind getters of a class", new Sensor(1), new Sensor(1)],
  ["dates", new Date(5), new Date(5)],
  ["invalid dates", new Date(NaN), new Date(NaN)],
  ["regular expressions", /a+/g, /a+/g],
  ["URLs", new URL("file:///a"), new URL("file:///a")],
  ["queries", new URLSearchParams("a=1"), new URLSearchParams("a=1")],
  ["locales", new Intl.Locale("de-AT"), new Intl.Locale("de-AT")],
  ["patterns", new URLPattern("*://a.*"), new URLPattern("*://a.*")],
  ["typed arrays", new Uint8Array([1, 2]), new Uint8Array([1, 2])],
  ["NaN in typed arrays", new Float64Array([NaN]), new Float64Array([NaN])],
  ["-0 in typed arrays", new Float64Array([0]), new Float64Array([-0])],
  ["buffers", new Uint8Array([1]).buffer, new Uint8Array([1]).buffer],
  ["sets in any order", new Set([1, 2]), new Set([2, 1])],
  ["sets of sets", new Set([1, new Set([2])]), new Set([new Set([2]), 1])],
  [
    "sets of objects in any order",
    new Set([{ a: 1 }, { b: 2 }]),
    new Set([{
      b: 2,
    }, { a: 1 }]),
  ],
  ["sets of symbols", new Set([symbol, "a"]), new Set(["a", symbol])],
  ["large sets", new Set(numbers), new Set(reversed)],
  [
    "maps in any order",
    new Map([["a", 1], ["b", 2]]),
    new Map([["b", 2], [
      "a",
      1,
    ]]),
  ],
  ["maps of objects", new Map([["a", { b: 1 }]]), new Map([["a", { b: 1 }]])],
  [
    "maps with objects as keys",
    new Map([[{ a: 1 }, 1]]),
    new Map([[{
      a: 1,
    }, 1]]),
  ],
  ["cycles", loop(), loop()],
  ["cycles through maps", loopMap(), loopMap()],
];

const unequalPairs: readonly Pair[] = [
  ["numbers", 1, 2],
  ["types", 1, "1"],
  ["null and undefined", null, undefined],
  ["a missing key", {}, { a: 1 }],
  ["an undefined key and a missing one", { a: undefined }, {}],
  ["undefined keys of other names", { a: undefined }, { b: undefined }],
  ["deep values", { a: { b: 1 } }, { a: { b: 2 } }],
  ["two symbols of one description", { [symbol]: 1 }, { [Symbol("key")]: 1 }],
  ["lengths of arrays", [1, 2], [1]],
  ["orders of arrays", [1, 2, 3], [1, 3, 2]],
  ["classes", new Point(1), { x: 1 }],
  ["a class and a property that names it", new Point(1), {
    x: 1,
    constructor: Point,
  }],
  ["values behind getters of a class", new Sensor(1), new Sensor(2)],
  ["dates", new Date(5), new Date(6)],
  ["an invalid date and a valid one", new Date(NaN), new Date(0)],
  ["regular expressions", /a/, /b/],
  ["flags of regular expressions", /a/, /a/g],
  ["URLs", new URL("file:///a"), new URL("file:///b")],
  ["queries", new URLSearchParams("a=1"), new URLSearchParams("a=2")],
  ["locales", new Intl.Locale("de-AT"), new Intl.Locale("de-CH")],
  ["patterns", new URLPattern("*://a.*"), new URLPattern("*://b.*")],
  ["typed arrays", new Uint8Array([1, 2]), new Uint8Array([2, 1])],
  ["lengths of typed arrays", new Uint8Array(1), new Uint8Array(2)],
  ["kinds of typed arrays", new Uint8Array([1]), new Uint16Array([1])],
  ["buffers", new Uint8Array([1]).buffer, new Uint8Array([2]).buffer],
  ["sets", new Set([1, 2]), new Set([1, 3])],
  ["sizes of sets", new Set([1]), new Set([1, 2])],
  ["large sets", new Set(numbers), new Set(numbers.with(-1, -1))],
  ["sets of objects", new Set([{ a: 1 }]), new Set([{ a: 2 }])],
  ["values of maps", new Map([["a", 1]]), new Map([["a", 2]])],
  ["keys of maps", new Map([["a", 1]]), new Map([["b", 1]])],
  ["sizes of maps", new Map([["a", 1]]), new Map()],
  [
    "an undefined entry and another",
    new Map([["a", undefined]]),
    new Map([[
      "b",
      undefined,
    ]]),
  ],
  [
    "values of maps with objects as keys",
    new Map([[{ a: 1 }, 1]]),
    new Map([[
      { a: 1 },
      2,
    ]]),
  ],
  ["a weak map and a weak set", new WeakMap(), new WeakSet()],
  ["functions of one text", () => 1, () => 1],
];

Deno.test("equal() finds equal", async (t) => {
  for (const [name, a, b] of equalPairs) {
    await t.step(name, () => nodeAssert.equal(equal(a, b), true));
  }
});

Deno.test("equal() tells apart", async (t) => {
  for (const [name, a, b] of unequalPairs) {
    await t.step(name, () => {
      nodeAssert.equal(equal(a, b), false);
      nodeAssert.equal(equal(b, a), false);
    });
  }
});

Deno.test("equal() cannot look into weak collections", () => {
  nodeAssert.throws(() => equal(new WeakMap(), new WeakMap()), TypeError);
  nodeAssert.throws(() => equal(new WeakSet(), new WeakSet()), TypeError);
});

Deno.test("equal() compares objects whose prototype was set later", () => {
  const other = {};
  nodeAssert.equal(equal(new Point(1), other), false);
  Object.setPrototypeOf(other, Point.prototype);
  nodeAssert.equal(equal(new Point(1), other), false);
  Object.assign(other, { x: 1 });
  nodeAssert.equal(equal(new Point(1), other), true);
});

Deno.test("equal() compares the targets of weak references", () => {
  const targets = [{ a: 1 }, { a: 1 }, { a: 2 }];
  const [one, same, other] = targets.map((target) => new WeakRef(target));
  class Subclass extends WeakRef<object> {}
  nodeAssert.equal(equal(one, same), true);
  nodeAssert.equal(equal(one, other), false);
  nodeAssert.equal(equal(one, targets[0]), false);
  nodeAssert.equal(equal(one, new Subclass(targets[0])), false);
  // Still in use here, so none was collected above.
  nodeAssert.equal(targets.length, 3);
});
