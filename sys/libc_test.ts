import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { cString, libc, pointerTo } from "./libc.ts";

Deno.test("the library is opened once", () => {
  assertStrictEquals(libc(), libc());
});

Deno.test("C strings are UTF-8 with one NUL at the end", () => {
  assertEquals([...cString("é")], [0xc3, 0xa9, 0]);
  assertEquals([...cString("")], [0]);
  assertThrows(() => cString("a\0b"), RangeError, 'Cannot pass "a\\u0000b"');
});

Deno.test("there is no pointer to address 0", () => {
  assertThrows(() => pointerTo(0), RangeError, "address 0");
});
