/**
 * What is done with virtio_blk(4): releases on machines, with disks, step by
 * step, and what they are to find.
 *
 * @module
 */

import type { Attachment } from "../freebsd/virtio_pci.ts";
import type { Step } from "../step.ts";
import {
  attachAgain,
  type AttachExpectation,
  crash,
  healthy,
  identified,
  reboot,
  unloadAndLoad,
} from "./attach_steps.ts";
import {
  dump,
  pauseAndContinue,
  resize,
  suspendAndResume,
  writeCacheMode,
} from "./control_steps.ts";
import {
  deleteRange,
  flush,
  fullRing,
  hardError,
  ordered,
  readAndWrite,
  readOnly,
  split,
  taste,
  unalignedBuffers,
  wrap,
} from "./io_steps.ts";
import type { DiskSpec, VtblkMachine } from "./machine.ts";
import {
  VTBLK_10_4,
  VTBLK_12_1,
  VTBLK_13_2,
  VTBLK_15_1,
  type VtblkProfile,
} from "./profiles.ts";

type BlkStep = Step<VtblkMachine>;

const TIB = 2 ** 40, GIB = 2 ** 30, MIB = 2 ** 20;

/** A release on a machine, with a disk, and what becomes of it. */
export interface Scenario {
  /** Release and circumstances. */
  readonly name: string;
  /** The driver. */
  readonly profile: VtblkProfile;
  /** How its device is attached. */
  readonly attachment: Attachment;
  /** What is served. */
  readonly disk: DiskSpec;
  /** The first step: it attaches, and finds what it is to find. */
  readonly expected: AttachExpectation;
  /** What comes after it. */
  readonly steps: readonly BlkStep[];
}

/** `struct disk` of the 5 GiB image, as all releases see it. */
const DISK: AttachExpectation["disk"] = {
  mediaSize: 5 * GIB,
  sectorSize: 512,
  maxSize: 128 * 1024,
  deleteMaxSize: 0,
  firmwareHeads: 16,
  firmwareSectors: 63,
  stripeSize: 4096,
  stripeOffset: 0,
};
/** Since 13: larger transfers (125 pages), and discards of 2 GiB. */
const DISK_13 = { ...DISK, maxSize: 125 * 4096, deleteMaxSize: 2 * GIB };

const HOST_10 = "virtio_pci0: host features: 0x78006e54 <EventIdx," +
  "RingIndirect,0x8000000,0x4000,0x2000,ConfigWCE,Topology,WriteCache," +
  "BlockSize,DiskGeometry,MaxNumSegs>";
const NEGOTIATED_10 = "virtio_pci0: negotiated features: 0x10000e54 " +
  "<RingIndirect,ConfigWCE,Topology,WriteCache,BlockSize,DiskGeometry," +
  "MaxNumSegs>";
const HOST_13 = "virtio_pci0: host features: 0x78006e54 <RingEventIdx," +
  "RingIndirectDesc,AnyLayout,WriteZeros,Discard,ConfigWCE,Topology," +
  "FlushCmd,BlockSize,DiskGeometry,MaxNumSegs>";
const NEGOTIATED_13 = "virtio_pci0: negotiated features: 0x10002e54 " +
  "<RingIndirectDesc,Discard,ConfigWCE,Topology,FlushCmd,BlockSize," +
  "DiskGeometry,MaxNumSegs>";
const HOST_MODERN = "virtio_pci0: host features: 0x130006e54 <Version1," +
  "RingEventIdx,RingIndirectDesc,WriteZeros,Discard,ConfigWCE,Topology," +
  "FlushCmd,BlockSize,DiskGeometry,MaxNumSegs>";
const NEGOTIATED_MODERN = "virtio_pci0: negotiated features: 0x110002e54 " +
  "<Version1,RingIndirectDesc,Discard,ConfigWCE,Topology,FlushCmd," +
  "BlockSize,DiskGeometry,MaxNumSegs>";
const SIZE = "vtblk0: 5120MB (10485760 512 byte sectors)";

const UNTIL_12: AttachExpectation = {
  dmesg: [HOST_10, NEGOTIATED_10, SIZE],
  disk: DISK,
};
const LEGACY_13: AttachExpectation = {
  dmesg: [HOST_13, NEGOTIATED_13, SIZE],
  disk: DISK_13,
};
const MODERN_13: AttachExpectation = {
  dmesg: [HOST_MODERN, NEGOTIATED_MODERN, SIZE],
  disk: DISK_13,
};

const LEGACY_INTX: Attachment = { modern: false, interrupts: "intx" };
const LEGACY_MSIX: Attachment = { modern: false, interrupts: "msix" };
const MODERN_INTX: Attachment = { modern: true, interrupts: "intx" };
const MODERN_MSIX: Attachment = { modern: true, interrupts: "msix" };

/** The life of a disk, between the first attachment and the last check. */
const LIFE: readonly BlkStep[] = [
  identified,
  taste,
  readAndWrite,
  unalignedBuffers,
  split,
  fullRing,
  flush,
  ordered,
  deleteRange,
  writeCacheMode,
  suspendAndResume,
  pauseAndContinue,
  hardError,
  dump,
  resize,
  unloadAndLoad,
  healthy,
  reboot,
  attachAgain,
  readAndWrite,
  crash,
  attachAgain,
  fullRing,
  healthy,
];

/** All scenarios. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: "10.4, legacy, INTx",
    profile: VTBLK_10_4,
    attachment: LEGACY_INTX,
    disk: {},
    expected: UNTIL_12,
    steps: LIFE,
  },
  {
    name: "12.1, legacy, MSI-X",
    profile: VTBLK_12_1,
    attachment: LEGACY_MSIX,
    disk: {},
    expected: UNTIL_12,
    steps: LIFE,
  },
  {
    name: "13.2, legacy (a transitional device), MSI-X",
    profile: VTBLK_13_2,
    attachment: LEGACY_MSIX,
    disk: {},
    expected: LEGACY_13,
    steps: LIFE,
  },
  {
    name: "13.2, modern, INTx",
    profile: VTBLK_13_2,
    attachment: MODERN_INTX,
    disk: {},
    expected: MODERN_13,
    steps: LIFE,
  },
  {
    name: "15.1, legacy (a transitional device), INTx",
    profile: VTBLK_15_1,
    attachment: LEGACY_INTX,
    disk: {},
    expected: LEGACY_13,
    steps: LIFE,
  },
  {
    name: "15.1, modern, MSI-X",
    profile: VTBLK_15_1,
    attachment: MODERN_MSIX,
    disk: {},
    expected: MODERN_13,
    steps: [...LIFE, wrap, healthy],
  },
  {
    name: "12.1, without indirect descriptors",
    profile: VTBLK_12_1,
    attachment: LEGACY_MSIX,
    disk: { indirect: false },
    expected: {
      dmesg: [
        HOST_10.replace("0x78", "0x68").replace("RingIndirect,", ""),
        NEGOTIATED_10.replace("0x10000e54", "0xe54")
          .replace("RingIndirect,", ""),
        SIZE,
      ],
      disk: DISK,
    },
    steps: [
      identified,
      readAndWrite,
      unalignedBuffers,
      fullRing,
      ordered,
      healthy,
    ],
  },
  {
    name: "15.1, modern, without indirect descriptors",
    profile: VTBLK_15_1,
    attachment: MODERN_MSIX,
    disk: { indirect: false },
    expected: {
      dmesg: [
        HOST_MODERN.replace("0x13", "0x12").replace("RingIndirectDesc,", ""),
        NEGOTIATED_MODERN.replace("0x11", "0x10")
          .replace("RingIndirectDesc,", ""),
        SIZE,
      ],
      disk: DISK_13,
    },
    steps: [
      identified,
      readAndWrite,
      unalignedBuffers,
      fullRing,
      ordered,
      healthy,
    ],
  },
  {
    name: "10.4, read-only",
    profile: VTBLK_10_4,
    attachment: LEGACY_INTX,
    disk: { options: { readonly: true } },
    expected: {
      dmesg: [
        HOST_10.replace("0x78006e54", "0x78000e74").replace(
          "0x4000,0x2000,",
          "",
        )
          .replace("DiskGeometry", "ReadOnly,DiskGeometry"),
        NEGOTIATED_10.replace("0x10000e54", "0x10000e74")
          .replace("DiskGeometry", "ReadOnly,DiskGeometry"),
        SIZE,
      ],
      disk: DISK,
    },
    steps: [identified, taste, readOnly, healthy],
  },
  {
    name: "15.1, modern, read-only",
    profile: VTBLK_15_1,
    attachment: MODERN_MSIX,
    disk: { options: { readonly: true } },
    expected: {
      dmesg: [
        HOST_MODERN.replace("0x130006e54", "0x130000e74")
          .replace("WriteZeros,Discard,", "")
          .replace("DiskGeometry", "ReadOnly,DiskGeometry"),
        NEGOTIATED_MODERN.replace("0x110002e54", "0x110000e74")
          .replace("Discard,", "")
          .replace("DiskGeometry", "ReadOnly,DiskGeometry"),
        SIZE,
      ],
      disk: { ...DISK_13, deleteMaxSize: 0 },
    },
    steps: [identified, taste, readOnly, healthy],
  },
  {
    name: "13.2, modern, blocks of 4096 bytes",
    profile: VTBLK_13_2,
    attachment: MODERN_MSIX,
    disk: { options: { blockSize: 4096 } },
    expected: {
      dmesg: [
        HOST_MODERN,
        NEGOTIATED_MODERN,
        "vtblk0: 5120MB (1310720 4096 byte sectors)",
      ],
      disk: {
        ...DISK_13,
        sectorSize: 4096,
        firmwareSectors: 56,
        stripeSize: 0,
      },
    },
    steps: [
      identified,
      taste,
      readAndWrite,
      unalignedBuffers,
      split,
      deleteRange,
      dump,
      resize,
      healthy,
    ],
  },
  {
    name: "15.1, modern, one data segment for each request",
    profile: VTBLK_15_1,
    attachment: MODERN_MSIX,
    disk: { options: { segMax: 1 }, imageBytes: 512 * MIB },
    expected: {
      dmesg: [
        HOST_MODERN,
        NEGOTIATED_MODERN,
        "vtblk0: 512MB (1048576 512 byte sectors)",
      ],
      disk: { ...DISK_13, mediaSize: 512 * MIB, maxSize: 4096 },
    },
    steps: [identified, taste, fullRing, flush, healthy],
  },
  {
    name: "10.4, 3 TiB: sector numbers of more than 32 bits",
    profile: VTBLK_10_4,
    attachment: LEGACY_MSIX,
    disk: { imageBytes: 3 * TIB },
    expected: {
      dmesg: [
        HOST_10,
        NEGOTIATED_10,
        "vtblk0: 3145728MB (6442450944 512 byte sectors)",
      ],
      disk: { ...DISK, mediaSize: 3 * TIB },
    },
    steps: [identified, taste, hardError, dump, resize, healthy],
  },
  {
    name: "15.1, modern, 3 TiB: a delete of 1536 parts",
    profile: VTBLK_15_1,
    attachment: MODERN_MSIX,
    disk: { imageBytes: 3 * TIB },
    expected: {
      dmesg: [
        HOST_MODERN,
        NEGOTIATED_MODERN,
        "vtblk0: 3145728MB (6442450944 512 byte sectors)",
      ],
      disk: { ...DISK_13, mediaSize: 3 * TIB },
    },
    steps: [identified, taste, deleteRange, dump, resize, healthy],
  },
];
