import { assertEquals, assertThrows } from "@std/assert";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { KernelPanic } from "./kernel.ts";
import { PhysicalMemory, SgList } from "./memory.ts";

const LOW = { start: 0x1000, size: 0xf000 };
const HIGH = { start: 0x1_0000_0000, size: 0x10_0000 };

function make(): PhysicalMemory {
  const ram = new FakeMemory(
    [LOW, HIGH].map(({ start, size }) => ({
      guestAddress: start,
      bytes: size,
    })),
  );
  return new PhysicalMemory(ram, [HIGH, LOW]);
}

/** Number of segments of a buffer on a scatter/gather list. */
function segments(
  placement: "scattered" | "pairs" | "contiguous",
  length: number,
  offset = 0,
): number {
  const sg = new SgList(64);
  using buffer = make().buffer(length, placement, offset);
  for (const range of buffer.ranges()) sg.append(range.address, range.length);
  return sg.count;
}

Deno.test("contigmalloc() keeps below an address, and free memory merges", () => {
  const memory = make(), { free } = memory;
  assertEquals(memory.contigmalloc(0x2000), HIGH.start);
  assertEquals(memory.contigmalloc(0x2000, 0xffff_ffff), LOW.start);
  const third = memory.contigmalloc(0x1000);
  memory.contigfree(HIGH.start, 0x2000);
  memory.contigfree(LOW.start, 0x2000);
  memory.contigfree(third, 0x1000);
  assertEquals(memory.free, free);
  assertEquals(memory.contigmalloc(HIGH.size), HIGH.start);
});

Deno.test("malloc() never crosses a page", () => {
  const memory = make();
  const seen = new Set<number>();
  for (let i = 0; i < 100; i++) {
    const address = memory.malloc(560);
    assertEquals(
      Math.floor(address / 4096),
      Math.floor((address + 559) / 4096),
    );
    seen.add(address);
  }
  assertEquals(seen.size, 100);
});

Deno.test("pages are segments, neighbours are coalesced", () => {
  assertEquals(segments("scattered", 8 * 4096), 8);
  assertEquals(segments("scattered", 8 * 4096, 100), 9);
  assertEquals(segments("pairs", 8 * 4096), 4);
  assertEquals(segments("contiguous", 8 * 4096, 100), 1);
  assertEquals(new SgList(0).append(0, 1), false);
});

Deno.test("a buffer holds its bytes, and notices what is written beside it", () => {
  const memory = make();
  using buffer = memory.buffer(5000, "scattered", 4000);
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i);
  buffer.write(bytes);
  assertEquals(buffer.read(), bytes);
  buffer.checkSurroundings();
  const [first] = buffer.ranges();
  for (const address of [first.address - 1, first.address + 96]) {
    const byte = memory.ram.bytes(address, 1), before = byte[0];
    byte[0] = 0;
    assertThrows(
      () => buffer.checkSurroundings(),
      KernelPanic,
      `outside of a buffer at 0x${address.toString(16)}`,
    );
    byte[0] = before;
  }
  buffer.checkSurroundings();
});
