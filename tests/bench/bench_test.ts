import {
  assert,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { serve } from "../../host/serve.ts";
import { LOOP_CASES, measureBlkLoop } from "./blk_loop.ts";
import { benchArguments, type Load, parseBench } from "./clients.ts";
import { compare, machineDifferences } from "./compare.ts";
import { runLoad } from "./load.ts";
import { median, type Report, table } from "./report.ts";
import { STAMP_UNIT, stampImage } from "./stamps.ts";

Deno.test("all requests of bench:blk --loop are done", () => {
  for (const one of LOOP_CASES) assert(measureBlkLoop(one, 640) > 0);
});

Deno.test("figures that a client cannot tell are left out", () => {
  const run = {
    ...{ requests: 10, total: 12, seconds: 1, megabytes: 1, errors: 0 },
    ...{ cpu: 2, rss: 1e6 },
  };
  const report: Report = {
    machine: {},
    client: "blkio",
    ...{ date: "", seconds: 1, rounds: 1 },
    cases: [{
      name: "case",
      runs: { ours: [{ ...run, iops: 30 }], peer: [{ ...run, iops: 20 }] },
    }],
  };
  const [, , ours, peer] = table(report).split("\n").map((line) =>
    line.split("|").map((cell) => cell.trim()).slice(1, -1)
  );
  const without = ["", "", ""];
  assertEquals(ours, [
    ...["case", "ours", "30", "1", ...without, "2.00", "1", ""],
  ]);
  assertEquals(peer, [
    ...["case", "peer", "20", "1", ...without, "2.00", "1", "1.50"],
  ]);
  assertStringIncludes(
    compare(report, report).join("\n"),
    "| case | ours | 30 | 30 | 1.00 | 2.00 | 2.00 |",
  );
  const own: Report = { ...report, client: undefined };
  assertEquals(machineDifferences(own, report), [
    "client: own before, blkio after",
  ]);
});

Deno.test("qemu-img strides over each block before it repeats one", () => {
  const blocks = 256, blockSize = 4096;
  const load: Load = {
    ...{ operation: "write", pattern: "scattered", blockSize, depth: 32 },
    ...{ mode: "sleep", verify: false },
  };
  const disk = { socket: "/run/blk,1.sock", size: blocks * blockSize };
  const args = benchArguments(disk, load, 1000);
  const stride = Number(args[args.indexOf("-S") + 1]);
  const seen = new Set<number>();
  for (let i = 0; i < blocks; i++) seen.add(i * stride % disk.size);
  assertEquals(seen.size, blocks);
  assert(args.includes("-w"));
  assertStringIncludes(args.at(-1)!, "path=/run/blk,,1.sock");
  const sequential = benchArguments(
    disk,
    { ...load, operation: "read", pattern: "sequential" },
    1000,
  );
  assertEquals(sequential[sequential.indexOf("-S") + 1], "4096");
  assert(!sequential.includes("-w"));
});

Deno.test("the time that qemu-img prints", () => {
  assertEquals(parseBench("Sending…\nRun completed in 1.500 seconds.\n"), 1.5);
  assertEquals(parseBench("Run completed in 0.000 seconds.\n"), 0.0005);
  assertThrows(() => parseBench("Failed request: Input/output error\n"));
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
  const load = (blockSize: number, packed = false) =>
    runLoad({
      packed,
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
  for (const size of sizes) {
    assertEquals((await load(size)).errors, 0);
    assertEquals((await load(size, true)).errors, 0);
  }
  // Not the first stamp of a large request, and of some small ones.
  using file = Deno.openSync(path, { write: true });
  for (let at = STAMP_UNIT; at < bytes; at += 2 * STAMP_UNIT) {
    file.seekSync(at, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4).fill(0xff));
  }
  for (const size of sizes) assert((await load(size)).errors > 0, `${size}`);
});
