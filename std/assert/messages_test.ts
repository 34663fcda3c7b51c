import * as std from "@std/assert";
import nodeAssert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";

/** What an assertion says when it fails, without colours. */
function messageOf(fails: () => unknown): string {
  try {
    fails();
  } catch (error) {
    nodeAssert.ok(error instanceof std.AssertionError, String(error));
    nodeAssert.equal(error.name, "AssertionError");
    return stripVTControlCharacters(error.message);
  }
  throw new Error("The assertion held");
}

const diffOf = (...lines: readonly string[]): string =>
  ["", "", "    [Diff] Actual / Expected", "", "", ...lines, ""].join("\n");

Deno.test("AssertionError keeps its cause", () => {
  const cause = { reason: "test" };
  nodeAssert.equal(new std.AssertionError("failed", { cause }).cause, cause);
});

Deno.test("assert() tells truthy from falsy", () => {
  for (const value of [true, 1, -1, 1n, "a", {}, [], Symbol(), () => {}]) {
    std.assert(value);
  }
  for (const value of [false, 0, 0n, "", null, undefined, NaN]) {
    nodeAssert.equal(messageOf(() => std.assert(value, "words")), "words");
    nodeAssert.equal(messageOf(() => std.assert(value)), "");
  }
});

Deno.test("assertEquals() accepts equal values", () => {
  std.assertEquals({ a: 1, b: { c: "1" } }, { a: 1, b: { c: "1" } });
  std.assertEquals(new Date(NaN), new Date(NaN));
  std.assertEquals(new Set([{ a: 1 }]), new Set([{ a: 1 }]));
});

Deno.test("assertEquals() shows the difference", async (t) => {
  const cases: [string, unknown, unknown, string[]][] = [
    ["numbers", 1, 2, ["-   1", "+   2"]],
    ["types", 1, "1", ["-   1", '+   "1"']],
    ["dates", new Date(1), new Date(2), [
      "-   1970-01-01T00:00:00.001Z",
      "+   1970-01-01T00:00:00.002Z",
    ]],
    ["an invalid date", new Date(NaN), new Date(2), [
      "-   Invalid Date",
      "+   1970-01-01T00:00:00.002Z",
    ]],
    ["elements", [1, "2", 3], ["1", "2", 3], [
      "    [",
      "-     1,",
      '+     "1",',
      '      "2",',
      "      3,",
      "    ]",
    ]],
    ["the longer side first", { a: 1, b: "2", c: 3 }, { a: 1, b: 2, c: [3] }, [
      "    {",
      "      a: 1,",
      "+     b: 2,",
      "+     c: [",
      "+       3,",
      "+     ],",
      '-     b: "2",',
      "-     c: 3,",
      "    }",
    ]],
    ["keys in order", { aa: 0, bb: 0, cc: 0 }, { cc: 1, aa: 0, bb: 0 }, [
      "    {",
      "      aa: 0,",
      "      bb: 0,",
      "-     cc: 0,",
      "+     cc: 1,",
      "    }",
    ]],
    ["lines of strings", "a\nb\tc\nd", "a\nb\td\nd", [
      "    a\\n",
      "-   b\\tc\\n",
      "+   b\\td\\n",
      "    d",
      "",
    ]],
  ];
  for (const [name, actual, expected, lines] of cases) {
    await t.step(name, () => {
      nodeAssert.equal(
        messageOf(() => std.assertEquals(actual, expected)),
        `Values are not equal.\n${diffOf(...lines)}`,
      );
    });
  }
});

Deno.test("assertEquals() adds the caller's words", () => {
  nodeAssert.equal(
    messageOf(() => std.assertEquals(1, 2, "words")),
    `Values are not equal: words\n${diffOf("-   1", "+   2")}`,
  );
});

Deno.test("assertEquals() shows large values in a bounded way", () => {
  const size = 5_000;
  const left = Array.from({ length: size }, (_, i) => `a${i}`);
  const right = Array.from({ length: size }, (_, i) => `b${i}`);
  const lines = messageOf(() => std.assertEquals(left, right)).split("\n");
  nodeAssert.equal(lines.filter((line) => line[0] === "-").length, size);
  nodeAssert.equal(lines.filter((line) => line[0] === "+").length, size);
});

Deno.test("assertNotEquals()", () => {
  std.assertNotEquals<unknown>({ a: 1 }, { b: 1 });
  std.assertNotEquals(new Date(NaN), new Date(0));
  nodeAssert.equal(
    messageOf(() => std.assertNotEquals("a", "a")),
    'Expected actual: "a" not to be: "a".',
  );
  nodeAssert.equal(
    messageOf(() => std.assertNotEquals({ a: 1 }, { a: 1 }, "words")),
    "Expected actual: {\n  a: 1,\n} not to be: {\n  a: 1,\n}: words",
  );
});

Deno.test("assertStrictEquals()", () => {
  const value: unknown = [1];
  std.assertStrictEquals(value, value);
  std.assertStrictEquals(NaN, NaN);
  nodeAssert.equal(
    messageOf(() => std.assertStrictEquals({ a: 1 }, { a: 1 })),
    "Values have the same structure but are not reference-equal.\n\n" +
      "    {\n      a: 1,\n    }\n",
  );
  nodeAssert.match(
    messageOf(() => std.assertStrictEquals({ a: 1 }, { a: 1 }, "words")),
    /^Values have the same structure but are not reference-equal: words\n\n/,
  );
  nodeAssert.equal(
    messageOf(() => std.assertStrictEquals(0, -0)),
    `Values are not strictly equal.\n${diffOf("-   0", "+   -0")}`,
  );
});

Deno.test("assertExists()", () => {
  for (const value of [false, 0, "", NaN]) std.assertExists(value);
  nodeAssert.equal(
    messageOf(() => std.assertExists(undefined)),
    'Expected actual: "undefined" to not be null or undefined.',
  );
  nodeAssert.equal(
    messageOf(() => std.assertExists(null, "words")),
    'Expected actual: "null" to not be null or undefined: words',
  );
});

Deno.test("assertStringIncludes()", () => {
  std.assertStringIncludes("virtqueue", "queue");
  nodeAssert.equal(
    messageOf(() => std.assertStringIncludes("virtqueue", "ring")),
    'Expected actual: "virtqueue" to contain: "ring".',
  );
  nodeAssert.equal(
    messageOf(() => std.assertStringIncludes("a", "b", "words")),
    'Expected actual: "a" to contain: "b": words',
  );
});

Deno.test("assertMatch()", () => {
  std.assertMatch("virtqueue", /q.e/);
  nodeAssert.equal(
    messageOf(() => std.assertMatch("virtqueue", /ring/)),
    'Expected actual: "virtqueue" to match: "/ring/".',
  );
  nodeAssert.equal(
    messageOf(() => std.assertMatch("a", /b/, "words")),
    'Expected actual: "a" to match: "/b/": words',
  );
});

Deno.test("assertGreater() and its kin", () => {
  std.assertGreater(2n, 1n);
  std.assertGreaterOrEqual(1, 1);
  std.assertLess(1, 1.1);
  std.assertLessOrEqual(1n, 1n);
  const { assertGreater, assertGreaterOrEqual } = std;
  const { assertLess, assertLessOrEqual } = std;
  nodeAssert.equal(messageOf(() => assertGreater(1, 1)), "Expect 1 > 1");
  nodeAssert.equal(
    messageOf(() => assertGreaterOrEqual(1, 2)),
    "Expect 1 >= 2",
  );
  nodeAssert.equal(messageOf(() => assertLess("b", "b")), 'Expect "b" < "b"');
  nodeAssert.equal(messageOf(() => assertLessOrEqual(2, 1)), "Expect 2 <= 1");
  nodeAssert.equal(messageOf(() => assertLess(2, 1, "words")), "words");
  nodeAssert.equal(messageOf(() => assertGreater(1, 2, "words")), "words");
  nodeAssert.equal(
    messageOf(() => assertGreaterOrEqual(1, 2, "words")),
    "words",
  );
  nodeAssert.equal(messageOf(() => assertLessOrEqual(2, 1, "words")), "words");
});

Deno.test("assertInstanceOf()", async (t) => {
  abstract class Device {}
  class Block extends Device {}
  const other = (() => {
    class Block {}
    return new Block();
  })();
  std.assertInstanceOf(new Block(), Device);
  const start = "Expected object to be an instance of";
  const cases: [unknown, abstract new () => unknown, string][] = [
    [new Date(0), Block, `${start} "Block" but was "Date".`],
    [5, Number, `${start} "Number" but was "number".`],
    [null, Block, `${start} "Block" but was "null".`],
    [undefined, Block, `${start} "Block" but was "undefined".`],
    [{}, Block, `${start} "Block" but was "Object".`],
    [Object.create(null), Block, `${start} "Block" but was "Object".`],
    [Block, Block, `${start} "Block" but was not an instanced object.`],
    [other, Block, `${start} "Block".`],
  ];
  for (const [value, type, message] of cases) {
    await t.step(`${typeof value} as ${type.name}: ${message}`, () => {
      nodeAssert.equal(
        messageOf(() => std.assertInstanceOf(value, type)),
        message,
      );
    });
  }
  nodeAssert.equal(
    messageOf(() => std.assertInstanceOf(1, Block, "words")),
    `${start} "Block" but was "number": words`,
  );
});

Deno.test("assertArrayIncludes()", () => {
  std.assertArrayIncludes(["a", "b"], ["b"]);
  std.assertArrayIncludes([{ a: 1 }, { b: 1 }], [{ b: 1 }]);
  std.assertArrayIncludes(new Uint8Array([1, 2, 3]), new Uint8Array([3, 1]));
  std.assertArrayIncludes([NaN], [NaN]);
  nodeAssert.equal(
    messageOf(() => std.assertArrayIncludes(["a"], ["b"])),
    'Expected actual: "[\n  "a",\n]" to include: "[\n  "b",\n]".\n' +
      'missing: [\n  "b",\n]',
  );
  nodeAssert.match(
    messageOf(() => std.assertArrayIncludes([{ a: 1 }], [{ a: 2 }], "words")),
    /to include: "\[\n {2}\{\n {4}a: 2,\n {2}\},\n\]": words\nmissing: \[\n/,
  );
  // @ts-expect-error A string is no array.
  messageOf(() => std.assertArrayIncludes(["a"], "b"));
});

Deno.test("assertAlmostEquals()", () => {
  const near: [number, number, number?][] = [
    [-0, 0],
    [NaN, NaN],
    [Infinity, Infinity],
    [0.1 + 0.2, 0.3],
    [9e20, 9.0000000001e20],
    [-1.000000001e-8, -1.000000002e-8],
    [0.1 + 0.2, 0.3, 1e-16],
  ];
  for (const [a, b, tolerance] of near) {
    std.assertAlmostEquals(a, b, tolerance);
  }
  const far: [number, number, number?][] = [
    [1, 1.1],
    [9e20, 9.01e20],
    [5e-7, 6e-7],
    [1e-8, 1e-9],
    [0, Infinity],
    [Infinity, NaN],
    [0.1 + 0.2, 0.3, 1e-17],
  ];
  for (const [a, b, tolerance] of far) {
    nodeAssert.match(
      messageOf(() => std.assertAlmostEquals(a, b, tolerance)),
      /^Expected actual: ".+" to be close to ".+": delta ".+" is greater than/,
    );
  }
  nodeAssert.equal(
    messageOf(() =>
      std.assertAlmostEquals(-Infinity, Infinity, 1e-17, "words")
    ),
    'Expected actual: "-Infinity" to be close to "Infinity": ' +
      'delta "Infinity" is greater than "1e-17": words',
  );
});

Deno.test("fail() and unreachable()", () => {
  nodeAssert.equal(messageOf(() => std.fail()), "Failed assertion.");
  nodeAssert.equal(
    messageOf(() => std.fail("words")),
    "Failed assertion: words",
  );
  nodeAssert.equal(messageOf(() => std.unreachable()), "Unreachable.");
  nodeAssert.equal(
    messageOf(() => std.unreachable("words")),
    "Unreachable: words",
  );
});

Deno.test("assertEquals() shows a difference of very many lines", () => {
  const many = Array.from({ length: 200_000 }, (_, i) => i);
  const message = messageOf(() =>
    std.assertEquals(many, many.map((i) => i + 0.5))
  );
  nodeAssert.ok(message.length > 1e6);
});
