import { assert, assertEquals, assertThrows } from "@std/assert";
import { Arena } from "./arena.ts";
import { viewMemory } from "./mapping.ts";

Deno.test("pieces are aligned, apart and inside", () => {
  using arena = new Arena(1024);
  const a = arena.alloc(1);
  const b = arena.alloc(10, 8);
  const c = arena.alloc(100);
  const d = arena.alloc(0, 1);
  assertEquals([a.offset, b.offset, c.offset, d.offset], [0, 8, 64, 164]);
  for (const piece of [a, b, c, d]) {
    assertEquals(piece.address, arena.address + piece.offset);
  }
});

Deno.test("all views are of the same memory, at its address", () => {
  using arena = new Arena(100);
  assertEquals(arena.size, 104);
  assertEquals(arena.u8.length, 104);
  assertEquals(arena.u32.length, 26);
  arena.u32[1] = 0x01020304;
  assertEquals(arena.u8[4], 4);
  assertEquals(arena.view.getUint16(6, true), 0x0102);
  assertEquals(new Uint8Array(viewMemory(arena.address, 104))[7], 1);
});

Deno.test("an arena that is full says so", () => {
  using arena = new Arena(128);
  arena.alloc(100);
  assertThrows(
    () => arena.alloc(1),
    RangeError,
    "Cannot allocate 1 bytes: 100 of the arena's 128 bytes are in use",
  );
  arena.alloc(28, 4);
  assertThrows(() => arena.alloc(1, 1), RangeError);
  assertThrows(() => arena.alloc(-1, 1), RangeError);
  assertThrows(() => arena.alloc(NaN, 1), RangeError);
});

Deno.test("after a reset the memory is empty and zero", () => {
  using arena = new Arena(128);
  const first = arena.alloc(128);
  arena.u8.fill(1);
  arena.reset();
  assertEquals(arena.alloc(128).address, first.address);
  assert(arena.u8.every((byte) => byte === 0));
});

Deno.test("a disposed arena has no memory", () => {
  const arena = new Arena(128);
  arena[Symbol.dispose]();
  arena[Symbol.dispose]();
  assertEquals(arena.u8.length, 0);
  assert(arena.buffer.detached);
});
