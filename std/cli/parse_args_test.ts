import { assertEquals, assertThrows } from "@std/assert";
import { parseArgs, type ParseOptions } from "@std/cli/parse-args";

type Case = readonly [
  name: string,
  args: readonly string[],
  options: ParseOptions | undefined,
  expected: Record<string, unknown>,
];

const none = undefined;

const cases: readonly Case[] = [
  // Long arguments.
  ["a name", ["--a"], none, { a: true, _: [] }],
  ["a name and a value", ["--a", "b"], none, { a: "b", _: [] }],
  ["a name = a value", ["--a=b"], none, { a: "b", _: [] }],
  ["an empty value", ["--a="], none, { a: "", _: [] }],
  ["signs in a value", ["--a=-=b\n=/"], none, { a: "-=b\n=/", _: [] }],
  ["a name that follows a name", ["--a", "--b"], none, {
    a: true,
    b: true,
    _: [],
  }],
  ["the last of two values", ["--a=1", "--a=2"], none, { a: 2, _: [] }],
  ["a name that begins with no-", ["--no-a"], none, { "no-a": true, _: [] }],
  ["names of methods", ["--toString", "--valueOf", "a"], none, {
    toString: true,
    valueOf: "a",
    _: [],
  }],
  // Short arguments.
  ["a letter", ["-a"], none, { a: true, _: [] }],
  ["a letter and a value", ["-a", "b"], none, { a: "b", _: [] }],
  ["letters", ["-ab"], none, { a: true, b: true, _: [] }],
  ["letters and a value", ["-ab", "c", "d"], none, {
    a: true,
    b: "c",
    _: ["d"],
  }],
  ["a letter = a value", ["-a=b=c"], none, { a: "b=c", _: [] }],
  ["a letter = =", ["-a=="], none, { a: "=", _: [] }],
  ["letters = nothing", ["-ab="], none, { a: true, b: "", _: [] }],
  ["a letter with a number", ["-a12"], none, { a: 12, _: [] }],
  ["digits", ["-12", "3"], none, { 1: true, 2: 3, _: [] }],
  ["a letter with a path", ["-a/b/c"], none, { a: "/b/c", _: [] }],
  ["letters with a path", ["-ab/c"], none, { a: true, b: "/c", _: [] }],
  ["a hyphen as value", ["-a", "-"], none, { a: "-", _: [] }],
  ["a hyphen after a letter", ["-a-"], none, { a: "-", _: [] }],
  ["a line feed in a value", ["-a", "b\nc"], none, { a: "b\nc", _: [] }],
  // Numbers and strings.
  ["numbers", ["-a", "1e7", "--b=0x10", "5.5"], none, {
    a: 1e7,
    b: 16,
    _: [5.5],
  }],
  ["what only begins with a number", ["-a", "10f"], none, { a: "10f", _: [] }],
  ["white space", ["-a", "\t"], none, { a: "\t", _: [] }],
  ["a string of digits", ["-a", "007"], { string: "a" }, { a: "007", _: [] }],
  ["a string without a value", ["--a", "-bc"], { string: ["a", "c"] }, {
    a: "",
    b: true,
    c: "",
    _: [],
  }],
  ["plain strings", ["1", " "], { string: "_" }, { _: ["1", " "] }],
  ["a string and its alias", ["-a", "01"], {
    string: "name",
    alias: { name: "a" },
  }, { name: "01", a: "01", _: [] }],
  // Booleans.
  ["a boolean and a plain argument", ["-a", "b"], { boolean: "a" }, {
    a: true,
    _: ["b"],
  }],
  ["a boolean and a hyphen", ["-a", "-"], { boolean: "a" }, {
    a: true,
    _: ["-"],
  }],
  ["a boolean and its value in words", ["--a", "false", "-b", "true", "c"], {
    boolean: ["a", "b"],
  }, { a: false, b: true, _: ["c"] }],
  ["a boolean = a value", ["--a=false", "--b=true"], {
    boolean: ["a", "b"],
    default: { a: true },
  }, { a: false, b: true, _: [] }],
  ["other arguments = a boolean", ["--a=true"], { boolean: "b" }, {
    a: "true",
    b: false,
    _: [],
  }],
  ["a boolean that is not given", [], { boolean: "a" }, { a: false, _: [] }],
  ["a boolean by its alias", ["-a", "b"], {
    boolean: "name",
    alias: { a: ["name", "other"] },
  }, { name: true, other: true, a: true, _: ["b"] }],
  ["all booleans", ["a", "--b", "c", "-d", "5", "--e=f"], { boolean: true }, {
    b: true,
    d: 5,
    e: "f",
    _: ["a", "c"],
  }],
  // Negation.
  ["a negated argument", ["--a", "--no-a"], {
    boolean: ["a"],
    negatable: "a",
  }, { a: false, _: [] }],
  ["an argument after its negation", ["--no-a", "--a", "1"], {
    boolean: ["a"],
    negatable: ["a"],
  }, { a: true, _: [1] }],
  ["a negated list", ["--a", "1", "--no-a"], {
    collect: "a",
    negatable: "a",
    alias: { a: "b" },
  }, { a: false, b: false, _: [] }],
  // Lists.
  ["a list", ["--a", "1", "--a", "b"], { collect: "a" }, {
    a: [1, "b"],
    _: [],
  }],
  ["a list of booleans", ["--a", "--a"], { collect: ["a"] }, {
    a: [true, true],
    _: [],
  }],
  ["a list by its alias", ["-a", "b", "--name", "c"], {
    string: "name",
    collect: "name",
    alias: { a: "name" },
  }, { a: ["b", "c"], name: ["b", "c"], _: [] }],
  ["lists that are not given", [], {
    boolean: "a",
    string: "b",
    collect: ["a", "b", "c"],
  }, { a: [], b: [], _: [] }],
  ["a default list", [], { collect: "a", default: { a: [1] } }, {
    a: [1],
    _: [],
  }],
  ["a default list that is replaced", ["--a", "2"], {
    collect: "a",
    default: { a: [1] },
  }, { a: [2], _: [] }],
  // Defaults and aliases.
  ["a default", [], { default: { a: 1 } }, { a: 1, _: [] }],
  ["a default of a boolean", [], { boolean: "a", default: { a: null } }, {
    a: null,
    _: [],
  }],
  ["a default and its alias", [], { default: { a: 1 }, alias: { a: "b" } }, {
    a: 1,
    b: 1,
    _: [],
  }],
  ["aliases", ["-f", "11", "--zoom", "5"], { alias: { z: ["zm", "zoom"] } }, {
    f: 11,
    z: 5,
    zm: 5,
    zoom: 5,
    _: [],
  }],
  // Paths.
  ["paths", ["--a.b", "3", "--a.c.d", "--e.f=g"], none, {
    a: { b: 3, c: { d: true } },
    e: { f: "g" },
    _: [],
  }],
  ["paths with aliases and defaults", ["--a.b", "22"], {
    default: { "a.b": 11, "a.c": 33 },
    alias: { "a.b": "d.e" },
  }, { a: { b: 22, c: 33 }, d: { e: 22 }, _: [] }],
  // What follows.
  ["what follows --", ["--a", "--", "--b", "-c"], none, {
    a: true,
    _: ["--b", "-c"],
  }],
  ["what follows -- set apart", ["--a", "b", "c", "--", "d"], { "--": true }, {
    a: "b",
    _: ["c"],
    "--": ["d"],
  }],
  ["an early stop", ["--a", "b", "c", "--d"], { stopEarly: true }, {
    a: "b",
    _: ["c", "--d"],
  }],
  ["an early stop before --", ["a", "-b", "--", "-c"], { stopEarly: true }, {
    _: ["a", "-b", "-c"],
  }],
  [
    "everything at once",
    [
      "--name=meow",
      "bare",
      "-cats",
      "woo",
      "-h",
      "awesome",
      "--multi=quux",
      "--key",
      "value",
      "-b",
      "--bool",
      "--no-meep",
      "--multi=baz",
      "-f=abc=def",
      "--",
      "--not-a-flag",
      "eek",
    ],
    none,
    {
      name: "meow",
      c: true,
      a: true,
      t: true,
      s: "woo",
      h: "awesome",
      multi: "baz",
      key: "value",
      b: true,
      bool: true,
      "no-meep": true,
      f: "abc=def",
      _: ["bare", "--not-a-flag", "eek"],
    },
  ],
];

Deno.test("parseArgs() parses", async (t) => {
  for (const [name, args, options, expected] of cases) {
    await t.step(name, () => assertEquals(parseArgs(args, options), expected));
  }
});

/** Parses with `unknown` refusing all, and lists what it was asked. */
function refused(args: readonly string[], options: ParseOptions) {
  const asked: unknown[] = [];
  const unknown = (...call: unknown[]) => {
    asked.push(call);
    return false;
  };
  return { parsed: parseArgs(args, { ...options, unknown }), asked };
}

Deno.test("parseArgs() asks what to do with unknown arguments", () => {
  assertEquals(refused(["--a", "b", "-c", "1", "d"], {}), {
    parsed: { _: [] },
    asked: [["--a", "a", "b"], ["-c", "c", "1"], ["d"]],
  });
  assertEquals(
    refused(["-a", "1", "--b", "c", "--d", "-e", "f"], {
      boolean: "a",
      string: "b",
      collect: "d",
      alias: { e: "f" },
    }).asked,
    [["1"]],
  );
  assertEquals(
    refused(["--a", "--b=c", "d", "-e"], { boolean: true }),
    {
      parsed: { a: true, _: [] },
      asked: [["--b=c", "b", "c"], ["d"], ["-e", "e", true]],
    },
  );
  assertEquals(refused(["--a", "--", "b"], { "--": true }), {
    parsed: { _: [], "--": ["b"] },
    asked: [["--a", "a", true]],
  });
  assertEquals(refused(["--a"], { default: { a: 1 } }), {
    parsed: { a: 1, _: [] },
    asked: [["--a", "a", true]],
  });
});

Deno.test("parseArgs() keeps what unknown() does not refuse", () => {
  const parsed = parseArgs(["--a", "b"], { unknown: () => undefined });
  assertEquals(parsed, { a: "b", _: [] });
});

Deno.test("parseArgs() refuses an alias without a name", () => {
  assertThrows(
    () => parseArgs([], { alias: { a: undefined } }),
    TypeError,
    "Alias value must be defined",
  );
});

Deno.test("parseArgs() writes to no prototype", () => {
  for (const name of ["__proto__.a", "constructor.prototype.a"]) {
    assertEquals(parseArgs([`--${name}`, "b"]), { _: [] });
    assertEquals(Object.hasOwn(Object.prototype, "a"), false);
  }
});
