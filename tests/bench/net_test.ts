import { assert, assertEquals } from "@std/assert";
import { dpdkOrReason } from "../guest/rig/dpdk.ts";
import { runCommand } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { type NetReport, netTable } from "./net.ts";
import { measureLoop } from "./net_loop.ts";
import { guestTable } from "./net_guest.ts";

const BENCH = new URL("./net.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

const { root, reason } = await dpdkOrReason();
const machines = skipUnless(
  root !== "" && navigator.hardwareConcurrency > 1,
  reason || "needs two processors",
);

machines.test("bench:net measures both back-ends and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      ...["--rounds=1", "--seconds=0.2", "--size=64", `--json=${path}`],
    ],
    timeout: 60_000,
  });
  const report = JSON.parse(Deno.readTextFileSync(path)) as NetReport;
  assertEquals(report.cases.map(({ size }) => size), [64]);
  const [runs] = report.cases;
  for (const { frames, cpu } of [...runs.switch, ...runs.testpmd]) {
    assert(frames > 0 && cpu >= 0);
  }
  assertEquals(stdout.trim(), netTable(report));
});

Deno.test("all frames of bench:net --loop arrive, of any size", () => {
  for (const size of [14, 64, 1518]) assert(measureLoop(size, 640) > 0);
});

Deno.test("the table of bench:net-guest has medians", () => {
  const name = "vhostd, TAP";
  const table = guestTable({
    machine: {},
    mebibytes: 1,
    runs: [[9, 100], [11, 300], [10, 200]].map(([sent, received]) => ({
      ...{ name, sent, received },
    })),
  });
  assertEquals(table.split("\n").slice(2).map((row) => row.split(/ *\| */)), [
    ["", name, "10", "200", ""],
  ]);
});

Deno.test("the table of bench:net has medians, and the median of ratios", () => {
  const run = (frames: number) => ({ frames, cpu: 0.5 });
  const table = netTable({
    machine: {},
    seconds: 1,
    cases: [{
      size: 125,
      switch: [1e6, 3e6, 2e6].map(run),
      testpmd: [4e6, 4e6, 8e6].map(run),
    }],
  });
  assertEquals(table.split("\n").slice(2), [
    "| 125 | switch | 2000 | 2.00 | 0.50 | 0.25 |",
    "| 125 | testpmd | 4000 | 4.00 | 0.50 |  |",
  ]);
});
