import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { type BalloonReport, balloonTable } from "./balloon.ts";
import { orderOf } from "./balloon_driver.ts";
import { threadSeconds } from "./balloon_process.ts";

const BENCH = new URL("./balloon.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

Deno.test("bench:balloon measures our own driver and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      ...["--rounds=1", "--memory=16", "--no-guests", `--json=${path}`],
    ],
    timeout: 60_000,
  });
  assertStringIncludes(stdout, "own driver, scattered, 1 in flight");
  const report = JSON.parse(Deno.readTextFileSync(path)) as BalloonReport;
  assertEquals(report.cases.length, 4);
  for (const { inflate, deflate } of report.cases) {
    for (const { rate, cpu } of [...inflate, ...deflate]) {
      assert(rate > 0 && cpu > 0);
    }
  }
  assertEquals(stdout.trim(), balloonTable(report));
});

Deno.test("orders have each page once, scattered ones have no neighbours", () => {
  for (const order of ["ascending", "descending", "scattered"] as const) {
    for (const count of [1, 7, 1024]) {
      const pages = orderOf(order, count);
      assertEquals([...pages].sort((a, b) => a - b), [...Array(count).keys()]);
    }
  }
  const batch = orderOf("scattered", 1024).slice(0, 256).sort();
  for (let i = 1; i < batch.length; i++) assert(batch[i] > batch[i - 1] + 1);
});

Deno.test("CPU time is that of the threads that are asked for", () => {
  const all = threadSeconds(Deno.pid);
  assert(all > 0);
  assertEquals(threadSeconds(Deno.pid, () => false), 0);
});
