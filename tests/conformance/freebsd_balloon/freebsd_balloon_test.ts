/**
 * virtio_balloon(4) of FreeBSD 10.4, 12.1, 13.2 and 15.1 against a served
 * balloon, through the model of QEMU. Through QEMU itself: `tests/guest`.
 */

import { assertNoLeaks } from "../../support/leaks.ts";
import { runSteps } from "../step.ts";
import { VtballoonMachine } from "./machine.ts";
import { VTBALLOON_15_1 } from "./profiles.ts";
import { SCENARIOS } from "./scenarios.ts";

for (const { name, profile, attachment, steps } of SCENARIOS) {
  Deno.test(`FreeBSD virtio_balloon(4) ${name}`, async (test) => {
    await using machine = await VtballoonMachine.start(profile, attachment);
    await runSteps(test, machine, steps);
  });
}

Deno.test("nothing is left of a balloon whose machine rebooted", async () => {
  await assertNoLeaks(async () => {
    await using machine = await VtballoonMachine.start(
      VTBALLOON_15_1,
      { modern: true, interrupts: "msix" },
    );
    await machine.boot();
    await machine.setBalloon(20 * 2 ** 20);
    await machine.bus.sleepConfigChange();
    await machine.device.machineReset();
  });
});
