import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { GuestMemory, MemoryError, WINDOW_STEP } from "./memory.ts";

function region(guestAddress: number, size: number, hostAddress = 0) {
  return { guestAddress, size, hostAddress, buffer: new ArrayBuffer(size) };
}

function assertRefused(kind: string, message: string, act: () => unknown) {
  const error = assertThrows(act, MemoryError, message);
  assertEquals(error.kind, kind);
}

Deno.test("find() wants the whole range in one region", () => {
  const memory = new GuestMemory();
  const id = memory.add(region(0x1000, 0x100));
  assertEquals(memory.find(0x1000, 1), id);
  assertEquals(memory.find(0x1000, 0x100), id);
  assertEquals(memory.find(0x10ff, 1), id);
  assertEquals(memory.find(0x10ff, 2), -1);
  assertEquals(memory.find(0x0fff, 2), -1);
  assertEquals(memory.find(0x1100, 1), -1);
  assertEquals(memory.find(0x1000, 0), -1);
  assertEquals(memory.find(0x1000, -1), -1);
  assertEquals(memory.find(-1, 1), -1);
  assertEquals(memory.find(NaN, 1), -1);
});

Deno.test("find() does not join adjacent regions", () => {
  const memory = new GuestMemory();
  const low = memory.add(region(0, 16));
  const high = memory.add(region(16, 16));
  assertEquals(memory.find(8, 8), low);
  assertEquals(memory.find(16, 8), high);
  assertEquals(memory.find(8, 9), -1);
});

Deno.test("an address beyond 2^53 lies nowhere", () => {
  const memory = new GuestMemory();
  const top = Number.MAX_SAFE_INTEGER - 16;
  const id = memory.add(region(top, 16));
  assertEquals(memory.find(top, 16), id);
  assertEquals(memory.find(2 ** 53, 1), -1);
  assertEquals(memory.find(2 ** 53 + 2, 1), -1);
  assertEquals(memory.find(2 ** 64 - 2048, 4096), -1);
  assertEquals(memory.hostAddress(2 ** 64, 1), -1);
});

Deno.test("add() refuses ranges that are none", () => {
  const memory = new GuestMemory();
  const refused = (guestAddress: number, size: number, hostAddress = 0) =>
    assertRefused(
      "invalid-range",
      "does not lie between 0 and 2^53",
      () =>
        memory.add({
          guestAddress,
          size,
          hostAddress,
          buffer: new ArrayBuffer(1),
        }),
    );
  refused(-1, 1);
  refused(0.5, 1);
  refused(0, 0);
  refused(0, -1);
  refused(2 ** 53, 1);
  refused(2 ** 53 - 1, 1);
  refused(2 ** 52, 2 ** 52 + 2);
  refused(0, 1, 2 ** 53);
  assertEquals([...memory.regions], []);
});

Deno.test("add() refuses a region beyond its buffer", () => {
  const memory = new GuestMemory();
  const buffer = new ArrayBuffer(32);
  const at = (size: number, byteOffset: number) => () =>
    memory.add({ guestAddress: 0x40, size, buffer, byteOffset });
  assertRefused("invalid-range", "exceed a buffer of 32 bytes", at(33, 0));
  assertRefused("invalid-range", "exceed a buffer of 32 bytes", at(16, 17));
  assertRefused("invalid-range", "exceed a buffer of 32 bytes", at(16, -1));
  assertEquals(at(16, 16)(), 0);
});

Deno.test("add() refuses overlaps, each way", () => {
  const memory = new GuestMemory();
  memory.add(region(0x100, 0x100));
  memory.add(region(0x300, 0x100));
  for (
    const [address, size] of [
      [0x100, 0x100],
      [0x0ff, 2],
      [0x1ff, 1],
      [0x120, 8],
      [0x080, 0x400],
      [0x200, 0x101],
    ]
  ) {
    assertRefused(
      "overlap",
      `Cannot add memory at 0x${address.toString(16)}`,
      () => memory.add(region(address, size)),
    );
  }
  memory.add(region(0x200, 0x100));
  assertEquals(
    memory.regions.map((each) => each.guestAddress),
    [0x100, 0x200, 0x300],
  );
});

Deno.test("add() refuses more regions than there are slots", () => {
  const memory = new GuestMemory(2);
  memory.add(region(0, 1));
  memory.add(region(1, 1));
  assertRefused(
    "too-many-regions",
    "all 2 region slots are taken",
    () => memory.add(region(2, 1)),
  );
  memory.remove(0, 1);
  assertEquals(memory.add(region(2, 1)), 0);
});

Deno.test("remove() wants the exact region and hands its buffer back", () => {
  const memory = new GuestMemory();
  const added = region(0x100, 0x100);
  memory.add(added);
  for (const [address, size] of [[0x100, 0xff], [0x101, 0xff], [0x200, 1]]) {
    assertRefused(
      "unknown-region",
      "there is no such region",
      () => memory.remove(address, size),
    );
  }
  assertEquals(memory.find(0x100, 1), 0);
  assertEquals(memory.remove(0x100, 0x100) === added.buffer, true);
  assertEquals(memory.find(0x100, 1), -1);
  assertEquals(memory.regions, []);
  assertRefused(
    "unknown-region",
    "there is no such region",
    () => memory.remove(0x100, 0x100),
  );
});

Deno.test("region ids stay while others come and go", () => {
  const memory = new GuestMemory();
  const ids = [5, 3, 4, 1, 2].map((n) => memory.add(region(n * 16, 16)));
  memory.remove(3 * 16, 16);
  memory.remove(1 * 16, 16);
  assertEquals(memory.find(5 * 16, 16), ids[0]);
  assertEquals(memory.find(4 * 16, 16), ids[2]);
  assertEquals(memory.find(2 * 16, 16), ids[4]);
  assertEquals(memory.find(3 * 16, 16), -1);
  assertEquals(memory.regionAddress(ids[2]), 64);
  assertEquals(memory.regionSize(ids[2]), 16);
  assertEquals(memory.regionSize(ids[1]), 0);
});

Deno.test("a region keeps its backing until it is removed", () => {
  const memory = new GuestMemory();
  const backing = { fd: 7, offset: 0x5000, pageSize: 4096 };
  const id = memory.add({ ...region(0x1000, 0x1000), backing });
  const other = memory.add(region(0x4000, 0x1000));
  assertEquals(memory.backing(id), backing);
  assertEquals(memory.backing(other), null);
  memory.remove(0x1000, 0x1000);
  assertEquals(memory.backing(id), null);
  assertEquals(memory.add(region(0x8000, 0x1000)), id);
  assertEquals(memory.backing(id), null);
});

Deno.test("generation counts what changed the set of regions", () => {
  const memory = new GuestMemory();
  assertEquals(memory.generation, 0);
  memory.add(region(0x1000, 0x1000));
  assertEquals(memory.generation, 1);
  assertThrows(() => memory.add(region(0x1000, 0x1000)), MemoryError);
  assertThrows(() => memory.remove(0x2000, 0x1000), MemoryError);
  assertEquals(memory.generation, 1);
  memory.remove(0x1000, 0x1000);
  assertEquals(memory.generation, 2);
});

Deno.test("hostAddress() adds the place in the region", () => {
  const memory = new GuestMemory();
  const id = memory.add(region(0x1000, 0x100, 0x7f00_0000_0000));
  assertEquals(memory.hostAddress(0x1010, 16), 0x7f00_0000_0010);
  assertEquals(memory.hostAddress(0x10ff, 2), -1);
  assertEquals(memory.hostBase(id), 0x7f00_0000_0000);
  assertEquals(memory.regions, [
    { guestAddress: 0x1000, size: 0x100, hostAddress: 0x7f00_0000_0000 },
  ]);
});

Deno.test("read() and write() span adjacent regions, all or nothing", () => {
  const memory = new GuestMemory();
  memory.add(region(0x20, 16));
  memory.add(region(0x10, 16));
  memory.add(region(0x50, 16));
  const bytes = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
  assertEquals(memory.write(0x15, bytes), true);
  const back = new Uint8Array(20);
  assertEquals(memory.read(0x15, back), true);
  assertEquals(back, bytes);
  // The last byte would lie at 0x30, which is in no region.
  const tooLong = new Uint8Array(28).fill(0xee);
  assertEquals(memory.write(0x15, tooLong), false);
  assertEquals(memory.read(0x15, back), true);
  assertEquals(back, bytes);
  assertEquals(memory.read(0x2f, new Uint8Array(2)), false);
  assertEquals(memory.read(0x0f, new Uint8Array(2)), false);
});

Deno.test("views start at the byte offset of a region", () => {
  const memory = new GuestMemory();
  const buffer = new ArrayBuffer(64);
  new Uint8Array(buffer)[40] = 7;
  const id = memory.add({
    guestAddress: 0,
    size: 16,
    buffer,
    byteOffset: 32,
  });
  assertEquals(memory.view(id).getUint8(8), 7);
  assertEquals(memory.view(id).byteLength, 16);
  assertEquals(memory.bytes(id)[8], 7);
  assertEquals(memory.window(id, 8).getUint8(8), 7);
});

Deno.test("windows cover large regions with offsets below 2^30", () => {
  // Reserved and never touched: no memory is needed for it.
  const size = 3 * 2 ** 30 + 64;
  const memory = new GuestMemory();
  const id = memory.add(region(0, size));
  for (const at of [0, WINDOW_STEP - 4, WINDOW_STEP, 2.5 * 2 ** 30, size - 4]) {
    const window = memory.window(id, at);
    memory.view(id).setUint32(at, 0x1000 + at % 977);
    assertEquals(window.getUint32(at % WINDOW_STEP), 0x1000 + at % 977);
  }
  const straddling = memory.window(id, WINDOW_STEP - 4);
  assertEquals(straddling.byteLength >= WINDOW_STEP + 2 ** 20 - 4, true);
});

Deno.test("find() agrees with a plain list under random changes", () => {
  const change = fc.record({
    at: fc.nat(40),
    size: fc.integer({ min: 1, max: 12 }),
    remove: fc.boolean(),
  });
  const query = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 14 }));
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 30 }),
      fc.array(query, { maxLength: 30 }),
      (changes, queries) => {
        const memory = new GuestMemory(6);
        const model = new Map<number, { at: number; size: number }>();
        for (const { at, size, remove } of changes) {
          const all = [...model.entries()];
          if (remove) {
            const found = all.find(([, each]) => each.at === at);
            if (found === undefined) continue;
            memory.remove(at, found[1].size);
            model.delete(found[0]);
          } else {
            const clash = all.some(([, each]) =>
              at < each.at + each.size && each.at < at + size
            );
            if (clash || all.length === 6) {
              assertThrows(() => memory.add(region(at, size)), MemoryError);
            } else {
              model.set(memory.add(region(at, size)), { at, size });
            }
          }
          for (const [address, length] of queries) {
            const holder = [...model.entries()].find(([, each]) =>
              each.at <= address && address + length <= each.at + each.size
            );
            assertEquals(memory.find(address, length), holder?.[0] ?? -1);
          }
        }
      },
    ),
  );
});
