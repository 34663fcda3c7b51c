/**
 * virtio_balloon(4) of FreeBSD 10.4, 12.1, 13.2 and 15.1 against a served
 * balloon, through the model of QEMU.
 */

import { assertNoLeaks } from "../../support/leaks.ts";
import type { Attachment } from "../freebsd/virtio_pci.ts";
import { runSteps } from "../step.ts";
import { VtballoonMachine } from "./machine.ts";
import {
  VTBALLOON_10_4,
  VTBALLOON_12_1,
  VTBALLOON_13_2,
  VTBALLOON_15_1,
  type VtballoonProfile,
} from "./profiles.ts";
import {
  attach,
  crash,
  deflate,
  healthy,
  inflate,
  interrupts,
  lowMemory,
  odd,
  pauseAndContinue,
  reboot,
  unloadAndLoad,
} from "./steps.ts";

const HOST_10 = "virtio_pci0: host features: 0x78000037 <EventIdx," +
  "RingIndirect,0x8000000,0x20,0x10,0x4,StatsVq,MustTellHost>";
const NEGOTIATED_10 = "virtio_pci0: negotiated features: 0";
const HOST_13 = "virtio_pci0: host features: 0x78000037 <RingEventIdx," +
  "RingIndirectDesc,AnyLayout,0x20,0x10,DeflateOnOOM,StatsVq,MustTellHost>";
const NEGOTIATED_13 = "virtio_pci0: negotiated features: 0x1 <MustTellHost>";
const HOST_MODERN = "virtio_pci0: host features: 0x130000037 <Version1," +
  "RingEventIdx,RingIndirectDesc,0x20,0x10,DeflateOnOOM,StatsVq,MustTellHost>";
const NEGOTIATED_MODERN = "virtio_pci0: negotiated features: 0x100000001 " +
  "<Version1,MustTellHost>";

const UNTIL_12 = [HOST_10, NEGOTIATED_10];
const LEGACY_13 = [HOST_13, NEGOTIATED_13];
const MODERN_13 = [HOST_MODERN, NEGOTIATED_MODERN];

const LEGACY_INTX: Attachment = { modern: false, interrupts: "intx" };
const LEGACY_MSIX: Attachment = { modern: false, interrupts: "msix" };
const MODERN_INTX: Attachment = { modern: true, interrupts: "intx" };
const MODERN_MSIX: Attachment = { modern: true, interrupts: "msix" };

const SCENARIOS: readonly (readonly [
  VtballoonProfile,
  Attachment,
  readonly string[],
])[] = [
  [VTBALLOON_10_4, LEGACY_INTX, UNTIL_12],
  [VTBALLOON_12_1, LEGACY_MSIX, UNTIL_12],
  [VTBALLOON_13_2, LEGACY_INTX, LEGACY_13],
  [VTBALLOON_13_2, MODERN_MSIX, MODERN_13],
  [VTBALLOON_15_1, LEGACY_MSIX, LEGACY_13],
  [VTBALLOON_15_1, MODERN_INTX, MODERN_13],
  [VTBALLOON_15_1, MODERN_MSIX, MODERN_13],
];

for (const [profile, attachment, dmesg] of SCENARIOS) {
  const { release } = profile, { modern, interrupts: kind } = attachment;
  const interface_ = modern ? "modern" : "legacy";
  Deno.test(`FreeBSD virtio_balloon(4) ${release.name}, ${interface_}, ${kind}`, async (test) => {
    await using machine = await VtballoonMachine.start(profile, attachment);
    await runSteps(test, machine, [
      attach(dmesg),
      inflate,
      interrupts,
      deflate,
      odd,
      lowMemory,
      unloadAndLoad,
      reboot,
      crash,
      pauseAndContinue,
      healthy,
    ]);
  });
}

Deno.test("nothing is left of a balloon whose machine rebooted", async () => {
  await assertNoLeaks(async () => {
    await using machine = await VtballoonMachine.start(
      VTBALLOON_15_1,
      MODERN_MSIX,
    );
    await machine.boot();
    await machine.setTarget("-20M");
    await machine.bus.sleepConfigChange();
    await machine.device.machineReset();
  });
});
