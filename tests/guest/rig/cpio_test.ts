import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CpioWriter } from "./cpio.ts";

interface Member {
  name: string;
  mode: number;
  content: Uint8Array;
}

/** Reads an archive as the Linux kernel's init/initramfs.c does. */
function read(archive: Uint8Array): { members: Member[]; end: number } {
  const text = (at: number, length: number) =>
    new TextDecoder().decode(archive.subarray(at, at + length));
  const align = (at: number) => (at + 3) & ~3;
  const members: Member[] = [];
  let at = 0;
  while (true) {
    assertEquals(text(at, 6), "070701");
    const field = (index: number) => parseInt(text(at + 6 + 8 * index, 8), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = text(at + 110, nameSize - 1);
    assertEquals(archive[at + 110 + nameSize - 1], 0);
    const data = align(at + 110 + nameSize);
    at = align(data + size);
    if (name === "TRAILER!!!") return { members, end: at };
    members.push({ name, mode, content: archive.slice(data, data + size) });
  }
}

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("CpioWriter: files, links and directories", () => {
  const writer = new CpioWriter();
  writer.directory("dev");
  writer.file("bin/tool", bytes("#!"), 0o755);
  writer.link("sbin", "bin");
  const archive = writer.finish();
  const { members, end } = read(archive);
  assertEquals(members, [
    { name: "dev", mode: 0o040755, content: bytes("") },
    { name: "bin", mode: 0o040755, content: bytes("") },
    { name: "bin/tool", mode: 0o100755, content: bytes("#!") },
    { name: "sbin", mode: 0o120777, content: bytes("bin") },
  ]);
  assertEquals(archive.length % 512, 0);
  assertEquals(archive.subarray(end).every((byte) => byte === 0), true);
});

Deno.test("CpioWriter: the header of a known member", () => {
  const writer = new CpioWriter();
  writer.file("a", bytes("xyz"), 0o600);
  const header = new TextDecoder().decode(writer.finish().subarray(0, 116));
  assertEquals(
    header,
    "070701" + "00000001" + "00008180" + "00000000" + "00000000" + "00000001" +
      "00000000" + "00000003" + "00000000" + "00000000" + "00000000" +
      "00000000" + "00000002" + "00000000" + "a\0" + "xyz\0",
  );
});

Deno.test("CpioWriter: any content and name comes back", () => {
  fc.assert(fc.property(
    fc.uniqueArray(
      fc.record({
        name: fc.stringMatching(/^[a-z]{1,40}$/),
        content: fc.uint8Array({ maxLength: 3_000 }),
      }),
      { selector: (member) => member.name, maxLength: 12 },
    ),
    (files) => {
      const writer = new CpioWriter();
      for (const { name, content } of files) {
        writer.file(name, new Uint8Array(content));
      }
      const { members } = read(writer.finish());
      assertEquals(
        members.map(({ name, content }) => ({ name, content })),
        files.map(({ name, content }) => ({
          name,
          content: new Uint8Array(content),
        })),
      );
    },
  ));
});

Deno.test("CpioWriter: names that the kernel would misread are refused", () => {
  const writer = new CpioWriter();
  writer.file("a", bytes(""));
  for (const name of ["a", "/etc", ""]) {
    assertThrows(() => writer.file(name, bytes("")), RangeError, `"${name}"`);
  }
});
