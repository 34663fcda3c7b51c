/**
 * The commands of the benchmarks, for a moment, as processes of their own: the
 * tests of this folder that the phase `bench` runs. All others are unit tests.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { dpdkOrReason } from "../guest/rig/dpdk.ts";
import { runCommand } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { type BalloonReport, balloonTable } from "./balloon.ts";
import { compare, machineDifferences } from "./compare.ts";
import { type IdleReport, idleTable } from "./idle.ts";
import { type NetReport, netTable } from "./net.ts";
import type { Report } from "./report.ts";

const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Arguments that run a benchmark. */
function bench(name: string): string[] {
  const script = new URL(`./${name}.ts`, import.meta.url).pathname;
  return ["run", "--quiet", "--allow-all", `--config=${CONFIG}`, script];
}

Deno.test("bench:blk measures, verifies and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...bench("blk"),
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
    assert(requests > 0 && iops > 0 && (p50 ?? 0) > 0);
    assertEquals(errors, 0);
  }
  assertEquals(machineDifferences(report, report), []);
  assertStringIncludes(compare(report, report).join("\n"), "| 1.00 |");
});

Deno.test("bench:scsi measures SCSI beside virtio-blk, and verifies", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  await runCommand(Deno.execPath(), {
    args: [
      ...bench("scsi"),
      ...["--rounds=1", "--seconds=0.2", `--json=${path}`],
      ...["--case=cache 4k random read QD32", "--case=cache 128k"],
      "--case=cache 4k random write QD32",
    ],
    timeout: 100_000,
  });
  const report = JSON.parse(Deno.readTextFileSync(path)) as Report;
  assertEquals(report.cases.map(({ name }) => name), [
    "cache 4k random read QD32",
    "cache 4k random write QD32",
    "cache 128k sequential read QD16",
  ]);
  for (const { runs } of report.cases) {
    assertEquals(Object.keys(runs), ["scsi", "blk"]);
    for (const [{ requests, errors }] of Object.values(runs)) {
      assert(requests > 0);
      assertEquals(errors, 0);
    }
  }
});

Deno.test("bench:blk names the cases there are", async () => {
  const output = await new Deno.Command(Deno.execPath(), {
    args: [
      ...bench("blk"),
      "--case=warp",
    ],
  }).output();
  assertEquals(output.code, 2);
  assertStringIncludes(
    new TextDecoder().decode(output.stderr),
    "null 4k random read QD128, polling client",
  );
});

Deno.test("bench:blk measures vhostd with several keys in turns", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  await runCommand(Deno.execPath(), {
    args: [
      ...[...bench("blk"), "--rounds=1", "--seconds=0.1", `--json=${path}`],
      ...["--no-peers", "--no-polling", "--no-tracking", "--no-packed"],
      ...["--keys=poll=off", "--keys=poll=auto,queues=2"],
      "--case=null 4k random read QD1, sleeping",
    ],
    timeout: 60_000,
  });
  const report = JSON.parse(Deno.readTextFileSync(path)) as Report;
  const [{ runs }] = report.cases;
  assertEquals(Object.keys(runs), [
    "vhostd poll=off",
    "vhostd poll=auto,queues=2",
  ]);
  for (const [{ requests }] of Object.values(runs)) assert(requests > 0);
});

Deno.test("bench:spdk says what it lacks", async () => {
  const said = async (...args: string[]) => {
    const { code, stderr } = await runCommand(Deno.execPath(), {
      args: [...bench("spdk"), ...args],
      anyCode: true,
    });
    return `${code}: ${stderr}`;
  };
  assertStringIncludes(await said(), "2: --spdk=DIR is missing");
  const none = await said("--spdk=/nonexistent");
  assertStringIncludes(none, '1: Cannot measure SPDK: there is no "/nonex');
});

Deno.test("bench:idle looks at the processes of a device, and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...[...bench("idle"), "--seconds=0.2", "--after=0", "--case=blk"],
      ...["--case=balloon", `--json=${path}`],
    ],
    timeout: 60_000,
  });
  const report = JSON.parse(Deno.readTextFileSync(path)) as IdleReport;
  assertEquals(report.devices.map(({ name }) => name), ["blk", "balloon"]);
  for (const { processes } of report.devices) {
    const [supervisor, device] = processes;
    assertEquals([supervisor.name, device.name], ["supervisor", "device"]);
    for (const { ticks, milliseconds } of processes) {
      assert(ticks >= 0 && milliseconds < 1000);
    }
  }
  assertEquals(stdout.trim(), idleTable(report));
});

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
      ...bench("net"),
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

Deno.test("bench:balloon measures our own driver and writes its report", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      ...bench("balloon"),
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
