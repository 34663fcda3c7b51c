import { assertEquals } from "@std/assert";
import { moduleDependencies } from "./guest_image.ts";
import { LineReader, parseOutput } from "./linux_guest.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("moduleDependencies reads the .modinfo entry", () => {
  const module = (entry: string) =>
    moduleDependencies(bytes(`ELF\0license=GPL\0${entry}\0name=x\0`));
  assertEquals(module("depends=virtio,virtio-ring"), ["virtio", "virtio_ring"]);
  assertEquals(module("depends="), []);
  assertEquals(module("softdepends=other"), []);
});

Deno.test("parseOutput parts a script's lines from those for the rig", () => {
  const text =
    "first\n@@SIZE 4096 bytes\n@@CHECK mkfs works\nunended@@EMPTY\n" +
    "@@ -1,2 +1,2 @@\n@@SIZE 512\n\nlast\n";
  assertEquals(parseOutput(text), {
    output: ["first", "unended", "@@ -1,2 +1,2 @@", "", "last"],
    values: { SIZE: "512", EMPTY: "" },
    checks: ["mkfs works"],
  });
  assertEquals(parseOutput("unended").output, ["unended"]);
  assertEquals(parseOutput(""), { output: [], values: {}, checks: [] });
});

Deno.test("LineReader hands on the script's lines, whatever the pieces", () => {
  const text = "SeaBIOS\n@@BOOT 1.8\nfirst\n@@KEY value\nsecond@@KEY value\n" +
    "@@EXIT 0\n[ 2.0] reboot: Power down\n";
  for (const size of [1, 7, text.length]) {
    const lines: string[] = [];
    const reader = new LineReader((line) => lines.push(line));
    for (let at = 0; at < text.length; at += size) {
      reader.push(text.slice(at, at + size));
    }
    assertEquals(lines, ["first", "second"]);
  }
});
