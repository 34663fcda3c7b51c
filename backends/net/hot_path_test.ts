import { assert, assertEquals } from "@std/assert";
import { run } from "../../sys/testing/run.ts";

const ROUNDS = 300_000;

/** What one path allocated. */
interface Path {
  readonly name: string;
  readonly frames: number;
  readonly bytes: number;
}

Deno.test("frames leave nothing for the garbage collector", async () => {
  const script = new URL("./testing/hot_path.ts", import.meta.url).pathname;
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const large = "--min-semi-space-size=128,--max-semi-space-size=128";
  const { code, stdout, stderr } = await run(Deno.execPath(), [
    ...["run", "--quiet", "--allow-all", "--no-check", `--config=${config}`],
    ...[`--v8-flags=${large}`, script, String(ROUNDS)],
  ]);
  assertEquals(code, 0, stderr);
  const paths = stdout.trim().split("\n").map((line): Path => JSON.parse(line));
  assertEquals(
    paths.map(({ name }) => name),
    ["control", "echo", "checksum", "segment", "switch"],
  );
  for (const { name, frames, bytes } of paths) {
    assert(frames >= ROUNDS, `${name}: ${frames} frames arrived`);
    // The smallest object has 12 bytes; compiling takes some, once.
    if (name === "control") assert(bytes > 12 * ROUNDS, `${bytes} bytes`);
    else assert(bytes < 4 * ROUNDS, `${name}: ${bytes / ROUNDS} bytes a frame`);
  }
});
