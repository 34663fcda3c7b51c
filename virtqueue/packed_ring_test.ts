import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  advance,
  AVAIL_USED,
  decodePosition,
  encodePosition,
  entryAt,
  marksAt,
} from "./packed_ring.ts";

Deno.test("positions walk through the ring, the wrap counter turns each lap", () => {
  const walk = [0];
  for (let i = 0; i < 6; i++) walk.push(advance(walk.at(-1)!, 1, 3));
  assertEquals(walk, [0, 1, 2, 3, 4, 5, 0]);
  assertEquals(walk.map((each) => entryAt(each, 3)), [0, 1, 2, 0, 1, 2, 0]);
  assertEquals(walk.map((each) => encodePosition(each, 3)), [
    ...[0x8000, 0x8001, 0x8002, 0, 1, 2, 0x8000],
  ]);
  assertEquals(marksAt(0, 3) ^ marksAt(3, 3), AVAIL_USED);
  assertEquals([marksAt(2, 3), marksAt(5, 3)], [0x80, 0x8000]);
});

Deno.test("decodePosition() is the inverse of encodePosition()", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 32_768 }), fc.nat(), (size, any) => {
      const position = any % (2 * size);
      const encoded = encodePosition(position, size);
      assertEquals(encoded >= 0 && encoded <= 0xffff, true);
      assertEquals(decodePosition(encoded, size), position);
    }),
  );
  assertEquals([decodePosition(7, 7), decodePosition(0x8007, 7)], [-1, -1]);
  assertEquals(decodePosition(0xffff, 32_768), 32_767);
});
