import { assert, assertEquals } from "@std/assert";
import { run } from "../../sys/testing/run.ts";

/** Milliseconds that it may take, where disks are busy. */
const PATIENCE = 150_000;
/** Eight commands each. */
const ROUNDS = 10_000;

/** What one kind of command allocated. */
interface Measured {
  readonly name: string;
  readonly commands: number;
  readonly bytes: number;
}

Deno.test("READ and WRITE leave nothing for the garbage collector", async () => {
  const script = new URL("./testing/hot_path.ts", import.meta.url).pathname;
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const large = "--min-semi-space-size=128,--max-semi-space-size=128";
  const { code, stdout, stderr } = await run(
    Deno.execPath(),
    [
      ...["run", "--quiet", "--allow-all", "--no-check", `--config=${config}`],
      ...[`--v8-flags=${large}`, script, String(ROUNDS)],
    ],
    "",
    PATIENCE,
  );
  assertEquals(code, 0, stderr);
  const measured = stdout.trim().split("\n")
    .map((line): Measured => JSON.parse(line));
  const [control, ...commands] = measured;
  assert(control.bytes > 12 * control.commands, stdout);
  assertEquals(commands.length, 12);
  for (const { name, commands: count, bytes } of commands) {
    assertEquals(count, 8 * ROUNDS, name);
    // The smallest object has 12 bytes; compiling takes some, once.
    assert(bytes < 4 * count, `${name}: ${bytes / count} bytes a command`);
  }
});
