/**
 * Random chains over random memory: what a device sees of a chain is what a
 * naive reading of the descriptors gives, for chains that keep the rules and
 * for chains of garbage.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DescriptorChain } from "./chain.ts";
import { GuestMemory } from "./memory.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

const RING = 2 ** 33;
const HOST = 2 ** 46;

/** One region: bytes of a gap before it, 0 to touch the one before. */
interface Piece {
  readonly gap: number;
  readonly size: number;
}

const pieces = fc.array(
  fc.record<Piece>({
    gap: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 40 })),
    size: fc.integer({ min: 1, max: 300 }),
  }),
  { minLength: 1, maxLength: 6 },
);

/** Memory for buffers made of pieces, and a region for the ring far above. */
class World {
  readonly memory: FakeMemory;
  readonly driver: FakeDriver;
  readonly guest: GuestMemory;
  /** Each maximal range without a gap. */
  readonly runs: { start: number; size: number }[] = [];

  constructor(base: number, layout: readonly Piece[], size: number) {
    this.memory = new FakeMemory([{ guestAddress: RING, bytes: 8192 }]);
    this.driver = new FakeDriver(this.memory, { size });
    let at = base;
    layout.forEach(({ gap, size }, i) => {
      at += gap;
      // Apart in this process even where they touch in the guest.
      const hostAddress = HOST + i * 2 ** 20;
      this.memory.add({ guestAddress: at, bytes: size, hostAddress });
      const last = this.runs.at(-1);
      if (gap === 0 && last !== undefined) last.size += size;
      else this.runs.push({ start: at, size });
      at += size;
    });
    this.guest = this.memory.share(new GuestMemory());
    for (const { start, size } of this.runs) {
      const noise = new Uint8Array(size);
      for (let i = 0; i < size; i++) noise[i] = (i * 167 + start * 31) & 0xff;
      this.memory.write(start, noise);
    }
  }

  /** Guest address of an address in this process, as iovecs name it. */
  guestAddress(host: number): number {
    const region = [...this.guest.regions].find((each) =>
      each.hostAddress <= host && host < each.hostAddress + each.size
    );
    assert(region !== undefined);
    return region.guestAddress + host - region.hostAddress;
  }

  /** A range of memory from two fractions. */
  range(place: number, from: number, part: number) {
    const run = this.runs[Math.floor(place * this.runs.length)];
    const offset = Math.floor(from * run.size);
    const length = Math.floor(part * (run.size - offset + 1));
    return { address: run.start + offset, length };
  }
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const rangeOf = fc.tuple(fraction, fraction, fraction);
const bases = fc.constantFrom(0, 4096, 2 ** 31 - 100, 2 ** 32 - 64, 2 ** 40);

function join(parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function littleEndian(bytes: Uint8Array, at: number, size: number): number {
  if (at + size > bytes.length) return -1;
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
  return value;
}

/** Compares all ways of reading with the bytes of the readable part. */
function checkReads(chain: DescriptorChain, content: Uint8Array, at: number) {
  assertEquals(chain.readableLength, content.length);
  const copy = new Uint8Array(content.length + 3);
  assertEquals(chain.read(0, copy), content.length);
  assertEquals(copy.subarray(0, content.length), content);
  const rest = Math.max(content.length - at, 0);
  assertEquals(chain.read(at, new Uint8Array(rest + 1)), rest);
  assertEquals(chain.readUint8(at), littleEndian(content, at, 1));
  assertEquals(chain.readUint16(at), littleEndian(content, at, 2));
  assertEquals(chain.readUint32(at), littleEndian(content, at, 4));
}

/** Collects the guest addresses of a range of a part from its iovecs. */
function iovecAddresses(
  world: World,
  chain: DescriptorChain,
  writable: boolean,
  position: number,
  length: number,
): number[] | null {
  const words = new Uint32Array(4 * 64);
  const count = chain.iovec(words, 0, 64, writable, position, length);
  if (count < 0) return null;
  if (count > 1) {
    const less = chain.iovec(words, 0, count - 1, writable, position, length);
    assertEquals(less, -1);
  }
  const addresses: number[] = [];
  for (let i = 0; i < count; i++) {
    const host = words[4 * i] + words[4 * i + 1] * 2 ** 32;
    assert(words[4 * i + 2] > 0 && words[4 * i + 3] === 0);
    const guest = world.guestAddress(host);
    // All of an iovec lies in one mapping.
    assertEquals(
      world.guestAddress(host + words[4 * i + 2] - 1),
      guest + words[4 * i + 2] - 1,
    );
    for (let j = 0; j < words[4 * i + 2]; j++) addresses.push(guest + j);
  }
  return addresses;
}

Deno.test("a device reads what the driver's buffers hold", () => {
  fc.assert(
    fc.property(
      bases,
      pieces,
      fc.array(rangeOf, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.nat(40),
      (base, layout, ranges, indirect, at) => {
        const world = new World(base, layout, 16);
        const { driver } = world;
        const queue = startQueue(driver, { memory: world.guest });
        const buffers = ranges.map((range) => ({
          ...world.range(...range),
          write: false,
        }));
        const tableAddress = RING + 4096;
        driver.submit(buffers, { indirect, tableAddress });
        const content = join(
          buffers.map((each) => world.memory.read(each.address, each.length)),
        );
        const chain = queue.take();
        assert(chain !== null && !chain.truncated);
        checkReads(chain, content, at);
        const addresses = buffers.flatMap((each) =>
          Array.from({ length: each.length }, (_, i) => each.address + i)
        );
        const all = iovecAddresses(world, chain, false, 0, content.length);
        assertEquals(all, addresses);
        const length = Math.min(11, Math.max(content.length - at, 0));
        if (length > 0) {
          assertEquals(
            iovecAddresses(world, chain, false, at, length),
            addresses.slice(at, at + length),
          );
        }
        const beyond = content.length + 1;
        assertEquals(iovecAddresses(world, chain, false, 0, beyond), null);
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test("a device writes into the driver's buffers and nowhere else", () => {
  fc.assert(
    fc.property(
      bases,
      pieces,
      fc.array(rangeOf, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.nat(600),
      fc.nat(200),
      fc.constantFrom("write", "fill", "uint8", "uint16", "uint32"),
      (base, layout, ranges, indirect, at, length, way) => {
        const world = new World(base, layout, 16);
        const { driver } = world;
        const queue = startQueue(driver, { memory: world.guest });
        const buffers = ranges.map((range) => ({
          ...world.range(...range),
          write: true,
        }));
        driver.submit(buffers, { indirect, tableAddress: RING + 4096 });
        const addresses = buffers.flatMap((each) =>
          Array.from({ length: each.length }, (_, i) => each.address + i)
        );
        const model = new Map<number, number>();
        for (const { start, size } of world.runs) {
          world.memory.read(start, size).forEach((byte, i) =>
            model.set(start + i, byte)
          );
        }
        const chain = queue.take();
        assert(chain !== null && !chain.truncated);
        assertEquals(chain.writableLength, addresses.length);
        const room = Math.max(addresses.length - at, 0);
        let bytes: Uint8Array;
        if (way === "write") {
          bytes = Uint8Array.from({ length }, (_, i) => 255 - (i & 0xff));
          bytes = bytes.subarray(0, Math.min(length, room));
          const from = Uint8Array.from({ length }, (_, i) => 255 - (i & 0xff));
          assertEquals(chain.write(at, from), bytes.length);
        } else if (way === "fill") {
          bytes = new Uint8Array(Math.min(length, room)).fill(0xc3);
          assertEquals(chain.fill(at, length, 0xc3), bytes.length);
        } else {
          const size = way === "uint8" ? 1 : way === "uint16" ? 2 : 4;
          const fits = room >= size;
          bytes = Uint8Array.of(0x0d, 0xf0, 0xad, 0xba);
          bytes = bytes.subarray(0, fits ? size : 0);
          const value = 0xbaadf00d;
          const done = size === 1
            ? chain.writeUint8(at, value)
            : size === 2
            ? chain.writeUint16(at, value)
            : chain.writeUint32(at, value);
          assertEquals(done, fits);
        }
        bytes.forEach((byte, i) => model.set(addresses[at + i], byte));
        for (const { start, size } of world.runs) {
          assertEquals(
            world.memory.read(start, size),
            Uint8Array.from({ length: size }, (_, i) => model.get(start + i)!),
          );
        }
      },
    ),
    { numRuns: 400 },
  );
});

/** What a chain is by the letter of the specification, slowly. */
function parse(
  world: World,
  table: number,
  size: number,
  head: number,
): { readable: number[]; writable: number[] } | null {
  const parts: { readable: number[]; writable: number[] } = {
    readable: [],
    writable: [],
  };
  const descriptor = (at: number) => {
    const view = new DataView(world.memory.read(at, 16).buffer);
    return {
      address: view.getBigUint64(0, true),
      length: view.getUint32(8, true),
      next: (view.getUint16(12, true) & 1) !== 0,
      write: (view.getUint16(12, true) & 2) !== 0,
      indirect: (view.getUint16(12, true) & 4) !== 0,
      index: view.getUint16(14, true),
    };
  };
  const holds = (address: bigint, length: number) =>
    [...world.runs, { start: RING, size: 8192 }].some((run) =>
      BigInt(run.start) <= address &&
      address + BigInt(length) <= BigInt(run.start + run.size)
    );
  let indirect = false;
  let writing = false;
  let visited = new Set<number>();
  let index = head;
  for (;;) {
    if (index >= size || visited.has(index)) return null;
    visited.add(index);
    const each = descriptor(table + 16 * index);
    if (each.indirect) {
      if (indirect || each.next) return null;
      if (each.length === 0 || each.length % 16 !== 0) return null;
      if (each.length > 16 * 32768) return null;
      if (!holds(each.address, each.length)) return null;
      indirect = true;
      visited = new Set();
      table = Number(each.address);
      size = each.length / 16;
      index = 0;
      continue;
    }
    if (writing && !each.write) return null;
    writing = each.write;
    if (each.length > 0) {
      if (!holds(each.address, each.length)) return null;
      const part = each.write ? parts.writable : parts.readable;
      for (let i = 0; i < each.length; i++) {
        part.push(Number(each.address) + i);
      }
    }
    if (!each.next) return parts;
    index = each.index;
  }
}

Deno.test("a chain of garbage is what the specification says, or refused", () => {
  const layout = [{ gap: 0, size: 200 }, { gap: 0, size: 100 }, {
    gap: 9,
    size: 91,
  }];
  const tables = [RING + 4096, 4096, 4096 + 200 - 24];
  const descriptor = fc.record({
    address: fc.oneof(
      fc.constantFrom(...tables.map(BigInt)),
      fc.integer({ min: 4090, max: 4510 }).map(BigInt),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    ),
    length: fc.oneof(
      { arbitrary: fc.integer({ min: 1, max: 60 }), weight: 5 },
      { arbitrary: fc.constantFrom(16, 32, 48, 64), weight: 3 },
      fc.nat(0xffffffff),
    ),
    flags: fc.oneof(
      { arbitrary: fc.constantFrom(0, 1, 2, 3), weight: 6 },
      { arbitrary: fc.constant(4), weight: 2 },
      fc.nat(0xffff),
    ),
    next: fc.oneof(
      { arbitrary: fc.nat(5), weight: 8 },
      fc.nat(0xffff),
    ),
  });
  let good = 0;
  let bad = 0;
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 4, maxLength: 4 }),
      fc.array(descriptor, { minLength: 4, maxLength: 4 }),
      fc.constantFrom(...tables),
      (direct, indirect, table) => {
        const world = new World(4096, layout, 4);
        const { driver } = world;
        const queue = startQueue(driver, { memory: world.guest });
        indirect.forEach((each, i) =>
          driver.setDescriptorAt(table + 16 * i, each)
        );
        direct.forEach((each, i) => driver.setDescriptor(i, each));
        const expected = parse(world, driver.descriptorTable, 4, 0);
        driver.offer(0);
        const chain = queue.take();
        assertEquals(queue.broken, null);
        if (expected === null) {
          bad++;
          assertEquals(chain, null);
          assertEquals(queue.counters.badChains, 1);
          queue.publish();
          assertEquals(driver.usedIndex, 1);
          assertEquals(driver.usedElement(0), { id: 0, length: 0 });
          return;
        }
        good++;
        assert(chain !== null && !chain.truncated);
        for (const writable of [false, true]) {
          const part = writable ? expected.writable : expected.readable;
          const found: number[] = [];
          const from = writable ? chain.readableCount : 0;
          const to = writable ? chain.count : chain.readableCount;
          for (let i = from; i < to; i++) {
            for (let j = 0; j < chain.length(i); j++) {
              found.push(chain.address(i) + j);
            }
          }
          assertEquals(found, part);
        }
        assertEquals(
          [chain.readableLength, chain.writableLength],
          [expected.readable.length, expected.writable.length],
        );
      },
    ),
    { numRuns: 4000 },
  );
  // The garbage is good for something: both verdicts occur.
  assert(good > 100 && bad > 100, `${good} good, ${bad} bad`);
});
