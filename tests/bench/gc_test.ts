import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { runCommand } from "../support/process.ts";
import { collectionsOfWorker, GC_CASES } from "./gc.ts";

const BENCH = new URL("./blk.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

const gc = (...args: readonly string[]) =>
  runCommand(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      ...args,
    ],
    timeout: 60_000,
    anyCode: true,
  });

Deno.test("bench:blk --gc counts the collections of the Worker", async () => {
  const { code, stdout, stderr } = await gc("--gc=1", "--case=memory");
  assertEquals(code, 0, stderr);
  // Its start leaves garbage; what comes after 3 s, one second does not tell.
  assertMatch(
    stdout,
    /^\| memory, polling client, writes +\| +[1-9]\d* \| +[1-9]\d* \| +- \|$/m,
  );
  assertEquals(stdout.match(/^\| \w+, /gm)?.length, 1);
});

Deno.test("bench:blk --gc refuses what is no time, and names its cases", async () => {
  for (const bad of ["--gc=0", "--gc=-1", "--gc=long", "--gc=1e9"]) {
    const { code, stderr } = await gc(bad);
    assertEquals(code, 2);
    assertMatch(stderr, /--gc takes seconds/);
  }
  const { code, stderr } = await gc("--gc", "--case=warp");
  assertEquals(code, 2);
  for (const { name } of GC_CASES) assert(stderr.includes(`\n  ${name}\n`));
});

Deno.test("lines of --trace-gc: the first isolate is the main thread's", () => {
  const trace = [
    "[7:0x55d0a000]       20 ms: Scavenge 3.1 (4.0) -> 2.7 (5.0) MB, …",
    "Stop with Ctrl-C",
    "[7:0x7f10b000]       31 ms: Scavenge 3.0 (4.1) -> 2.6 (5.0) MB, …",
    "[7:0x7f10b000]     2999 ms: Mark-Compact 5.0 (8.1) -> 2.6 (5.0) MB, …",
    "[7:0x55d0a000]     3500 ms: Mark-Compact (reduce) 3.1 (4.0) -> 2.7 MB, …",
    "[7:0x7f10b000]     3000 ms: Scavenge 3.0 (4.1) -> 2.6 (5.0) MB, …",
    "[7:0x7f10b000]    59999 ms: Scavenge 3.0 (4.1) -> 2.6 (5.0) MB, …",
    "[7:0x7f10b000]    60000 ms: Scavenge 3.0 (4.1) -> 2.6 (5.0) MB, …",
  ];
  const count = (lines: string[]) =>
    collectionsOfWorker(lines.join("\n"), 60_000);
  assertEquals(count(trace), { early: 2, late: 2 });
  assertEquals(count(trace.slice(0, 1)), { early: 0, late: 0 });
  assertThrows(() => count(["Stop with Ctrl-C"]), Error, "told of no garbage");
});
