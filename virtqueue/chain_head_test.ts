import { assert, assertEquals } from "@std/assert";
import type { DescriptorChain } from "./chain.ts";
import { readHead, writeHead } from "./chain_head.ts";
import { GuestMemory } from "./memory.ts";
import { type FakeBuffer, FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

const BASE = 0x1_0000_0000;
const HOST = 0x7f00_ffff_fff0;
const TWO_32 = 2 ** 32;

/** A chain of buffers in two regions that touch. */
function take(
  buffers: readonly FakeBuffer[],
  maxSegments = 8,
): { chain: DescriptorChain; memory: FakeMemory } {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4096 },
    { guestAddress: BASE, bytes: 64, hostAddress: HOST },
    { guestAddress: BASE + 64, bytes: 64, hostAddress: HOST + 0x10_0000 },
  ]);
  memory.write(BASE, Uint8Array.from({ length: 128 }, (_, i) => i));
  const driver = new FakeDriver(memory, { size: 32 });
  const queue = startQueue(driver, { maxSegments });
  driver.submit(buffers);
  const chain = queue.take();
  assert(chain !== null);
  return { chain, memory };
}

/** The iovec that was written at word 4 of a list, and that nothing else was. */
function described(list: Uint32Array): { address: number; length: number } {
  assertEquals([...list.subarray(0, 4)], [7, 7, 7, 7]);
  assertEquals([...list.subarray(7)], [0, 7, 7, 7, 7]);
  return { address: list[4] + list[5] * TWO_32, length: list[6] };
}

Deno.test("readHead() reads words and describes what is behind them", () => {
  const { chain } = take([
    { address: BASE + 3, length: 22, write: false },
    { address: BASE + 70, length: 9, write: true },
  ]);
  const into = new Uint32Array(4).fill(9);
  const list = new Uint32Array(12).fill(7);
  assertEquals(readHead(chain, into, 3, list, 4), true);
  assertEquals([...into], [0x06050403, 0x0a090807, 0x0e0d0c0b, 9]);
  assertEquals(described(list), { address: HOST + 15, length: 10 });
});

Deno.test("writeHead() writes words and describes what is behind them", () => {
  const { chain, memory } = take([
    { address: BASE + 70, length: 9, write: false },
    { address: BASE + 3, length: 9, write: true },
  ]);
  const from = Uint32Array.of(0x44332211, 0x88776655, 0xffffffff);
  const list = new Uint32Array(12).fill(7);
  assertEquals(writeHead(chain, from, 2, list, 4), true);
  assertEquals(
    [...memory.read(BASE + 2, 10)],
    [2, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 11],
  );
  assertEquals(described(list), { address: HOST + 11, length: 1 });
});

/** Chains whose parts are not one segment with bytes behind two words. */
function others(write: boolean): readonly FakeBuffer[][] {
  const whole = (address: number, length: number): FakeBuffer => ({
    ...{ address, length, write },
  });
  return [
    // Of the other part alone.
    [{ address: BASE, length: 20, write: !write }],
    [whole(BASE, 7)],
    [whole(BASE, 8)],
    [whole(BASE, 20), whole(BASE + 30, 20)],
    // Across two regions.
    [whole(BASE + 50, 20)],
    // Longer than the device works on.
    Array.from({ length: 20 }, (_, i) => whole(BASE + 3 * i, 20)),
  ];
}

Deno.test("readHead() leaves all other parts alone", () => {
  for (const buffers of others(false)) {
    const { chain } = take(buffers, 1);
    const into = new Uint32Array(2).fill(9), list = new Uint32Array(4).fill(7);
    assertEquals(readHead(chain, into, 2, list, 0), false);
    assertEquals([[...into], [...list]], [[9, 9], [7, 7, 7, 7]]);
  }
});

Deno.test("writeHead() leaves all other parts alone", () => {
  for (const buffers of others(true)) {
    const { chain, memory } = take(buffers, 1);
    const before = memory.read(BASE, 128);
    const from = new Uint32Array(2), list = new Uint32Array(4).fill(7);
    assertEquals(writeHead(chain, from, 2, list, 0), false);
    assertEquals([...list], [7, 7, 7, 7]);
    assertEquals(memory.read(BASE, 128), before);
  }
});

Deno.test("heads are found beyond the first window of a region", () => {
  // 2 GiB of address space, of which two pages are touched.
  const buffer = new ArrayBuffer(2 ** 31);
  const memory = new GuestMemory();
  memory.add({ guestAddress: 0, size: 2 ** 31, buffer, hostAddress: 2 ** 40 });
  const { chain: model } = take([{ address: BASE, length: 1, write: true }]);
  const offset = 2 ** 30 + 5;
  const fields = {
    memory,
    ...{ count: 2, readableCount: 1, truncated: false },
    regions: Uint16Array.of(0, 0),
    offsets: Float64Array.of(offset, offset),
    lengths: Uint32Array.of(9, 9),
  };
  const chain: DescriptorChain = Object.assign(Object.create(model), fields);
  const list = new Uint32Array(4), into = new Uint32Array(2);
  assertEquals(
    writeHead(chain, Uint32Array.of(1, 0x8000_0002), 2, list, 0),
    true,
  );
  assertEquals(readHead(chain, into, 2, list, 0), true);
  assertEquals([...into], [1, 0x8000_0002]);
  assertEquals(new DataView(buffer).getUint32(offset + 4, true), 0x8000_0002);
  assertEquals(list[0] + list[1] * TWO_32, 2 ** 40 + offset + 8);
});
