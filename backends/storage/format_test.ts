import { assert, assertEquals } from "@std/assert";
import { recognizeFormat } from "./format.ts";

function head(mark: string, offset = 0): Uint8Array {
  const bytes = new Uint8Array(512);
  for (let i = 0; i < mark.length; i++) bytes[offset + i] = mark.charCodeAt(i);
  return bytes;
}

const NONE = new Uint8Array(512);

Deno.test("recognizeFormat() knows the marks of other formats", () => {
  const cases: [string, number, string, string | null][] = [
    ["QFI\xfb", 0, "qcow2", "qcow2"],
    ["QED\0", 0, "QED", "qed"],
    ["KDMV", 0, "VMDK", "vmdk"],
    ["COWD", 0, "VMDK", "vmdk"],
    ["# Disk DescriptorFile\nversion=1", 0, "VMDK descriptor", "vmdk"],
    ["vhdxfile", 0, "VHDX", "vhdx"],
    ["conectix", 0, "VHD", "vpc"],
    ["\x7f\x10\xda\xbe", 64, "VDI", "vdi"],
    ["WithoutFreeSpace", 0, "Parallels", "parallels"],
    ["\xfd7zXZ\0", 0, "xz-compressed", null],
    ["\x1f\x8b\x08", 0, "gzip-compressed", null],
    ["\x28\xb5\x2f\xfd", 0, "zstd-compressed", null],
  ];
  for (const [mark, offset, name, qemuName] of cases) {
    const format = recognizeFormat("disk.img", head(mark, offset), NONE);
    assertEquals(format?.name, name);
    assertEquals(format?.qemuName, qemuName);
  }
});

Deno.test("recognizeFormat() finds the footer of a fixed VHD", () => {
  assertEquals(recognizeFormat("d", NONE, head("conectix"))?.name, "VHD");
  assertEquals(recognizeFormat("d", NONE, head("conectix", 1))?.name, "VHD");
  assertEquals(recognizeFormat("d", NONE, head("conectix", 2)), null);
});

Deno.test("recognizeFormat() takes disks for what they are", () => {
  const boot = head("\x55\xaa", 510);
  assertEquals(recognizeFormat("d", boot, NONE), null);
  assertEquals(recognizeFormat("d", NONE, NONE), null);
  // An encrypted disk is opened by the guest.
  assertEquals(recognizeFormat("d", head("LUKS\xba\xbe"), NONE), null);
  // A mark elsewhere is data.
  assertEquals(recognizeFormat("d", head("QFI\xfb", 1), NONE), null);
});

Deno.test("recognizeFormat() stays within short files", () => {
  for (let length = 0; length < 70; length++) {
    const short = new Uint8Array(length);
    assertEquals(recognizeFormat("d", short, short), null);
  }
  const exact = new TextEncoder().encode("KDMV");
  assertEquals(recognizeFormat("d", exact, exact)?.name, "VMDK");
  assertEquals(
    recognizeFormat("d", exact.subarray(0, 3), exact.subarray(0, 3)),
    null,
  );
});

Deno.test("recognizeFormat() names the conversion", () => {
  assertEquals(
    recognizeFormat("a/vm.qcow2", head("QFI\xfb"), NONE)?.conversion,
    'qemu-img convert -f qcow2 -O raw "a/vm.qcow2" "a/vm.raw"',
  );
  const xz = recognizeFormat("b.raw.xz", head("\xfd7zXZ\0"), NONE);
  assertEquals(xz?.conversion, 'xz -dc "b.raw.xz" > "b.raw"');
  assert(xz?.qemuName === null);
  // Never onto itself.
  assertEquals(
    recognizeFormat("c.raw", head("KDMV"), NONE)?.conversion,
    'qemu-img convert -f vmdk -O raw "c.raw" "c.raw.raw"',
  );
});
