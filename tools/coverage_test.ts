import { assertEquals, assertStringIncludes } from "@std/assert";
import { codeLines } from "./code_lines.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { describe, isCounted, percentage, removeTorn } from "./coverage.ts";
import { readLcov } from "./lcov.ts";

const report = `SF:/root/sys/a.ts
FN:1,f
DA:1,3
DA:2,0
DA:4,1
LH:2
LF:3
end_of_record
SF:/root/std/a.ts
DA:1,1
end_of_record
SF:/elsewhere/b.ts
DA:1,1
end_of_record
`;

Deno.test("readLcov() counts lines of files below the root", () => {
  assertEquals(readLcov(report, "/root/"), [
    { file: "sys/a.ts", found: 3, hit: 2 },
    { file: "std/a.ts", found: 1, hit: 1 },
  ]);
  assertEquals(readLcov("", "/root/"), []);
});

Deno.test("isCounted() takes the code of the layers", () => {
  const counted = ["sys/a.ts", "backends/blk/a.ts", "host/cli/a.ts"];
  const others = [
    "sys/a_test.ts",
    "sys/a_bench.ts",
    "virtqueue/testing/a.ts",
    "std/a.ts",
    "main.ts",
    "backends/blk/README.md",
  ];
  assertEquals([...counted, ...others].filter(isCounted), counted);
});

Deno.test("codeLines() leaves out types, comments and blank lines", () => {
  const source = `/** A comment
 * of two lines. */
import type { A } from "./a.ts";
import { b } from "./b.ts";

// A comment.
export interface C {
  d: string;
}
export const e: number = b(
  1,
);
`;
  assertEquals(codeLines(source), 4);
  assertEquals(codeLines("export type A = string;\n"), 0);
});

Deno.test("percentage() and describe()", () => {
  const files = [
    { file: "sys/a.ts", found: 10, hit: 9 },
    { file: "host/b.ts", found: 10, hit: 1 },
  ];
  assertEquals(percentage(files), 50);
  assertEquals(percentage([]), 100);
  const text = describe(files);
  assertStringIncludes(text, "sys         90.0 %");
  assertStringIncludes(text, "vhost      100.0 %");
  assertStringIncludes(text, "all         50.0 %");
  assertStringIncludes(text, "Reached least:\n   10.0 % host/b.ts");
  assertEquals(text.includes("sys/a.ts"), false);
});

Deno.test("removeTorn() keeps what is whole", () => {
  using directory = TemporaryDirectory.make("coverage");
  const whole = JSON.stringify(
    { functions: [{ ranges: [{ end: 1 }] }] },
    null,
    2,
  );
  for (let end = 0; end <= whole.length; end++) {
    Deno.writeTextFileSync(directory.file(`${end}.json`), whole.slice(0, end));
  }
  Deno.writeTextFileSync(directory.file("e.txt"), "");
  assertEquals(removeTorn(directory.path), whole.length);
  const left = [...Deno.readDirSync(directory.path)].map(({ name }) => name);
  assertEquals(left.sort(), [`${whole.length}.json`, "e.txt"]);
});
