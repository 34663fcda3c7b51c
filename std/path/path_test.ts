import {
  assert,
  assertEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  basename,
  DELIMITER,
  dirname,
  extname,
  fromFileUrl,
  isAbsolute,
  join,
  normalize,
  relative,
  resolve,
  SEPARATOR,
  SEPARATOR_PATTERN,
  toFileUrl,
} from "@std/path";

Deno.test("constants", () => {
  assertEquals([SEPARATOR, DELIMITER], ["/", ":"]);
  assertEquals("a//b".split(SEPARATOR_PATTERN), ["a", "b"]);
});

Deno.test("basename()", () => {
  const cases: [expected: string, path: string, suffix?: string][] = [
    ["", ""],
    [".c", ".c"],
    ["", "", ".c"],
    ["b.c", "/a/b.c"],
    ["b.c", "b.c"],
    ["b.c", "b.c//"],
    ["b.c", "a/b.c/"],
    ["b", "/a/b.c", ".c"],
    ["b.c", "/a/b.c", "d"],
    ["bbb", "/a/bbb", "bbb"],
    ["bbb", "bbb", "bbb"],
    ["bb", "a/bbb", "b"],
    ["bbb", "a/bbb", "a/bbb"],
    ["/", "/"],
    ["/", "//"],
    ["\\a\\b.c", "\\a\\b.c"],
    ["c\n", "a/c\n"],
  ];
  for (const [expected, path, suffix] of cases) {
    assertStrictEquals(basename(path, suffix), expected, `${path} ${suffix}`);
  }
  assertEquals(basename(new URL("file:///a/b%20c.img"), ".img"), "b c");
});

Deno.test("dirname()", () => {
  const cases: [expected: string, path: string][] = [
    ["/a", "/a/b/"],
    ["/a", "/a/b"],
    ["/", "/a"],
    ["", ""],
    ["/", "/"],
    ["/", "////"],
    ["/", "//a"],
    [".", "a"],
    ["a", "a/b"],
    ["a", "a//b"],
    ["a\n", "a\n//b"],
    [".", "C:\\a"],
  ];
  for (const [expected, path] of cases) {
    assertStrictEquals(dirname(path), expected || ".", path);
  }
  assertEquals(dirname(new URL("file:///a/b/c.img")), "/a/b");
});

Deno.test("extname()", () => {
  const cases: [expected: string, path: string][] = [
    ["", ""],
    [".img", "/a/b.img"],
    ["", "/a.b/c"],
    ["", "/a.b/.c"],
    [".d", "/a.b/.c.d"],
    [".", "/a/b."],
    [".", "b.."],
    ["", ".."],
    [".d", "..b.d"],
    [".", "..b.."],
    ["", "."],
    ["", "./"],
    [".c", "b.c/"],
    [".c", "b.c//"],
    [".", "b./"],
    [".\\", "b.\\"],
  ];
  for (const [expected, path] of cases) {
    assertStrictEquals(extname(path), expected, path);
  }
  assertEquals(extname(new URL("file:///a/b.img")), ".img");
});

Deno.test("isAbsolute()", () => {
  assert(isAbsolute("/a"));
  assert(isAbsolute("/"));
  assert(!isAbsolute("a/"));
  assert(!isAbsolute("./a"));
  assert(!isAbsolute(""));
});

Deno.test("join()", () => {
  const cases: [expected: string, ...paths: [string?, ...string[]]][] = [
    ["."],
    [".", undefined],
    [".", undefined, "a"],
    [".", ""],
    [".", "", ""],
    ["/", "/"],
    ["a/b", "a", "b"],
    ["a/b", "a/", "/b"],
    ["a/b", "", "a", "", "b"],
    ["x/b/c.js", ".", "x/b", "..", "b/c.js"],
    ["/x/b/c.js", "/.", "x/b", "..", "/b/c.js"],
    ["../../b", "a", "../../..", "b"],
    ["/b", "/a", "../../..", "b"],
    ["a/b/", "a", "./b/"],
    [" /a", " ", "a"],
    ["/a", "//a"],
  ];
  for (const [expected, ...paths] of cases) {
    assertStrictEquals(join(...paths), expected, paths.join(" + "));
  }
  assertEquals(join(new URL("file:///a/"), "b"), "/a/b");
});

Deno.test("normalize()", () => {
  const cases: [expected: string, path: string][] = [
    [".", ""],
    [".", "."],
    ["./", "./"],
    ["../", "../"],
    ["/", "/.."],
    ["a/c.js", "./a/b/../c.js"],
    ["/a", "/b/../a"],
    ["a/b/c", "a//b//./c"],
    ["../a", "b/../../a"],
    ["../../a", "../../a"],
    [
      "a/",
      "a/b/.."
        .concat("/"),
    ],
    ["a", "a/b/.."],
  ];
  for (const [expected, path] of cases) {
    assertStrictEquals(normalize(path), expected, path);
  }
  assertEquals(normalize(new URL("file:///a/../b//c")), "/b/c");
});

Deno.test("relative()", () => {
  const cases: [expected: string, from: string, to: string][] = [
    ["", "/a", "/a"],
    ["b", "/a", "/a/b"],
    ["..", "/a/b", "/a"],
    ["../c/d", "/a/b", "/a/c/d"],
    ["../../../var", "/a/b/c", "/var"],
    ["bar", "/", "/bar"],
    ["..", "/bar", "/"],
    ["../abd", "/abc", "/abd"],
    ["../a-long", "/a", "/a-long"],
    ["../b/c", "a", "b/c"],
  ];
  for (const [expected, from, to] of cases) {
    assertStrictEquals(relative(from, to), expected, `${from} → ${to}`);
  }
});

Deno.test("resolve()", () => {
  const cases: [expected: string, ...segments: string[]][] = [
    ["/a/b", "/a", "b"],
    ["/b", "/a", "/b"],
    ["/file", "/a/lib", "/", "file"],
    ["/a/c", "/a/b", "../c"],
    ["/", "/a", "../.."],
    ["/a", "/a", "", "."],
  ];
  for (const [expected, ...segments] of cases) {
    assertStrictEquals(resolve(...segments), expected, segments.join(" + "));
  }
  const cwd = Deno.cwd();
  assertEquals(resolve(), cwd);
  assertEquals(resolve("a"), `${cwd}/a`);
});

Deno.test("toFileUrl()", () => {
  const cases: [expected: string, path: string][] = [
    ["file:///a/b", "/a/b"],
    ["file:///a/b/", "/a/b/"],
    ["file:///a%20b%0A", "/a b\n"],
    ["file:///a%25b", "/a%b"],
    ["file:///a%5Cb", "/a\\b"],
    ["file:///a%3Fb%23c", "/a?b#c"],
    ["file:///a", "///a"],
    ["file:///%C3%A9", "/é"],
  ];
  for (const [expected, path] of cases) {
    assertEquals(toFileUrl(path).href, expected, path);
  }
  assertThrows(
    () => toFileUrl("a"),
    TypeError,
    'Path must be absolute: received "a"',
  );
});

Deno.test("fromFileUrl()", () => {
  assertEquals(fromFileUrl("file:///a/b"), "/a/b");
  assertEquals(fromFileUrl(new URL("file:///a%20b%25%")), "/a b%%");
  assertEquals(fromFileUrl("file://localhost/a"), "/a");
  for (const path of ["/", "/a b", "/a%41\\c?d#e", "/é\n\t"]) {
    assertEquals(fromFileUrl(toFileUrl(path)), path);
  }
  assertThrows(
    () => fromFileUrl("https://a/b"),
    TypeError,
    'URL must be a file URL: received "https:"',
  );
  assertThrows(() => fromFileUrl("a"), TypeError);
});

Deno.test("functions refuse URLs of other schemes and values of other types", () => {
  const url = new URL("https://a/b");
  const number = 1 as unknown as string;
  for (const fn of [basename, dirname, extname, join, normalize]) {
    assertThrows(() => fn(url), TypeError, "URL must be a file URL");
    assertThrows(() => fn(number), TypeError, "Path must be a string");
  }
  for (const fn of [isAbsolute, resolve]) {
    assertThrows(() => fn(number), TypeError);
  }
  assertThrows(() => relative(number, "a"), TypeError);
});
