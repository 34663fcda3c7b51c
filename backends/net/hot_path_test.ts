import { assert, assertEquals } from "@std/assert";
import { run } from "../../sys/testing/run.ts";

// A frame that allocated one small object would fill the young generation
// several times in this many rounds.
const ROUNDS = 300_000;

Deno.test("frames leave nothing for the garbage collector", async () => {
  const script = new URL("./testing/hot_path.ts", import.meta.url).pathname;
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const { code, stdout, stderr } = await run(Deno.execPath(), [
    ...["run", "--quiet", "--allow-all", "--no-check", `--config=${config}`],
    ...["--v8-flags=--trace-gc", script, String(ROUNDS)],
  ]);
  assertEquals(code, 0, stderr);
  const counts: Record<string, number> = {};
  let part: string | null = null;
  for (const line of stdout.split("\n")) {
    const [, edge, name, frames] = /(begin|end) (\w+) ?(\d+)?/.exec(line) ?? [];
    if (edge === "begin") counts[part = name] = 0;
    else if (edge === "end") {
      part = null;
      assert(Number(frames) >= ROUNDS, `${name}: ${frames} frames arrived`);
    } else if (part !== null && / ms: (Scav|Mark)/.test(line)) counts[part]++;
  }
  assertEquals(Object.keys(counts), ["echo", "checksum", "segment", "switch"]);
  for (const [name, count] of Object.entries(counts)) {
    assert(count <= 1, `${name}: ${count} collections\n${stdout}`);
  }
});
