/**
 * The scenarios of FreeBSD guests (tests/freebsd), run by Linux: a part in every
 * run, all of them in `deno task test:long`.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { longOnly, skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { copyImage } from "./rig/freebsd_source.ts";
import { linuxRoot } from "./rig/linux_root.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { Bench, type Mode } from "./scenarios/bench.ts";
import { runScenarios, type Scenario } from "./scenarios/context.ts";
import { startLinux } from "./scenarios/linux.ts";
import { SCENARIOS } from "./scenarios/mod.ts";
import { RecordedSteps } from "./scenarios/recorded_steps.ts";
import { vhostUserNet } from "./network.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");
const long = reason === null ? longOnly() : guests;

async function run(
  test: Deno.TestContext,
  mode: Mode,
  on: "blk" | "scsi",
  scenarios: readonly Scenario[],
): Promise<void> {
  using copies = TemporaryDirectory.make("root");
  const path = copies.file("root.img");
  await copyImage(await linuxRoot(), path);
  await using bench = await Bench.start({ mode, root: { path, on } });
  await using peer = await startLinux({
    devices: vhostUserNet(bench.socket("peer"), {
      mac: "52:54:00:0a:08:02",
      reconnect: 100,
    }),
    memory: 256,
  });
  const start = () =>
    startLinux({ devices: bench.devices(false), memory: 512, root: true });
  await runScenarios(test, { start, peer, bench }, scenarios);
}

guests.test("scenarios with Linux: a part, root on blk, modern", (test) =>
  run(test, "modern", "blk", SCENARIOS.filter(({ quick }) => quick)));

long.test("scenarios with Linux: a kernel that panics, a command that hangs", async () => {
  await using bench = await Bench.start({ mode: "modern" });
  const steps = new RecordedSteps();
  const start = () =>
    startLinux({ devices: bench.devices(false), memory: 256 });
  await using peer = await startLinux({ devices: [], memory: 256 });
  const scenario = (name: string, command: string): Scenario => ({
    name,
    subjects: ["ping"],
    run: async ({ guest }) => void await guest.check(command, 10_000),
  });
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  await runScenarios(steps.context, { start, peer, bench, say }, [
    scenario("panics", "echo c > /proc/sysrq-trigger"),
    scenario("goes on", "cat /sys/block/vda/serial"),
    scenario("hangs", "cat"),
    scenario("goes on", "cat /sys/block/vda/serial"),
  ]);
  assertEquals(
    steps.outcomes.map(({ name, how }) => `${name}: ${how}`),
    ["panics: failed", "goes on: ok", "hangs: failed", "goes on: ok"],
  );
  const [panic, , hang] = steps.outcomes.map(({ error }) => error ?? "");
  assertMatch(panic, /the kernel panicked: .*sysrq/i);
  assertMatch(hang, /waited 10000 ms for/);
  assertEquals(said.length, 3, said.join("\n")); // two failures, a start
});

for (const on of ["blk", "scsi"] as const) {
  for (const mode of ["legacy", "modern"] as const) {
    long.test(`scenarios with Linux: all, root on ${on}, ${mode}`, (test) =>
      run(test, mode, on, SCENARIOS));
  }
}
