import { assertEquals } from "@std/assert";
import { DataFile } from "./file.ts";
import { IoTable } from "./io_table.ts";
import { mapAnonymous } from "./mapping.ts";

Deno.test("DataFile reads and writes the operands of a slot", () => {
  const path = Deno.makeTempFileSync();
  try {
    using file = DataFile.open(path);
    using memory = mapAnonymous(8192);
    using table = new IoTable(2, 2);
    const bytes = new Uint8Array(memory.buffer);
    bytes.fill(1, 0, 100).fill(2, 4096, 4196);
    const at = table.iovecs.wordOffset(1), words = table.iovecs.words;
    for (
      const [i, address] of [memory.address, memory.address + 4096].entries()
    ) {
      words[at + 4 * i] = address;
      words[at + 4 * i + 1] = address / 2 ** 32;
      words[at + 4 * i + 2] = 100;
    }
    table.counts[1] = 2;
    table.offsets[1] = 5 * 2 ** 30;
    assertEquals(file.writeSlot(table, 1), 200);
    bytes.fill(0);
    assertEquals(file.readSlot(table, 1), 200);
    assertEquals([bytes[99], bytes[100], bytes[4096]], [1, 0, 2]);
    table.counts[1] = 1;
    bytes.fill(0);
    assertEquals(file.readSlot(table, 1), 100);
    assertEquals([bytes[99], bytes[100], bytes[4096]], [1, 0, 0]);
    bytes.fill(3, 0, 100);
    assertEquals(file.writeSlot(table, 1), 100);
    bytes.fill(0);
    table.counts[1] = 2;
    assertEquals(file.readSlot(table, 1), 200);
    assertEquals([bytes[99], bytes[4096]], [3, 2]);
    table.offsets[1] = 6 * 2 ** 30;
    assertEquals(file.readSlot(table, 1), 0);
    table.counts[0] = 1;
    words[table.iovecs.wordOffset(0)] = 1;
    words[table.iovecs.wordOffset(0) + 2] = 1;
    assertEquals(file.writeSlot(table, 0), -14);
    table.offsets[0] = 5 * 2 ** 30;
    assertEquals(file.readSlot(table, 0), -14);
    table.counts[0] = 2;
    assertEquals(file.writeSlot(table, 0), -14);
  } finally {
    Deno.removeSync(path);
  }
});
