import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import type { Phase } from "../phases.ts";
import { execute, existingTests, type RunContext } from "./execute.ts";

/** Runs a phase on a folder of its own, with the given files in it. */
async function run(
  files: Record<string, string>,
  work: Phase["run"],
  context: Partial<RunContext> = {},
  timeout = 60,
) {
  await using stack = new AsyncDisposableStack();
  const root = await Deno.makeTempDir({ prefix: "vhostd-runner-" });
  stack.defer(() => Deno.remove(root, { recursive: true }));
  await Deno.writeTextFile(join(root, "deno.json"), "{}");
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(join(root, path, ".."), { recursive: true });
    await Deno.writeTextFile(join(root, path), text);
  }
  const shown: string[] = [];
  const begun: string[] = [];
  const phase: Phase = {
    name: "x",
    title: "x",
    group: "ok",
    timeout,
    run: work,
  };
  const result = await execute(phase, {
    root,
    scratch: root,
    coverage: false,
    color: false,
    long: false,
    signal: new AbortController().signal,
    show: (line) => shown.push(line),
    onFile: (file) => begun.push(file),
    ...context,
  });
  return { result, shown, begun, coverage: await entries(root) };
}

/** How many files with coverage there are. */
async function entries(root: string): Promise<number> {
  try {
    const files = Deno.readDir(join(root, "coverage/raw"));
    return (await Array.fromAsync(files)).length;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

const tests = { tests: ["a", "none"], permissions: [] };

Deno.test("execute() counts passed, failed and skipped tests", async () => {
  const { result, shown, begun } = await run({
    "a/one_test.ts": `
      Deno.test("holds", () => {});
      Deno.test({ name: "later [skipped: needs x]", ignore: true, fn() {} });`,
    "a/b/two_test.ts": `
      Deno.test("fails", () => { throw new Error("the cause"); });`,
  }, tests);
  const { output, duration: _, ...counts } = result;
  assertEquals(counts, {
    passed: 1,
    failed: 1,
    skipped: 1,
    skips: [{ name: "later", reason: "needs x" }],
    failures: ["fails (a/b/two_test.ts)"],
  });
  // What failed, and nothing of what held.
  assertStringIncludes(output, "the cause");
  assertEquals(output.includes("holds"), false);
  assertEquals(shown, []);
  assertEquals(begun.toSorted(), ["a/b/two_test.ts", "a/one_test.ts"]);
});

Deno.test("execute() finds the reasons that skip.ts gives", async () => {
  const skip = new URL("../support/skip.ts", import.meta.url);
  const { result } = await run({
    "a/one_test.ts": `
      import { skipRest, skipUnless } from "${skip}";
      const x = skipUnless(false, "needs x");
      x.test("boots", () => { throw new Error("was run"); });
      Deno.test("resets", async (t) => {
        await x.step(t, "twice", () => { throw new Error("was run"); });
        await skipRest(t, "thrice", "needs y");
      });`,
  }, tests);
  assertEquals(result.failures, []);
  assertEquals(result.skips, [
    { name: "boots", reason: "needs x" },
    { name: "resets > twice", reason: "needs x" },
    { name: "resets > thrice", reason: "needs y" },
  ]);
});

Deno.test("execute() fails a test skipped without a reason", async () => {
  const { result } = await run({
    "a/one_test.ts": `Deno.test({ name: "later", ignore: true, fn() {} });`,
  }, tests);
  assertEquals(result.failures, ["later: skipped without a reason"]);
  assertEquals([result.failed, result.skipped], [1, 1]);
});

Deno.test("execute() fails when the tests cannot be loaded", async () => {
  const { result } = await run({
    "a/one_test.ts": `import "./missing.ts";`,
    "a/two_test.ts": `Deno.test("holds", () => {});`,
  }, tests);
  assertEquals(result.failures, ["x: deno test ended with code 1"]);
  assertEquals([result.passed, result.failed], [0, 1]);
  assertStringIncludes(result.output, "missing.ts");
});

Deno.test("execute() grants no permission that is not listed", async () => {
  const files = {
    "a/one_test.ts":
      `Deno.test("reads", () => { Deno.readTextFileSync("deno.json"); });`,
  };
  const denied = await run(files, tests);
  assertEquals(denied.result.failures, ["reads (a/one_test.ts)"]);
  const granted = await run(files, { ...tests, permissions: ["--allow-read"] });
  assertEquals(granted.result.passed, 1);
});

Deno.test("execute() passes the filter and what takes long on", async () => {
  const files = {
    "a/one_test.ts": `
      Deno.test("first", () => {});
      Deno.test("second", () => {
        if (Deno.env.get("VHOSTD_LONG") !== "1") throw new Error("short");
      });`,
  };
  const work = { tests: ["a"], permissions: ["--allow-env"] };
  const filtered = await run(files, work, { filter: "second", long: true });
  assertEquals([filtered.result.passed, filtered.result.failed], [1, 0]);
  const short = await run(files, work);
  assertEquals([short.result.passed, short.result.failed], [1, 1]);
});

Deno.test("execute() names files also in coloured output", async () => {
  const files = { "a/one_test.ts": `Deno.test("holds", () => {});` };
  const { begun } = await run(files, tests, { color: true });
  assertEquals(begun, ["a/one_test.ts"]);
});

Deno.test("execute() shows a live phase at once", async () => {
  const { result, shown } = await run({
    "a/one_test.ts": `Deno.test("holds", () => { console.log("a line"); });`,
    "a/left/out_test.ts": `throw new Error("left out");`,
  }, { tests: ["a"], except: ["a/left"], permissions: [], live: true });
  assertEquals([result.passed, result.output], [1, ""]);
  assertStringIncludes(shown.join("\n"), "a line");
});

Deno.test("execute() leaves out what is excepted, a file of several folders too", async () => {
  const { result, begun } = await run({
    "a/b/one_test.ts": `Deno.test("holds", () => {});`,
    "a/b/out_test.ts": `throw new Error("left out");`,
    "a/c/two_test.ts": `Deno.test("holds, too", () => {});`,
  }, {
    tests: ["a/c", "a/b"],
    except: ["a/b/out_test.ts"],
    permissions: [],
  });
  assertEquals([result.passed, result.failed], [2, 0]);
  assertEquals(begun.sort(), ["a/b/one_test.ts", "a/c/two_test.ts"]);
});

Deno.test("execute() gathers coverage where phase and run want it", async () => {
  const files = {
    "a/one.ts": `export const one = 1;`,
    "a/one_test.ts": `import "./one.ts"; Deno.test("holds", () => {});`,
  };
  const work = { ...tests, coverage: true };
  const found = [
    (await run(files, work, { coverage: true })).coverage,
    (await run(files, work, { coverage: false })).coverage,
    (await run(files, tests, { coverage: true })).coverage,
  ];
  assertEquals(found.map((count) => count > 0), [true, false, false]);
});

Deno.test("execute() counts a command as one check", async () => {
  const script = `console.log("a line"); Deno.exit(Number(Deno.args[0]));`;
  const command = (code: string) => ({ command: ["run", "code.ts", code] });
  const good = await run({ "code.ts": script }, command("0"));
  assertEquals([good.result.passed, good.result.failed], [1, 0]);
  assertEquals(good.result.output, "");
  const bad = await run({ "code.ts": script }, command("7"));
  assertEquals([bad.result.passed, bad.result.failed], [0, 1]);
  assertEquals(bad.result.failures, ["x: deno run ended with code 7"]);
  assertEquals(bad.result.output, "a line");
  const report = { ...command("0"), report: true };
  const shown = await run({ "code.ts": script }, report);
  assertEquals(shown.result.output, "a line");
});

Deno.test("execute() ends a phase at its time limit", async () => {
  const { result } = await run(
    { "code.ts": `setInterval(() => {}, 1_000);` },
    { command: ["run", "code.ts"] },
    {},
    1,
  );
  assertEquals(result.failures, ["x: took more than 1 s"]);
});

Deno.test("execute() reports processes that a test leaves behind", async () => {
  const { result } = await run({
    "a/one_test.ts": `Deno.test("holds", () => {
      new Deno.Command("sleep", { args: ["60"] }).spawn().unref();
    });`,
  }, { tests: ["a"], permissions: ["--allow-run"] });
  assertEquals([result.passed, result.failed], [1, 1]);
  assertMatch(result.failures[0], /^x: left sleep \(\d+\) running$/);
});

Deno.test("execute() has nothing to run where there are no tests", async () => {
  const { result } = await run({ "a/one.ts": "" }, tests);
  assertEquals([result.passed, result.failed, result.skipped], [0, 0, 0]);
});

Deno.test("existingTests() finds files and folders with tests", async () => {
  const root = await Deno.makeTempDir({ prefix: "vhostd-runner-" });
  try {
    for (const folder of ["a/b", "c/d", "e"]) {
      await Deno.mkdir(join(root, folder), { recursive: true });
    }
    for (const file of ["a/b/x_test.ts", "c/d/x_test.ts", "e/x.ts"]) {
      await Deno.writeTextFile(join(root, file), "");
    }
    const work = {
      tests: ["a", "a/b/x_test.ts", "c", "e", "none"],
      except: ["c/d"],
      permissions: [],
    };
    assertEquals(await existingTests(root, work), ["a", "a/b/x_test.ts"]);
    await Deno.writeTextFile(join(root, "a/b/y_test.ts"), "");
    await Deno.writeTextFile(join(root, "c/y_test.ts"), "");
    assertEquals(
      await existingTests(root, { ...work, except: ["c/d", "a/b/x_test.ts"] }),
      ["a/b/y_test.ts", "c/y_test.ts"],
    );
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
