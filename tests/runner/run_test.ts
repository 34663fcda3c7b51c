import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { runCommand } from "../support/process.ts";

const script = fromFileUrl(new URL("../run.ts", import.meta.url));

function run(...args: readonly string[]) {
  return runCommand(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", script, ...args],
    anyCode: true,
    timeout: 60_000,
  });
}

const lastLine = (text: string) => text.trimEnd().split("\n").at(-1);

Deno.test("run.ts ends with the counts", async () => {
  const { code, stdout } = await run(
    "--only",
    "pure",
    "--filter",
    "descriptor",
  );
  assertEquals(code, 0, stdout);
  assertEquals(
    /^[1-9]\d* passed, 0 failed, \d+ skipped$/.test(
      lastLine(stdout) ?? "",
    ),
    true,
  );
});

Deno.test("run.ts fails when no test ran", async () => {
  const { code, stdout } = await run(
    ...["--only", "pure", "--filter", "/^no test has this name$/"],
  );
  assertEquals([code, lastLine(stdout)], [1, "0 passed, 0 failed, 0 skipped"]);
  assertStringIncludes(stdout, "No test ran.");
});

Deno.test("run.ts lists phases and refuses wrong options", async () => {
  const list = await run("--list", "--only", "ok");
  assertEquals(list.code, 0);
  assertEquals(list.stdout.split("\n")[0].split(/\s+/)[0], "format");
  assertStringIncludes((await run("--help")).stdout, "--only PHASE");
  const wrong = await run("--only", "nonsense");
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.stderr, 'Cannot run phase "nonsense"');
});
