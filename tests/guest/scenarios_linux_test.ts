/**
 * The scenarios of FreeBSD guests (tests/freebsd), run by Linux: a part in every
 * run, all of them in `deno task test:long`.
 */

import { longOnly, skipUnless } from "../support/skip.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { Bench, type Mode } from "./scenarios/bench.ts";
import { runScenarios, type Scenario } from "./scenarios/context.ts";
import { startLinux } from "./scenarios/linux.ts";
import { SCENARIOS } from "./scenarios/mod.ts";
import { vhostUserNet } from "./network.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");
const long = reason === null ? longOnly() : guests;

async function run(
  test: Deno.TestContext,
  mode: Mode,
  scenarios: readonly Scenario[],
): Promise<void> {
  await using bench = await Bench.start({ mode });
  await using peer = await startLinux({
    devices: vhostUserNet(bench.socket("peer"), {
      mac: "52:54:00:0a:08:02",
      reconnect: 100,
    }),
    memory: 256,
  });
  await using guest = await startLinux({
    devices: bench.devices(false),
    memory: 512,
  });
  await runScenarios(test, { guest, peer, bench }, scenarios);
}

guests.test("scenarios with Linux: a part, modern", (test) =>
  run(test, "modern", SCENARIOS.filter(({ quick }) => quick)));

long.test("scenarios with Linux: all, legacy", (test) =>
  run(test, "legacy", SCENARIOS));

long.test("scenarios with Linux: all, modern", (test) =>
  run(test, "modern", SCENARIOS));
