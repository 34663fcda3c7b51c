import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { serve } from "../../host/serve.ts";
import { compare, machineDifferences } from "./compare.ts";
import { runLoad, STAMP_UNIT, stampImage } from "./load.ts";
import { median, type Report } from "./report.ts";

const BENCH = new URL("./blk.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

Deno.test("bench:blk measures, verifies and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      ...["--rounds=1", "--seconds=0.2", "--no-peers", `--json=${path}`],
      ...[
        "--case=cache 4k random read QD32",
        "--case=memory 4k random write QD32",
      ],
    ],
    timeout: 60_000,
  });
  assertStringIncludes(stdout, "cache 4k random read QD32");
  const report = JSON.parse(Deno.readTextFileSync(path)) as Report;
  assertEquals(report.cases.map(({ name }) => name), [
    "cache 4k random read QD32",
    "memory 4k random write QD32",
  ]);
  for (const { runs } of report.cases) {
    const [{ requests, errors, iops, p50 }] = runs.vhostd;
    assert(requests > 0 && iops > 0 && p50 > 0);
    assertEquals(errors, 0);
  }
  assertEquals(machineDifferences(report, report), []);
  assertStringIncludes(compare(report, report).join("\n"), "| 1.00 |");
});

Deno.test("bench:blk names the cases there are", async () => {
  const output = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      "--case=warp",
    ],
  }).output();
  assertEquals(output.code, 2);
  assertStringIncludes(
    new TextDecoder().decode(output.stderr),
    "null 4k random read QD128, polling client",
  );
});

Deno.test("median() is the middle", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
});

Deno.test("the load generator checks every 4 KiB, whatever the size of a request", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("disk.img");
  const bytes = 4 << 20;
  stampImage(path, bytes);
  await using _server = await serve({
    device: new URL("../../backends/blk/mod.ts", import.meta.url),
    options: { path },
    socket: directory.file("blk.sock"),
    logLevel: "error",
    signals: false,
  });
  const load = (blockSize: number) =>
    runLoad({
      socket: directory.file("blk.sock"),
      operation: "read",
      pattern: "sequential",
      blockSize,
      depth: 4,
      seconds: 0.1,
      mode: "sleep",
      eventIdx: true,
      indirect: true,
      verify: true,
      everyLatency: false,
    });
  const sizes = [512, 1536, 4096, 6144, 131072];
  for (const size of sizes) assertEquals((await load(size)).errors, 0);
  // Not the first stamp of a large request, and of some small ones.
  using file = Deno.openSync(path, { write: true });
  for (let at = STAMP_UNIT; at < bytes; at += 2 * STAMP_UNIT) {
    file.seekSync(at, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4).fill(0xff));
  }
  for (const size of sizes) assert((await load(size)).errors > 0, `${size}`);
});
