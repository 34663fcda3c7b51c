/**
 * What is done with virtio_balloon(4): releases on machines, step by step.
 *
 * @module
 */

import type { Attachment } from "../freebsd/virtio_pci.ts";
import type { Step } from "../step.ts";
import type { VtballoonMachine } from "./machine.ts";
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

/** A release on a machine, and what becomes of it. */
export interface Scenario {
  /** Release and circumstances. */
  readonly name: string;
  /** The driver. */
  readonly profile: VtballoonProfile;
  /** How its device is attached. */
  readonly attachment: Attachment;
  /** What happens, in order. */
  readonly steps: readonly Step<VtballoonMachine>[];
}

const HOST_10 = "virtio_pci0: host features: 0x7c000037 <EventIdx," +
  "RingIndirect,0x8000000,0x4000000,0x20,0x10,0x4,StatsVq,MustTellHost>";
const NEGOTIATED_10 = "virtio_pci0: negotiated features: 0";
const HOST_13 = "virtio_pci0: host features: 0x7c000037 <RingEventIdx," +
  "RingIndirectDesc,AnyLayout,0x4000000,0x20,0x10,DeflateOnOOM,StatsVq,MustTellHost>";
const NEGOTIATED_13 = "virtio_pci0: negotiated features: 0x1 <MustTellHost>";
const HOST_MODERN = "virtio_pci0: host features: 0x1d34000037 <" +
  "0x1000000000,0x800000000,0x400000000,Version1," +
  "RingEventIdx,RingIndirectDesc,0x4000000,0x20,0x10,DeflateOnOOM,StatsVq,MustTellHost>";
const NEGOTIATED_MODERN = "virtio_pci0: negotiated features: 0x100000001 " +
  "<Version1,MustTellHost>";

const UNTIL_12 = [HOST_10, NEGOTIATED_10];
const LEGACY_13 = [HOST_13, NEGOTIATED_13];
const MODERN_13 = [HOST_MODERN, NEGOTIATED_MODERN];

const LEGACY_INTX: Attachment = { modern: false, interrupts: "intx" };
const LEGACY_MSIX: Attachment = { modern: false, interrupts: "msix" };
const MODERN_INTX: Attachment = { modern: true, interrupts: "intx" };
const MODERN_MSIX: Attachment = { modern: true, interrupts: "msix" };

const MACHINES: readonly (readonly [
  VtballoonProfile,
  Attachment,
  readonly string[],
])[] = [
  [VTBALLOON_10_4, LEGACY_INTX, UNTIL_12],
  [VTBALLOON_12_1, LEGACY_MSIX, UNTIL_12],
  [VTBALLOON_13_2, LEGACY_INTX, LEGACY_13],
  [VTBALLOON_13_2, MODERN_INTX, MODERN_13],
  [VTBALLOON_13_2, MODERN_MSIX, MODERN_13],
  [VTBALLOON_15_1, LEGACY_MSIX, LEGACY_13],
  [VTBALLOON_15_1, MODERN_INTX, MODERN_13],
  [VTBALLOON_15_1, MODERN_MSIX, MODERN_13],
];

/** All of them. */
export const SCENARIOS: readonly Scenario[] = MACHINES.map(
  ([profile, attachment, dmesg]) => ({
    name: [
      profile.release.name,
      attachment.modern ? "modern" : "legacy",
      attachment.interrupts,
    ].join(", "),
    profile,
    attachment,
    steps: [
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
    ],
  }),
);
