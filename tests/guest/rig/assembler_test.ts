import { assertEquals, assertThrows } from "@std/assert";
import { Assembler } from "./assembler.ts";
import { bootSector, bootSectorSum } from "./boot_sector.ts";

// The encodings are those of the Intel SDM, volume 2.
const ENCODINGS: ReadonlyArray<
  [string, (program: Assembler) => unknown, string]
> = [
  ["xor ax, ax", (p) => p.xor("ax", "ax"), "31c0"],
  ["xor di, bx", (p) => p.xor("di", "bx"), "31df"],
  ["mov sp, 0x7c00", (p) => p.load("sp", 0x7c00), "bc007c"],
  ["mov al, 'S'", (p) => p.loadByte("al", "S"), "b053"],
  ["mov ah, 0x42", (p) => p.loadByte("ah", 0x42), "b442"],
  ["mov al, ah", (p) => p.moveByte("al", "ah"), "88e0"],
  ["mov ax, bx", (p) => p.moveWord("ax", "bx"), "89d8"],
  ["mov ds, ax", (p) => p.loadSegment("ds", "ax"), "8ed8"],
  ["mov es, ax", (p) => p.loadSegment("es", "ax"), "8ec0"],
  ["mov ss, ax", (p) => p.loadSegment("ss", "ax"), "8ed0"],
  ["add bx, es:[di]", (p) => p.addFromDestination("bx"), "26031d"],
  ["rol bx, 1", (p) => p.rotateLeft("bx", 1), "c1c301"],
  ["add di, 2", (p) => p.addImmediate("di", 2), "83c702"],
  ["and al, 15", (p) => p.andAl(15), "240f"],
  ["add al, '0'", (p) => p.addAl(0x30), "0430"],
  ["cmp al, '9'", (p) => p.compareAl(0x39), "3c39"],
  ["push ax", (p) => p.push("ax"), "50"],
  ["pop si", (p) => p.pop("si"), "5e"],
  ["rep stosw", (p) => p.fillWords(), "f3ab"],
  ["out dx, al", (p) => p.out(), "ee"],
  ["int 0x13", (p) => p.interrupt(0x13), "cd13"],
  ["ret", (p) => p.return(), "c3"],
];

for (const [text, emit, encoding] of ENCODINGS) {
  Deno.test(`Assembler: ${text}`, () => {
    const program = new Assembler(0);
    emit(program);
    assertEquals(program.assemble().toHex(), encoding);
  });
}

Deno.test("Assembler: labels, before and after their place", () => {
  const program = new Assembler(0x7c00);
  program.label("start").load("si", "end").storeByte("end", "dl")
    .fetchByte("dl", "end").storeWord("end", "bx").compareWord("bx", "end")
    .storeImmediate32("end", 0x12345678).call("start").jump("end")
    .jumpIf("carry", "end").jumpIf("equal", "end")
    .jumpIf("belowOrEqual", "end").loop("start").label("end");
  assertEquals(
    program.assemble().toHex(),
    "be297c" + "8816297c" + "8a16297c" + "891e297c" + "3b1e297c" +
      "66c706297c78563412" + "e8e1ff" + "eb08" + "7206" + "7404" + "7602" +
      "e2d7",
  );
});

Deno.test("Assembler: labels that cannot be", () => {
  const twice = new Assembler(0).label("a");
  assertThrows(() => twice.label("a"), RangeError, "placed twice");
  const nowhere = new Assembler(0).call("a");
  assertThrows(() => nowhere.assemble(), RangeError, "placed nowhere");
  const far = new Assembler(0).jump("a").fillTo(131).label("a");
  assertThrows(() => far.assemble(), RangeError, "129 bytes away");
  assertThrows(() => far.fillTo(130), RangeError, "131 bytes");
});

Deno.test("bootSector: one sector with the BIOS's signature", () => {
  const sector = bootSector({ readLba: 1, writeLba: 1000, sectors: 64 });
  assertEquals(sector.length, 512);
  assertEquals(sector.subarray(510).toHex(), "55aa");
  for (const sectors of [0, 128]) {
    assertThrows(
      () => bootSector({ readLba: 1, writeLba: 1000, sectors }),
      RangeError,
      `${sectors} sectors`,
    );
  }
});

Deno.test("bootSectorSum: rotates, so that order matters", () => {
  assertEquals(bootSectorSum(new Uint8Array([1, 0, 2, 0])), "0004");
  assertEquals(bootSectorSum(new Uint8Array([2, 0, 1, 0])), "0005");
  assertEquals(bootSectorSum(new Uint8Array([0, 0x80, 0, 0])), "0001");
});
