/**
 * That the fuzzer finds anything: defects of the kinds that others had are put
 * into a copy of the code, one at a time, and each is found.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { longOnly } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { targets } from "./targets.ts";

const ROOT = fromFileUrl(new URL("../../", import.meta.url));
const MUTANTS = fromFileUrl(new URL("./mutants/", import.meta.url));
/** What the fuzzer and the code under test consist of. */
const PARTS = [
  "sys",
  "virtqueue",
  "vhost",
  "backends",
  "std",
  "tests/fuzz",
  "tests/support",
  "deno.json",
  "deno.lock",
];
/** Seconds in which each must be found, without the corpus. */
const SECONDS = 120;
/** The same choices each time, so that the table of docs/testing.md holds. */
const SEED = "1";

/** Those that are looked for each time: a target that sees nothing is found out. */
const QUICK = [
  "balloon-report-rounding.patch",
  "blk-unknown-type.patch",
  "net-short-buffer.patch",
  "packed-early-flags.patch",
  "ring-head-in-flight.patch",
  "scsi-compare-first-byte.patch",
  "session-call-leak.patch",
];

const patches = Array.from(Deno.readDirSync(MUTANTS), ({ name }) => name)
  .filter((name) => name.endsWith(".patch")).sort();

/** Copies a file or a folder with all that is in it. */
function copy(from: string, to: string): void {
  if (Deno.statSync(from).isFile) return Deno.copyFileSync(from, to);
  Deno.mkdirSync(to, { recursive: true });
  for (const { name } of Deno.readDirSync(from)) {
    copy(join(from, name), join(to, name));
  }
}

function copyTree(to: string): void {
  for (const part of PARTS) copy(join(ROOT, part), join(to, part));
}

async function run(
  command: string,
  args: readonly string[],
  cwd: string,
): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    cwd,
    // No repository around the copy counts.
    env: { GIT_CEILING_DIRECTORIES: join(cwd, "..") },
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** The target that is to find a defect: the first word of its name. */
function targetOf(patch: string): string {
  return patch.slice(0, patch.indexOf("-"));
}

Deno.test("every mutant is a change of the code as it is", async () => {
  using directory = TemporaryDirectory.make("mutants");
  copyTree(directory.path);
  assert(patches.length >= 5, `${patches.length} mutants`);
  for (const patch of patches) {
    assert(targets.has(targetOf(patch)), patch);
    const args = ["apply", "--check", "-C1", join(MUTANTS, patch)];
    const { code, text } = await run("git", args, directory.path);
    assertEquals(code, 0, `${patch} does not apply: ${text}`);
  }
});

Deno.test("each target of the fuzzer finds a mutant", async (t) => {
  assertEquals(QUICK.map(targetOf), [...targets.keys()].sort());
  for (const patch of QUICK) await t.step(patch, () => find(patch));
});

longOnly().test("the fuzzer finds every mutant", async (t) => {
  for (const patch of patches) await t.step(patch, () => find(patch));
});

async function find(patch: string): Promise<void> {
  using directory = TemporaryDirectory.make("mutant");
  const { path } = directory;
  copyTree(path);
  const applied = await run(
    "git",
    ["apply", "-C1", join(MUTANTS, patch)],
    path,
  );
  assertEquals(applied.code, 0, applied.text);
  const name = targetOf(patch);
  const started = performance.now();
  const { code, text } = await run(Deno.execPath(), [
    "run",
    "--no-check",
    "--allow-all",
    "tests/fuzz/main.ts",
    ...["--target", name, "--seconds", `${SECONDS}`, "--seed", SEED, "--fresh"],
  ], path);
  const seconds = (performance.now() - started) / 1_000;
  assertEquals(code, 1, text);
  assertMatch(text, /FOUND/);
  const [, finding] = /FOUND (.*)/.exec(text) ?? [];
  const [, runs] = /: (\d+) runs in/.exec(text) ?? [, "?"];
  console.log(`${patch}: ${seconds.toFixed(1)} s, ${runs} runs: ${finding}`);
}
