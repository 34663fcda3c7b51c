import { assert, assertEquals, assertThrows } from "@std/assert";
import type { DescriptorChain } from "./chain.ts";
import type { SplitQueue } from "./split_queue.ts";
import { type FakeBuffer, FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

const BASE = 0x1_0000_0000;
const HOST = 0x7f00_0000_0000;

function bytes(...values: number[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(values);
}

/** A ring at address 0, and memory for buffers in two regions that touch. */
function rig(maxSegments = 8): {
  memory: FakeMemory;
  driver: FakeDriver;
  queue: SplitQueue;
} {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4096 },
    { guestAddress: BASE, bytes: 256, hostAddress: HOST },
    { guestAddress: BASE + 256, bytes: 256, hostAddress: HOST + 0x10_0000 },
  ]);
  const driver = new FakeDriver(memory, { size: 32 });
  return { memory, driver, queue: startQueue(driver, { maxSegments }) };
}

function take(
  buffers: readonly FakeBuffer[],
  maxSegments = 8,
): { chain: DescriptorChain; memory: FakeMemory; driver: FakeDriver } {
  const { memory, driver, queue } = rig(maxSegments);
  driver.submit(buffers);
  const chain = queue.take();
  assert(chain !== null);
  return { chain, memory, driver };
}

Deno.test("a chain is two parts of segments, readable ones first", () => {
  const { chain } = take([
    { address: BASE + 1, length: 3, write: false },
    { address: BASE + 300, length: 5, write: false },
    { address: BASE + 9, length: 2, write: true },
  ]);
  assertEquals([chain.count, chain.readableCount], [3, 2]);
  assertEquals([chain.readableLength, chain.writableLength], [8, 2]);
  assertEquals(chain.truncated, false);
  assertEquals(
    [0, 1, 2].map((i) => [chain.address(i), chain.length(i)]),
    [[BASE + 1, 3], [BASE + 300, 5], [BASE + 9, 2]],
  );
  assertEquals(
    [0, 1, 2].map((i) => chain.hostAddress(i)),
    [HOST + 1, HOST + 0x10_0000 + 44, HOST + 9],
  );
});

Deno.test("a segment that is not there is a RangeError", () => {
  const { chain } = take([{ readable: bytes(1) }]);
  for (const i of [1, -1, 0.5 + 1, NaN]) {
    assertThrows(() => chain.address(i), RangeError, "the chain has 1");
    assertThrows(() => chain.length(i), RangeError);
    assertThrows(() => chain.hostAddress(i), RangeError);
    assertThrows(() => chain.bytes(i), RangeError);
  }
});

Deno.test("bytes() is a view of guest memory", () => {
  const { chain, memory } = take([
    { address: BASE + 16, length: 4, write: true },
  ]);
  chain.bytes(0).set([9, 8, 7, 6]);
  assertEquals(memory.read(BASE + 16, 4), bytes(9, 8, 7, 6));
});

Deno.test("integers are read little-endian, also across segments", () => {
  const { chain } = take([
    { readable: bytes(1, 2) },
    { readable: bytes(3) },
    { readable: bytes(0xf4, 5, 6, 7, 0xff) },
  ]);
  assertEquals(chain.readUint8(0), 1);
  assertEquals(chain.readUint8(7), 0xff);
  assertEquals(chain.readUint16(0), 0x0201);
  assertEquals(chain.readUint16(1), 0x0302);
  assertEquals(chain.readUint16(2), 0xf403);
  assertEquals(chain.readUint16(6), 0xff07);
  assertEquals(chain.readUint32(0), 0xf4030201);
  assertEquals(chain.readUint32(3), 0x070605f4);
  assertEquals(chain.readUint32(4), 0xff070605);
});

Deno.test("words are read where they lie in one segment", () => {
  const { chain } = take([
    { readable: bytes(1, 2, 3, 4, 5, 6, 7, 8) },
    { readable: bytes(9, 0, 0, 0x80, 1) },
    { writable: 8 },
  ]);
  const words = new Uint32Array(4);
  assertEquals(chain.readWords(0, words, 1, 2), true);
  assertEquals([...words], [0, 0x04030201, 0x08070605, 0]);
  assertEquals(chain.readWords(8, words, 3, 1), true);
  assertEquals(chain.readWords(9, words, 0, 1), true);
  assertEquals([...words], [0x0180_0000, 0x04030201, 0x08070605, 0x8000_0009]);
  words.fill(7);
  for (const [position, count] of [[5, 1], [4, 2], [10, 1], [-1, 1], [13, 1]]) {
    assertEquals(chain.readWords(position, words, 0, count), false);
  }
  assertEquals(chain.readWords(2 ** 40, words, 0, 1), false);
  assertEquals(chain.readWords(NaN, words, 0, 1), false);
  assertEquals([...words], [7, 7, 7, 7]);
});

Deno.test("words are written where they lie in one segment", () => {
  const { chain, memory } = take([
    { readable: bytes(1, 2, 3, 4) },
    { address: BASE, length: 5, write: true },
    { address: BASE + 16, length: 8, write: true },
  ]);
  const words = Uint32Array.of(0x11223344, 0x55667788, 0x99aabbcc);
  assertEquals(chain.writeWords(1, words, 0, 1), true);
  assertEquals(chain.writeWords(5, words, 1, 2), true);
  const written = [
    ...memory.read(BASE, 5),
    ...memory.read(BASE + 16, 8),
  ];
  assertEquals(written, [
    ...[0, 0x44, 0x33, 0x22, 0x11],
    ...[0x88, 0x77, 0x66, 0x55, 0xcc, 0xbb, 0xaa, 0x99],
  ]);
  for (const [position, count] of [[2, 1], [10, 1], [5, 3], [-1, 1], [13, 1]]) {
    assertEquals(chain.writeWords(position, words, 0, count), false);
  }
  assertEquals(chain.writeWords(NaN, words, 0, 1), false);
  assertEquals([
    ...memory.read(BASE, 5),
    ...memory.read(BASE + 16, 8),
  ], written);
});

Deno.test("reading beyond the readable part is -1", () => {
  const { chain } = take([{ readable: bytes(1, 2, 3, 4) }, { writable: 8 }]);
  assertEquals(chain.readUint8(4), -1);
  assertEquals(chain.readUint8(-1), -1);
  assertEquals(chain.readUint8(NaN), -1);
  assertEquals(chain.readUint16(3), -1);
  assertEquals(chain.readUint32(1), -1);
  assertEquals(chain.readUint32(2 ** 40), -1);
});

Deno.test("a chain without a readable part reads nothing, whatever came before", () => {
  const { driver, queue } = rig();
  driver.submit([{ readable: new Uint8Array(16).fill(0xaa) }]);
  const first = queue.take();
  assert(first !== null);
  queue.complete(first, 0);
  driver.submit([{ writable: 16 }]);
  const chain = queue.take();
  assert(chain !== null && chain === first);
  assertEquals(chain.readUint8(0), -1);
  assertEquals(chain.readUint16(0), -1);
  assertEquals(chain.readUint32(0), -1);
  assertEquals(chain.readWords(0, new Uint32Array(1), 0, 1), false);
  assertEquals(chain.read(0, new Uint8Array(4)), 0);
});

Deno.test("integers are written little-endian, also across segments", () => {
  const { chain, memory } = take([
    { address: BASE, length: 3, write: true },
    { address: BASE + 16, length: 1, write: true },
    { address: BASE + 32, length: 4, write: true },
  ]);
  assertEquals(chain.writeUint32(1, 0xf1e2d3c4), true);
  assertEquals(chain.writeUint16(6, 0xbeef), true);
  assertEquals(chain.writeUint8(0, 0x1ff), true);
  assertEquals(chain.writeUint8(5, 0x77), true);
  assertEquals(memory.read(BASE, 4), bytes(0xff, 0xc4, 0xd3, 0));
  assertEquals(memory.read(BASE + 16, 2), bytes(0xe2, 0));
  assertEquals(memory.read(BASE + 32, 5), bytes(0xf1, 0x77, 0xef, 0xbe, 0));
  assertEquals(chain.writeUint16(2, 0x1234), true);
  assertEquals(memory.read(BASE + 2, 2), bytes(0x34, 0));
  assertEquals(memory.read(BASE + 16, 1), bytes(0x12));
});

Deno.test("writing beyond the writable part writes nothing", () => {
  const { chain, memory } = take([
    { address: BASE + 64, length: 4, write: false },
    { address: BASE, length: 2, write: true },
    { address: BASE + 16, length: 2, write: true },
  ]);
  assertEquals(chain.writeUint8(4, 1), false);
  assertEquals(chain.writeUint8(-1, 1), false);
  assertEquals(chain.writeUint16(3, 0xffff), false);
  assertEquals(chain.writeUint32(1, 0xffffffff), false);
  assertEquals(memory.read(BASE, 128), new Uint8Array(128));
});

Deno.test("a chain without a writable part takes no writes", () => {
  const { chain } = take([{ readable: bytes(1, 2, 3, 4) }]);
  assertEquals(chain.writeUint8(0, 1), false);
  assertEquals(chain.writeUint32(0, 1), false);
  assertEquals(chain.writeWords(0, new Uint32Array(1), 0, 1), false);
  assertEquals(chain.write(0, bytes(1)), 0);
  assertEquals(chain.fill(0, 1, 1), 0);
});

Deno.test("read() copies across segments and stops at the end", () => {
  const long = Uint8Array.from({ length: 200 }, (_, i) => i);
  const { chain } = take([{ readable: bytes(250, 251) }, { readable: long }]);
  const all = new Uint8Array(300);
  assertEquals(chain.read(0, all), 202);
  assertEquals(all.subarray(0, 4), bytes(250, 251, 0, 1));
  assertEquals(all.subarray(199, 204), bytes(197, 198, 199, 0, 0));
  const part = new Uint8Array(8);
  assertEquals(chain.read(1, part, 2, 3), 3);
  assertEquals(part, bytes(0, 0, 251, 0, 1, 0, 0, 0));
  assertEquals(chain.read(202, part), 0);
});

Deno.test("write() copies across segments and stops at the end", () => {
  const { chain, memory } = take([
    { address: BASE, length: 2, write: true },
    { address: BASE + 8, length: 100, write: true },
  ]);
  const long = Uint8Array.from({ length: 120 }, (_, i) => i + 1);
  assertEquals(chain.write(0, long), 102);
  assertEquals(memory.read(BASE, 3), bytes(1, 2, 0));
  assertEquals(memory.read(BASE + 8, 2), bytes(3, 4));
  assertEquals(memory.read(BASE + 106, 3), bytes(101, 102, 0));
  assertEquals(chain.write(1, bytes(10, 11, 12, 13), 1, 2), 2);
  assertEquals(memory.read(BASE, 2), bytes(1, 11));
  assertEquals(memory.read(BASE + 8, 2), bytes(12, 4));
});

Deno.test("fill() sets across segments and stops at the end", () => {
  const { chain, memory } = take([
    { address: BASE, length: 2, write: true },
    { address: BASE + 8, length: 3, write: true },
  ]);
  assertEquals(chain.fill(1, 2, 0xaa), 2);
  assertEquals(memory.read(BASE, 3), bytes(0, 0xaa, 0));
  assertEquals(memory.read(BASE + 8, 3), bytes(0xaa, 0, 0));
  assertEquals(chain.fill(4, 10, 0xbb), 1);
  assertEquals(memory.read(BASE + 8, 4), bytes(0xaa, 0, 0xbb, 0));
});

Deno.test("iovec() describes a range of a part", () => {
  const { chain } = take([
    { address: BASE, length: 16, write: false },
    { address: BASE + 32, length: 100, write: true },
    { address: BASE + 256, length: 50, write: true },
    { address: BASE + 200, length: 1, write: true },
  ]);
  const words = new Uint32Array(20).fill(0xdead);
  assertEquals(chain.iovec(words, 4, 4, true, 90, 60), 2);
  const host = HOST + 0x10_0000;
  assertEquals([...words.subarray(0, 13)], [
    ...[0xdead, 0xdead, 0xdead, 0xdead],
    ...[(HOST + 122) % 2 ** 32, 0x7f00, 10, 0],
    ...[host % 2 ** 32, 0x7f00, 50, 0],
    0xdead,
  ]);
  assertEquals(chain.iovec(words, 0, 4, true, 0, 151), 3);
  assertEquals(chain.iovec(words, 0, 3, true, 0, 151), 3);
  assertEquals(chain.iovec(words, 0, 4, false, 1, 15), 1);
  assertEquals([...words.subarray(0, 4)], [HOST % 2 ** 32 + 1, 0x7f00, 15, 0]);
});

Deno.test("iovec() says -1 where it cannot describe the range", () => {
  const { chain } = take([
    { address: BASE, length: 16, write: false },
    { address: BASE + 32, length: 10, write: true },
    { address: BASE + 64, length: 10, write: true },
  ]);
  const words = new Uint32Array(64);
  assertEquals(chain.iovec(words, 0, 1, true, 0, 11), -1);
  assertEquals(chain.iovec(words, 0, 0, true, 0, 1), -1);
  assertEquals(chain.iovec(words, 0, 8, true, 0, 21), -1);
  assertEquals(chain.iovec(words, 0, 8, true, 20, 1), -1);
  assertEquals(chain.iovec(words, 0, 8, false, 0, 17), -1);
  assertEquals(chain.iovec(words, 0, 8, true, 20, 0), 0);
});

Deno.test("a buffer that crosses regions is two segments", () => {
  const { chain, memory } = take([
    { address: BASE + 250, length: 10, write: true },
  ]);
  assertEquals([chain.count, chain.writableLength], [2, 10]);
  assertEquals(
    [0, 1].map((i) => [chain.address(i), chain.length(i)]),
    [[BASE + 250, 6], [BASE + 256, 4]],
  );
  assertEquals(chain.writeUint32(4, 0x04030201), true);
  assertEquals(memory.read(BASE + 253, 6), bytes(0, 1, 2, 3, 4, 0));
  const words = new Uint32Array(8);
  assertEquals(chain.iovec(words, 0, 2, true, 0, 10), 2);
});

Deno.test("an empty buffer is no segment", () => {
  const { chain } = take([
    { address: 2 ** 52, length: 0, write: false },
    { readable: bytes(5) },
    { address: BASE, length: 0, write: true },
  ]);
  assertEquals([chain.count, chain.readableCount], [1, 1]);
  assertEquals([chain.readableLength, chain.writableLength], [1, 0]);
  assertEquals(chain.readUint8(0), 5);
});

Deno.test("a chain of nothing but empty buffers is an empty chain", () => {
  const { chain } = take([{ address: 0, length: 0, write: true }]);
  assertEquals([chain.count, chain.readableCount], [0, 0]);
  assertEquals([chain.readableLength, chain.writableLength], [0, 0]);
  assertEquals(chain.writeUint8(0, 1), false);
  assertEquals(chain.iovec(new Uint32Array(4), 0, 1, true, 0, 1), -1);
});

Deno.test("a chain of exactly maxSegments is whole", () => {
  const buffers = [1, 2, 3].map((n) => ({ readable: bytes(n) }));
  const { chain } = take([...buffers, { writable: 1 }], 4);
  assertEquals(chain.truncated, false);
  assertEquals(chain.count, 4);
});

Deno.test("a longer chain is truncated: lengths and the last byte are right", () => {
  const data = Array.from({ length: 20 }, (_, i) => ({
    address: BASE + i * 8,
    length: 4,
    write: true,
  }));
  const { chain, memory } = take([
    { readable: bytes(1, 2, 3, 4) },
    ...data,
    { address: BASE + 300, length: 1, write: true },
  ], 4);
  assertEquals(chain.truncated, true);
  assertEquals([chain.readableLength, chain.writableLength], [4, 81]);
  assertEquals([chain.readableCount, chain.count], [1, chain.capacity]);
  assertEquals(chain.readUint32(0), 0x04030201);
  assertEquals(chain.writeUint8(80, 0x5a), true);
  assertEquals(memory.read(BASE + 300, 1), bytes(0x5a));
  assertEquals(chain.writeUint8(0, 0x11), true);
  assertEquals(memory.read(BASE, 1), bytes(0x11));
  // What lies between is missing, and nothing else is touched instead.
  assertEquals(chain.writeUint8(79, 1), false);
  assertEquals(chain.writeUint16(79, 1), false);
  assertEquals(chain.iovec(new Uint32Array(99), 0, 20, true, 0, 80), -1);
  const stored = (chain.capacity - 2) * 4;
  assertEquals(chain.iovec(new Uint32Array(99), 0, 20, true, 0, stored), 6);
  const beyond = stored + 1;
  assertEquals(chain.iovec(new Uint32Array(99), 0, 20, true, 0, beyond), -1);
  assertEquals(chain.write(0, new Uint8Array(81).fill(1)), stored);
});

Deno.test("a truncated chain keeps both parts apart", () => {
  const readable = Array.from(
    { length: 12 },
    (_, i) => ({ readable: bytes(i) }),
  );
  const { chain } = take([...readable, { writable: 2 }, { writable: 3 }], 4);
  assertEquals([chain.count, chain.readableCount], [8, 7]);
  assertEquals([chain.readableLength, chain.writableLength], [12, 5]);
  assertEquals([6, 7, 11].map((at) => chain.readUint8(at)), [6, -1, -1]);
  assertEquals(chain.read(0, new Uint8Array(12)), 7);
  assertEquals(chain.iovec(new Uint32Array(99), 0, 20, false, 0, 12), -1);
  assertEquals(chain.writeUint8(4, 9), true);
  assertEquals(chain.writeUint8(2, 9), true);
  assertEquals(chain.writeUint8(1, 9), false);
});

Deno.test("a truncated chain of one part ends right", () => {
  const readable = Array.from(
    { length: 12 },
    (_, i) => ({ readable: bytes(i) }),
  );
  const { chain } = take(readable, 4);
  assertEquals([chain.count, chain.readableCount], [8, 8]);
  assertEquals([6, 7, 10, 11].map((at) => chain.readUint8(at)), [
    6,
    -1,
    -1,
    11,
  ]);
});

Deno.test("buffers that cross regions do not truncate a chain of legal length", () => {
  const crossing = { address: BASE + 250, length: 10, write: true };
  const { chain } = take([crossing, crossing, crossing, crossing], 4);
  assertEquals(chain.truncated, false);
  assertEquals(chain.count, 8);
});

Deno.test("a chain with too many pieces is truncated, however few its buffers", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 4096 }]);
  for (let i = 0; i < 20; i++) {
    memory.add({ guestAddress: BASE + 4 * i, bytes: 4 });
  }
  const driver = new FakeDriver(memory, { size: 4 });
  const queue = startQueue(driver, { maxSegments: 4 });
  driver.submit([{ address: BASE + 1, length: 78, write: true }]);
  const chain = queue.take();
  assert(chain !== null);
  assertEquals([chain.truncated, chain.count], [true, chain.capacity]);
  assertEquals(chain.writableLength, 78);
  assertEquals(chain.writeUint8(77, 0x99), true);
  assertEquals(memory.read(BASE + 78, 1), bytes(0x99));
});
