/**
 * virtio_scsi(4) of FreeBSD 10.4, 12.1, 13.2 and 15.1 against served disks,
 * through the model of QEMU.
 */

import {
  FREEBSD_10_4,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_15_1,
  type FreeBsdRelease,
} from "../freebsd/releases.ts";
import type { Attachment } from "../freebsd/virtio_pci.ts";
import { runSteps } from "../step.ts";
import { VtscsiMachine } from "./machine.ts";
import {
  abortTask,
  absentLun,
  attach,
  disk,
  fullRing,
  healthy,
  hotplug,
  probe,
  readAndWrite,
  resetDevice,
  scan,
  unloadAndBoot,
} from "./steps.ts";

const SCENARIOS: readonly (readonly [FreeBsdRelease, Attachment])[] = [
  [FREEBSD_10_4, { modern: false, interrupts: "intx" }],
  [FREEBSD_12_1, { modern: false, interrupts: "msix" }],
  [FREEBSD_13_2, { modern: true, interrupts: "intx" }],
  [FREEBSD_15_1, { modern: false, interrupts: "msix" }],
  [FREEBSD_15_1, { modern: true, interrupts: "msix" }],
];

for (const [release, attachment] of SCENARIOS) {
  const kind = attachment.modern ? "modern" : "legacy";
  const name = `${release.name}, ${kind}, ${attachment.interrupts}`;
  Deno.test(`FreeBSD virtio_scsi(4) ${name}`, async (test) => {
    await using machine = await VtscsiMachine.start(release, attachment);
    await runSteps(test, machine, [
      attach,
      scan,
      probe,
      absentLun,
      disk,
      readAndWrite,
      fullRing,
      abortTask,
      resetDevice,
      hotplug,
      unloadAndBoot,
      healthy,
    ]);
  });
}
