/**
 * virtio_blk(4) of FreeBSD 10.4, 12.1, 13.2 and 15.1 against a served disk,
 * through the model of QEMU. Through QEMU itself: `tests/guest`.
 */

import { assertEquals } from "@std/assert";
import { assertNoLeaks } from "../../support/leaks.ts";
import { runSteps } from "../step.ts";
import { attach } from "./attach_steps.ts";
import { VtblkMachine } from "./machine.ts";
import { VTBLK_15_1 } from "./profiles.ts";
import { SCENARIOS } from "./scenarios.ts";

const MIB = 2 ** 20;

for (const scenario of SCENARIOS) {
  const { name, profile, attachment, disk, expected, steps } = scenario;
  Deno.test(`FreeBSD virtio_blk(4) ${name}`, async (test) => {
    await using machine = await VtblkMachine.start(profile, attachment, disk);
    await runSteps(test, machine, [attach(expected), ...steps]);
  });
}

Deno.test("nothing is left of a machine that rebooted", async () => {
  await assertNoLeaks(async () => {
    await using machine = await VtblkMachine.start(
      VTBLK_15_1,
      { modern: false, interrupts: "msix" },
      { imageBytes: 64 * MIB },
    );
    for (let boot = 0; boot < 2; boot++) {
      assertEquals(await machine.boot(), 0);
      assertEquals(await machine.read(0, 512), new Uint8Array(512));
      await machine.device.machineReset();
      machine.powerOn();
    }
  });
});
