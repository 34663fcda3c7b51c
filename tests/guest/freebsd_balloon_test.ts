/**
 * virtio_balloon(4) of FreeBSD through a real QEMU: the driver's model drives
 * QEMU's registers, so the conversation with vhostd is QEMU's own.
 */

import { VtballoonMachine } from "../conformance/freebsd_balloon/machine.ts";
import { qemuHardware } from "../conformance/freebsd_balloon/qemu_machine.ts";
import { SCENARIOS } from "../conformance/freebsd_balloon/scenarios.ts";
import { runSteps } from "../conformance/step.ts";
import { skipUnless } from "../support/skip.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason(["qemu"]);
const guests = skipUnless(reason === null, reason ?? "");

for (const { name, profile, attachment, steps } of SCENARIOS) {
  // QEMU's generic device is modern only; without a processor there is nobody
  // to take the messages of MSI-X.
  if (!attachment.modern || attachment.interrupts !== "intx") continue;
  guests.test(`FreeBSD virtio_balloon(4) through QEMU: ${name}`, async (test) => {
    await using machine = await VtballoonMachine.start(
      profile,
      attachment,
      qemuHardware,
    );
    await runSteps(test, machine, steps);
  });
}
