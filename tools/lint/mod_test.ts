import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import plugin from "./mod.ts";
import { root } from "./repository.ts";

/** Texts that the rules report in a file, with the rule that reports each. */
function reports(path: string, source: string): [rule: string, at: string][] {
  return Deno.lint.runPlugin(plugin, join(root, path), source)
    .map(({ id, range: [from, to] }) => [
      id.replace("vhostd/", ""),
      source.slice(from, to),
    ]);
}

Deno.test("import-direction reports every way to import", () => {
  const source = `
import { a } from "../host/a.ts";
import type { b } from "../host/b.ts";
import "../host/c.ts";
export { d } from "../host/d.ts";
export * from "../host/e.ts";
const f = await import("../host/f.ts");
type G = import("../host/g.ts").G;
const h = new URL("../host/h.ts", import.meta.url);
import { ok } from "./ok.ts";
const data = new URL("../host/data.json", import.meta.url);
const other = await import(name);
export const local = 1;
`;
  assertEquals(
    reports("sys/x.ts", source),
    [..."abcdefgh"].map((name) => [
      "import-direction",
      `"../host/${name}.ts"`,
    ]),
  );
});

type ImportCase = readonly [from: string, to: string, allowed: boolean];

const importCases: readonly ImportCase[] = [
  ["sys/a.ts", "./b.ts", true],
  ["sys/a.ts", "../virtqueue/b.ts", false],
  ["virtqueue/a.ts", "./b.ts", true],
  ["virtqueue/a.ts", "../sys/b.ts", false],
  ["virtqueue/a_test.ts", "../sys/b.ts", false],
  ["virtqueue/a_test.ts", "./testing/b.ts", true],
  ["virtqueue/a.ts", "./testing/b.ts", false],
  ["virtqueue/testing/a.ts", "../b.ts", true],
  ["vhost/a.ts", "../sys/b.ts", true],
  ["vhost/a.ts", "../virtqueue/b.ts", true],
  ["vhost/a.ts", "../backends/blk/b.ts", false],
  ["vhost/a.ts", "../virtqueue/testing/b.ts", false],
  ["vhost/testing/a.ts", "../../virtqueue/testing/b.ts", true],
  ["vhost/handlers/a.ts", "../b.ts", true],
  ["backends/blk/a.ts", "../../virtqueue/b.ts", true],
  ["backends/blk/a.ts", "../../vhost/b.ts", false],
  ["backends/blk/a_test.ts", "../../vhost/testing/b.ts", false],
  ["backends/blk/a_test.ts", "../../virtqueue/testing/b.ts", true],
  ["backends/blk/a_bench.ts", "../../virtqueue/testing/b.ts", true],
  ["backends/blk/a.ts", "../storage/b.ts", true],
  ["backends/net/a.ts", "../storage/b.ts", false],
  ["backends/storage/a.ts", "../blk/b.ts", false],
  ["backends/blk/a.ts", "../scsi/b.ts", false],
  ["backends/blk/a.ts", "../options.ts", true],
  ["host/a.ts", "../vhost/b.ts", true],
  ["host/cli/a.ts", "../../backends/blk/b.ts", true],
  ["host/a.ts", "../mod.ts", false],
  ["host/a.ts", "../deno.json", true],
  ["vhost/a.ts", "../deno.json", false],
  ["host/a.ts", "../tests/support/b.ts", false],
  ["host/a_test.ts", "../tests/support/b.ts", true],
  ["host/a_test.ts", "../tests/guest/b.ts", false],
  ["host/a_test.ts", "../vhost/testing/b.ts", true],
  ["tests/protocol/a_test.ts", "../../vhost/testing/b.ts", true],
  ["tests/protocol/a_test.ts", "../../main.ts", true],
  ["tests/bench/a.ts", "../../vhost/testing/b.ts", true],
  ["docs/examples/a.ts", "../../mod.ts", true],
  ["docs/examples/a.ts", "../../virtqueue/b.ts", false],
  ["std/path/a.ts", "./b.ts", true],
  ["std/path/a.ts", "../cli/b.ts", false],
  ["std/path/a.ts", "../../sys/b.ts", false],
  ["tools/a.ts", "../host/b.ts", false],
  ["tools/lint/a.ts", "../b.ts", true],
  ["mod.ts", "./host/serve.ts", true],
  ["main.ts", "./host/serve.ts", true],
  ["main.ts", "./tests/support/b.ts", false],
  ["main.ts", "./vhost/testing/b.ts", false],
  ["sys/a.ts", "@std/path", true],
  ["sys/a.ts", "npm:fast-check", false],
  ["sys/a.ts", "jsr:@std/path", false],
  ["sys/a.ts", "fast-check", false],
  ["sys/a_test.ts", "fast-check", true],
  ["virtqueue/testing/a.ts", "fast-check", true],
  ["sys/a.ts", "node:fs", false],
  ["sys/a_test.ts", "node:fs", true],
  ["std/path/a.ts", "node:path", true],
  ["tools/a.ts", "node:module", true],
];

Deno.test("import-direction knows the layers", async (t) => {
  for (const [from, to, allowed] of importCases) {
    await t.step(`${from} ${allowed ? "→" : "↛"} ${to}`, () => {
      assertEquals(
        reports(from, `import "${to}";\n`),
        allowed ? [] : [["import-direction", `"${to}"`]],
      );
    });
  }
});

Deno.test("import-direction leaves files outside the repository alone", () => {
  const source = `import "../host/a.ts";\n`;
  assertEquals(Deno.lint.runPlugin(plugin, "/elsewhere/sys/a.ts", source), []);
});

Deno.test("import-direction says what would be right", () => {
  const [{ message, hint }] = Deno.lint.runPlugin(
    plugin,
    join(root, "vhost/a.ts"),
    `import "../host/b.ts";\n`,
  );
  assertEquals(
    message,
    '"vhost/a.ts" must not import "../host/b.ts": ' +
      "vhost/ may import vhost/, sys/, virtqueue/",
  );
  assertEquals(hint, "Imports point downward only, see ARCHITECTURE.md");
});

Deno.test("ffi-only-in-sys reports FFI outside of sys/", () => {
  const source = `
Deno.dlopen("libc.so.6", {});
const view = new Deno.UnsafePointerView(pointer);
Deno["UnsafeFnPointer"];
let pointer: Deno.UnsafePointer;
const { dlopen, UnsafeCallback: Callback, args } = Deno;
const { readFile, ...rest } = Deno;
const value: Deno.PointerValue = null;
other.dlopen();
Deno.readFile("x");
`;
  assertEquals(
    reports("host/a.ts", source),
    [
      "Deno.dlopen",
      "Deno.UnsafePointerView",
      'Deno["UnsafeFnPointer"]',
      "Deno.UnsafePointer",
      "dlopen",
      "UnsafeCallback",
    ].map((text) => ["ffi-only-in-sys", text]),
  );
  assertEquals(reports("sys/a.ts", source), []);
});

Deno.test("max-file-length counts lines", () => {
  const lines = (count: number) => "export const a = 1;\n".repeat(count);
  assertEquals(reports("host/a.ts", lines(500)), []);
  assertEquals(reports("host/a.ts", lines(500).trimEnd()), []);
  assertEquals(reports("host/a.ts", lines(501)), [["max-file-length", ""]]);
});

Deno.test("no-registry-hosts reports names, also in comments", () => {
  const name = ["registry", "npmjs", "org"].join(".");
  const source = `// From ${name}.\nconst url = "https://${name}/deno";\n`;
  assertEquals(reports("host/a.ts", source), [
    ["no-registry-hosts", name],
    ["no-registry-hosts", name],
  ]);
});
