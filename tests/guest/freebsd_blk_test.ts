/**
 * virtio_blk(4) of FreeBSD through a real QEMU: the driver's model drives QEMU's
 * registers, so the conversation with vhostd is QEMU's own.
 */

import { attach } from "../conformance/freebsd_blk/attach_steps.ts";
import { VtblkMachine } from "../conformance/freebsd_blk/machine.ts";
import { qemuHardware } from "../conformance/freebsd_blk/qemu_machine.ts";
import { SCENARIOS } from "../conformance/freebsd_blk/scenarios.ts";
import { runSteps } from "../conformance/step.ts";
import { skipUnless } from "../support/skip.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason(["qemu"]);
const guests = skipUnless(reason === null, reason ?? "");

for (const scenario of SCENARIOS) {
  const { name, profile, attachment, disk, expected, steps } = scenario;
  // Without a processor there is nobody to take the messages of MSI-X.
  if (attachment.interrupts !== "intx") continue;
  guests.test(`FreeBSD virtio_blk(4) through QEMU: ${name}`, async (test) => {
    await using machine = await VtblkMachine.start(
      profile,
      attachment,
      disk,
      qemuHardware,
    );
    await runSteps(test, machine, [attach(expected), ...steps]);
  });
}
