import { assert, assertEquals, assertThrows } from "@std/assert";
import { GuestMemory } from "../memory.ts";
import { FakeMemory } from "./memory.ts";

Deno.test("allocate() aligns, and reuses what was freed", () => {
  const memory = new FakeMemory([{ guestAddress: 8, bytes: 64 }]);
  assertEquals(memory.allocate(1), 8);
  assertEquals(memory.allocate(16, 16), 16);
  assertEquals(memory.allocate(7), 9);
  assertEquals(memory.allocate(40), 32);
  assertThrows(() => memory.allocate(1), RangeError, "Cannot allocate 1 bytes");
  for (const [at, size] of [[16, 16], [8, 1], [32, 40], [9, 7]]) {
    memory.free(at, size);
  }
  assertEquals(memory.allocate(64), 8);
});

Deno.test("allocate() never spans regions", () => {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 16 },
    { guestAddress: 16, bytes: 32 },
  ]);
  const small = memory.allocate(16);
  memory.free(small, 16);
  assertEquals(memory.allocate(32), 16);
  assertThrows(() => memory.allocate(17), RangeError);
  memory.free(16, 32);
  assertThrows(() => memory.allocate(33), RangeError);
});

Deno.test("read() and write() span adjacent regions", () => {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4 },
    { guestAddress: 4, bytes: new Uint8Array(new ArrayBuffer(16), 8, 4) },
  ]);
  memory.write(2, Uint8Array.of(1, 2, 3, 4));
  assertEquals(memory.read(2, 4), Uint8Array.of(1, 2, 3, 4));
  assertEquals(memory.bytes(4, 2), Uint8Array.of(3, 4));
  assertThrows(() => memory.read(6, 4), RangeError, "no region holds it");
  assertThrows(() => memory.bytes(3, 2), RangeError, "no region holds it");
});

Deno.test("share() gives the device the same bytes", () => {
  const bytes = new Uint8Array(new ArrayBuffer(128), 64, 32);
  const memory = new FakeMemory([
    { guestAddress: 4096, bytes, hostAddress: 0x7000 },
  ]);
  const guest = memory.share(new GuestMemory());
  const id = guest.find(4096, 32);
  assert(id >= 0);
  memory.setUint32(4100, 0x04030201);
  assertEquals(guest.view(id).getUint8(5), 2);
  guest.view(id).setUint16(8, 0xbbaa, true);
  assertEquals(memory.getUint16(4104), 0xbbaa);
  assertEquals(guest.hostAddress(4104, 1), 0x7008);
});
