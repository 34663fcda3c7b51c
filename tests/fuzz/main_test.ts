import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeCurrentInput, readCurrentInput } from "./engine/current_input.ts";
import { type ProcessEnd, supervise } from "./main.ts";

const SCRIPT = fromFileUrl(
  new URL("./engine/dying_process.ts", import.meta.url),
);

/** Runs a process that ends in a way; how that was seen, and its last input. */
async function end(target: string): Promise<[ProcessEnd, number[]]> {
  using directory = TemporaryDirectory.make("fuzz");
  const current = directory.file("current");
  makeCurrentInput(current);
  const order = {
    target,
    current,
    seconds: 0,
    seed: 0,
    fresh: true,
    keep: false,
    findings: directory.path,
  };
  const supervision = { script: SCRIPT, interval: 100, looks: 5 };
  const ended = await supervise(order, supervision);
  return [ended, [...readCurrentInput(current).input]];
}

Deno.test("the input of a process that died is still there", async () => {
  const [{ reason }, input] = await end("SIGSEGV");
  assertEquals([reason, input], ["it was ended by SIGSEGV", [4, 5]]);
});

Deno.test("a process that hangs is ended, its input is still there", async () => {
  const [{ reason }, input] = await end("hang");
  assertEquals([reason, input], ["it ran for more than 0.5 s", [4, 5]]);
});

Deno.test("an error that nobody catches is a finding", async () => {
  const [{ reason }, input] = await end("throw");
  assertEquals([reason, input], ["it ended the process", [4, 5]]);
});

Deno.test("a process that ends well, or told what it found, is left alone", async () => {
  assertEquals((await end("0"))[0], { code: 0, reason: null });
  assertEquals((await end("3"))[0], { code: 3, reason: null });
});
