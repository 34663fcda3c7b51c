import { assert, assertEquals } from "@std/assert";
import { Errno } from "./errno.ts";
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

Deno.test("DataFile punches and zeroes the range of a slot", () => {
  const path = Deno.makeTempFileSync();
  try {
    using file = DataFile.open(path);
    using table = new IoTable(2, 1);
    const at = 5 * 2 ** 30;
    file.write(new Uint8Array(12288).fill(7), at);
    table.offsets[1] = at + 4096;
    table.lengths[1] = 4096;
    assertEquals(file.punchSlot(table, 1), 0);
    const bytes = new Uint8Array(12288);
    assertEquals(file.read(bytes, at), 12288);
    assertEquals([bytes[4095], bytes[4096]], [7, 0]);
    assertEquals([bytes[8191], bytes[8192]], [0, 7]);
    // Beyond the end there is nothing to punch, and zeroes make it longer.
    table.offsets[1] = at + 2 ** 30;
    assertEquals(file.punchSlot(table, 1), 0);
    assertEquals(file.size(), at + 12288);
    const result = file.zeroSlot(table, 1);
    assert([0, -Errno.EOPNOTSUPP].includes(result), `${result}`);
    const size = result === 0 ? at + 2 ** 30 + 4096 : at + 12288;
    assertEquals(file.size(), size);
    table.offsets[1] = at;
    if (file.zeroSlot(table, 1) === 0) {
      assertEquals(file.read(bytes, at), 12288);
      assertEquals([bytes[0], bytes[4095], bytes[8192]], [0, 0, 7]);
    }
    table.lengths[1] = 0;
    assertEquals(file.punchSlot(table, 1), -Errno.EINVAL);
  } finally {
    Deno.removeSync(path);
  }
});
