/**
 * The texts are made as the named functions print them, for a transitional disk
 * of QEMU and what it offers.
 */

import { assertEquals } from "@std/assert";
import {
  complaints,
  countVirtio,
  parseDevlist,
  parseDiskinfo,
  parseDisks,
  parseFeatures,
  parseSysctl,
  virtioDrivers,
} from "./freebsd_output.ts";

const SYSCTL = `dev.vtblk.0.writecache_mode: 1
dev.vtblk.0.%iommu: 
dev.vtblk.0.%parent: virtio_pci0
dev.vtblk.0.%pnpinfo: vendor=0x00001af4 device=0x1001 subvendor=0x1af4 device_type=0x00000002
dev.vtblk.0.%location: 
dev.vtblk.0.%driver: vtblk
dev.vtblk.0.%desc: VirtIO Block Adapter
dev.vtblk.%parent: 
dev.vtballoon.0.current: 0
dev.vtballoon.0.%parent: virtio_pci3
dev.virtio_pci.3.negotiated_features: 0x100000001 <Version1,MustTellHost>
dev.virtio_pci.3.host_features: 0x13000003f <Version1,RingEventIdx,RingIndirectDesc,0x20,0x10,0x8,DeflateOnOOM,StatsVq,MustTellHost>
dev.virtio_pci.3.nvqs: 2
dev.virtio_pci.3.%parent: pci4
dev.virtio_pci.3.%desc: VirtIO PCI (modern) Balloon adapter
dev.virtio_pci.0.negotiated_features: 0x10002e54 <RingIndirectDesc,Discard,ConfigWCE,Topology,FlushCmd,BlockSize,DiskGeometry,MaxNumSegs>
dev.virtio_pci.0.host_features: 0x79007e54 <RingEventIdx,RingIndirectDesc,AnyLayout,NotifyOnEmpty,WriteZeros,Discard,Multiqueue,ConfigWCE,Topology,FlushCmd,BlockSize,DiskGeometry,MaxNumSegs>
dev.virtio_pci.0.nvqs: 1
dev.virtio_pci.0.%parent: pci0
dev.virtio_pci.0.%desc: VirtIO PCI (legacy) Block adapter
dev.virtio_pci.%parent: `;

Deno.test("freebsd: drivers and features of sysctl(8)", () => {
  assertEquals(virtioDrivers(parseSysctl(SYSCTL), ""), [
    {
      name: "vtblk0",
      parent: "virtio_pci0",
      description: "VirtIO PCI (legacy) Block adapter",
      offered: 0x79007e54n,
      negotiated: 0x10002e54n,
    },
    {
      name: "vtballoon0",
      parent: "virtio_pci3",
      description: "VirtIO PCI (modern) Balloon adapter",
      offered: 0x13000003fn,
      negotiated: 0x100000001n,
    },
  ]);
});

Deno.test("freebsd: features of a verbose boot, the last one's", () => {
  const tree = parseSysctl(
    "dev.vtnet.0.%parent: virtio_pci1\n" +
      "dev.virtio_pci.1.%desc: VirtIO PCI Network adapter\n",
  );
  const messages = `
virtio_pci1: host features: 0x7 <0x4,RxChecksum,TxChecksum>
virtio_pci1: negotiated features: 0x1 <TxChecksum>
virtio_pci11: negotiated features: 0x4 <0x4>
virtio_pci1: negotiated features: 0x3 <RxChecksum,TxChecksum>
`;
  const [{ offered, negotiated }] = virtioDrivers(tree, messages);
  assertEquals([offered, negotiated], [7n, 3n]);
  assertEquals(virtioDrivers(tree, "")[0].negotiated, null);
});

Deno.test("freebsd: features are a number, words or none", () => {
  assertEquals(parseFeatures("0x10002e54 <Discard>"), 0x10002e54n);
  assertEquals(parseFeatures("0"), 0n);
  assertEquals(parseFeatures("none"), null);
  assertEquals(parseFeatures(undefined), null);
});

Deno.test("freebsd: complaints of the present boot", () => {
  const messages = `vtblk0: cannot setup features
Copyright (c) 1992-2025 The FreeBSD Project.
vtnet0: <VirtIO Networking Adapter> on virtio_pci1
vtnet0: Ethernet address: 52:54:00:0a:08:01
vtbd0: hard error cmd=write 128-255
(da0:vtscsi0:0:1:0): CAM status: SCSI Status Error
virtio_pci2: desired features were not accepted
g_vfs_done():vtbd1[WRITE(offset=65536, length=32768)]error = 5
ahcich0: Timeout on slot 0 port 0
vtscsi0: <VirtIO SCSI Adapter> on virtio_pci2
`;
  assertEquals(complaints(messages), [
    "vtbd0: hard error cmd=write 128-255",
    "(da0:vtscsi0:0:1:0): CAM status: SCSI Status Error",
    "virtio_pci2: desired features were not accepted",
    "g_vfs_done():vtbd1[WRITE(offset=65536, length=32768)]error = 5",
  ]);
});

Deno.test("freebsd: disks of kern.geom.conftxt", () => {
  const text = `0 DISK da0 268435456 512 hd 255 sc 63
0 DISK vtbd1 335544320 512 hd 16 sc 63
0 DISK vtbd0 6477643776 512 hd 16 sc 63
1 PART vtbd0p4 5367660544 512 i 4 o 1109983232 ty freebsd-ufs xs GPT xt 516e7cb6
2 LABEL gpt/rootfs 5367660544 512 i 0 o 0
`;
  assertEquals([...parseDisks(text)], [
    ["da0", 268435456],
    ["vtbd1", 335544320],
    ["vtbd0", 6477643776],
  ]);
});

Deno.test("freebsd: camcontrol devlist", () => {
  const text =
    `<VHOSTD ROOT 1.0>                  at scbus0 target 0 lun 0 (pass0,da0)
<VHOSTD SCENARIO 1.0>              at scbus0 target 1 lun 0 (da1,pass1)
`;
  assertEquals(parseDevlist(text), [
    { identity: "VHOSTD ROOT 1.0", peripherals: ["pass0", "da0"] },
    { identity: "VHOSTD SCENARIO 1.0", peripherals: ["da1", "pass1"] },
  ]);
});

Deno.test("freebsd: diskinfo -v", () => {
  const text = `/dev/vtbd1
\t512         \t# sectorsize
\t268435456   \t# mediasize in bytes (256M)
\t524288      \t# mediasize in sectors
\t4096        \t# stripesize
\t0           \t# stripeoffset
\t520         \t# Cylinders according to firmware.
\t16          \t# Heads according to firmware.
\t63          \t# Sectors according to firmware.
\t            \t# Disk descr.
\tscenario-blk\t# Disk ident.
\tvtblk1      \t# Attachment
\tYes         \t# TRIM/UNMAP support
\tUnknown     \t# Rotation rate in RPM

`;
  const facts = parseDiskinfo(text);
  assertEquals(
    ["sectorsize", "mediasize in bytes", "Disk ident", "TRIM/UNMAP support"]
      .map((name) => facts.get(name)),
    ["512", "268435456", "scenario-blk", "Yes"],
  );
  assertEquals(facts.get("Disk descr"), "");
});

Deno.test("freebsd: diskinfo -v until 11 has neither TRIM nor a description", () => {
  const text = `/dev/da1
\t512         \t# sectorsize
\t268435456   \t# mediasize in bytes (256M)
\t524288      \t# mediasize in sectors
\t0           \t# stripesize
\t0           \t# stripeoffset
\tscenario-scsi\t# Disk ident.

`;
  const facts = parseDiskinfo(text);
  assertEquals(facts.get("mediasize in bytes"), "268435456");
  assertEquals(facts.get("Disk ident"), "scenario-scsi");
  assertEquals(facts.has("TRIM/UNMAP support"), false);
});

Deno.test("freebsd: pciconf of now and until 13", () => {
  const now =
    `virtio_pci0@pci0:0:2:0:\tclass=0x010000 rev=0x00 hdr=0x00 vendor=0x1af4 device=0x1001 subvendor=0x1af4 subdevice=0x0002
    vendor     = 'Red Hat, Inc.'
    device     = 'Virtio 1.0 block device'
    class      = mass storage
isab0@pci0:0:31:0:\tclass=0x060100 rev=0x02 hdr=0x00 vendor=0x8086 device=0x2918 subvendor=0x1af4 subdevice=0x1100
virtio_pci1@pci0:0:3:0:\tclass=0x010000 rev=0x00 hdr=0x00 vendor=0x1af4 device=0x1004 subvendor=0x1af4 subdevice=0x0008
`;
  assertEquals(countVirtio(now), 2);
  const before =
    `virtio_pci0@pci0:0:2:0:\tclass=0x010000 card=0x00021af4 chip=0x10011af4 rev=0x00 hdr=0x00
isab0@pci0:0:31:0:\tclass=0x060100 card=0x11001af4 chip=0x29188086 rev=0x02 hdr=0x00
`;
  assertEquals(countVirtio(before), 1);
});
