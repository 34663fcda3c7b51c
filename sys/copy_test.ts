import { assertEquals, assertThrows } from "@std/assert";
import { copySlot, zeroMapped } from "./copy.ts";
import { IoTable } from "./io_table.ts";
import { mapAnonymous } from "./mapping.ts";

Deno.test("copySlot copies scatter lists both ways", () => {
  using buffers = mapAnonymous(8192);
  using disk = mapAnonymous(4096);
  using table = new IoTable(2, 2);
  const bytes = new Uint8Array(buffers.buffer);
  bytes.fill(7, 10, 20).fill(9, 4096, 4101);
  const at = table.iovecs.wordOffset(1), words = table.iovecs.words;
  const pieces = [[buffers.address + 10, 10], [buffers.address + 4096, 5]];
  for (const [i, [address, length]] of pieces.entries()) {
    words[at + 4 * i] = address;
    words[at + 4 * i + 1] = address / 2 ** 32;
    words[at + 4 * i + 2] = length;
  }
  table.counts[1] = 2;
  table.offsets[1] = 100;
  copySlot(table, 1, disk, true);
  const stored = new Uint8Array(disk.buffer);
  assertEquals([...stored.subarray(98, 117)], [
    ...[0, 0],
    ...Array(10).fill(7),
    ...Array(5).fill(9),
    ...[0, 0],
  ]);
  bytes.fill(0);
  copySlot(table, 1, disk, false);
  assertEquals([bytes[9], bytes[10], bytes[19], bytes[20]], [0, 7, 7, 0]);
  assertEquals([bytes[4096], bytes[4100], bytes[4101]], [9, 9, 0]);
  table.offsets[1] = 4096 - 14;
  assertThrows(() => copySlot(table, 1, disk, true), RangeError, "4097");
});

Deno.test("zeroMapped zeroes a range, and none beyond the end", () => {
  using disk = mapAnonymous(4096);
  using table = new IoTable(2, 1);
  const bytes = new Uint8Array(disk.buffer).fill(7);
  table.offsets[1] = 100;
  table.lengths[1] = 50;
  zeroMapped(table, 1, disk);
  assertEquals([...bytes.subarray(99, 101)], [7, 0]);
  assertEquals([...bytes.subarray(149, 151)], [0, 7]);
  assertEquals(bytes.reduce((sum, byte) => sum + byte), 7 * (4096 - 50));
  table.offsets[1] = 4096 - 49;
  assertThrows(() => zeroMapped(table, 1, disk), RangeError, "4097");
  assertEquals(bytes[4095], 7);
});
