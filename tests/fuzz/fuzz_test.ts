/** A minute of fuzzing: what was done is printed. */

import { assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { FuzzUsageError, readFuzzOptions } from "./options.ts";
import { targets } from "./targets.ts";

const MAIN = fromFileUrl(new URL("./main.ts", import.meta.url));
/** Seconds for all targets together. */
const BUDGET = 60;

/** Runs the command to its end; what it printed. */
export async function runMain(
  ...args: string[]
): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", MAIN, ...args],
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

for (const name of targets.keys()) {
  const seconds = Math.floor(BUDGET / targets.size);
  Deno.test(`${name}: nothing is found in ${seconds} s`, async () => {
    const { code, text } = await runMain(
      "--target",
      name,
      "--seconds",
      `${seconds}`,
    );
    console.log(text.trimEnd());
    assertEquals(code, 0);
    assertMatch(text, /\d+ runs in .* no findings/);
  });
}

Deno.test("a wrong option is refused, with what would be right", async () => {
  const { code, text } = await runMain("--target", "door");
  assertEquals(code, 2);
  assertMatch(text, /Cannot fuzz "door": the targets are ring, /);
  for (const args of [["--seconds", "-1"], ["--replay", "x"], ["--what"]]) {
    try {
      readFuzzOptions(args);
    } catch (error) {
      if (error instanceof FuzzUsageError) continue;
    }
    throw new Error(`${args} was taken`);
  }
});
