import { assertEquals, assertThrows } from "@std/assert";
import { IovecTable } from "./iovec.ts";
import { viewMemory } from "./mapping.ts";

Deno.test("each slot has its own array in the table's memory", () => {
  using table = new IovecTable(3, 5);
  assertEquals(table.words.length, 3 * 5 * 4);
  for (let slot = 0; slot < 3; slot++) {
    const at = table.wordOffset(slot);
    assertEquals(at, slot * 20);
    table.words[at] = 100 + slot;
    const memory = viewMemory(table.address(slot), 5 * 16);
    assertEquals(new Uint32Array(memory)[0], 100 + slot);
  }
});

Deno.test("sizes that the kernel would refuse are refused", () => {
  assertThrows(() => new IovecTable(0, 1), RangeError, "0 slots");
  assertThrows(() => new IovecTable(1.5, 1), RangeError, "1.5 slots");
  assertThrows(() => new IovecTable(1, 0), RangeError, "0 segments");
  assertThrows(() => new IovecTable(1, 1025), RangeError, "1 to 1024");
  new IovecTable(1, 1024)[Symbol.dispose]();
});

Deno.test("a disposed table has no memory", () => {
  const table = new IovecTable(1, 1);
  table[Symbol.dispose]();
  assertEquals(table.words.length, 0);
});
