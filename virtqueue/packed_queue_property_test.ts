/**
 * Chains of a packed ring against a naive reading of the specification, and
 * garbage in the ring: nothing is thrown, nothing beyond the bounds happens.
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { DescriptorChain } from "./chain.ts";
import { FakeMemory } from "./testing/driver.ts";
import {
  FakePackedDriver,
  type RawPackedDescriptor,
} from "./testing/packed_driver.ts";
import { startPacked } from "./testing/queue.ts";

const NEXT = 1, WRITE = 2, INDIRECT = 4;
const MEMORY = 8192;

/** A descriptor that is all right more often than not. */
const descriptor = fc.record<RawPackedDescriptor>({
  address: fc.oneof(
    { arbitrary: fc.integer({ min: 4096, max: 6000 }), weight: 12 },
    { arbitrary: fc.integer({ min: 4096, max: 2 * MEMORY }), weight: 1 },
  ),
  length: fc.oneof(
    { arbitrary: fc.nat(100), weight: 8 },
    { arbitrary: fc.constantFrom(0, 16, 32, 48), weight: 4 },
    { arbitrary: fc.nat(0xffff_ffff), weight: 1 },
  ),
  id: fc.oneof(
    { arbitrary: fc.nat(7), weight: 12 },
    { arbitrary: fc.nat(0xffff), weight: 1 },
  ),
  flags: fc.oneof(
    { arbitrary: fc.constantFrom(0, WRITE), weight: 8 },
    { arbitrary: fc.constantFrom(INDIRECT, INDIRECT | WRITE), weight: 2 },
    { arbitrary: fc.nat(7), weight: 1 },
  ),
});

/** What a chain must look like: the bytes of its parts; `null`: it is bad. */
function naive(
  chain: readonly RawPackedDescriptor[],
  memory: FakeMemory,
): { readable: number[]; writable: number[] } | null {
  const readable: number[] = [], writable: number[] = [];
  const add = (address: number, length: number, write: boolean): boolean => {
    if (!write && writeSeen) return false;
    writeSeen ||= write;
    total += length;
    if (length > 0 && address + length > MEMORY) return false;
    const part = write ? writable : readable;
    for (let i = 0; i < length; i++) part.push(address + i);
    return total < 2 ** 32;
  };
  let writeSeen = false, total = 0;
  for (const { address, length, flags = 0 } of chain) {
    const at = Number(address);
    if ((flags & INDIRECT) === 0) {
      if (!add(at, length, (flags & WRITE) !== 0)) return null;
      continue;
    }
    if (chain.length > 1 || length === 0 || length % 16 !== 0) return null;
    if (length > 16 * 32_768 || at + length > MEMORY) return null;
    for (let entry = at; entry < at + length; entry += 16) {
      const view = new DataView(memory.read(entry, 16).buffer);
      const where = Number(view.getBigUint64(0, true));
      const write = (view.getUint16(14, true) & WRITE) !== 0;
      if (!add(where, view.getUint32(8, true), write)) return null;
    }
  }
  return { readable, writable };
}

/** The addresses of a chain's parts, byte by byte. */
function bytesOf(chain: DescriptorChain): ReturnType<typeof naive> {
  const readable: number[] = [], writable: number[] = [];
  for (let i = 0; i < chain.count; i++) {
    const part = i < chain.readableCount ? readable : writable;
    for (let j = 0; j < chain.length(i); j++) part.push(chain.address(i) + j);
  }
  return { readable, writable };
}

Deno.test("a device sees of a chain what a naive reading gives", () => {
  let good = 0, bad = 0;
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 1, maxLength: 4 }),
      fc.array(descriptor, { minLength: 3, maxLength: 3 }),
      fc.integer({ min: 4, max: 9 }),
      fc.nat(),
      (list, table, size, place) => {
        const memory = new FakeMemory([{ guestAddress: 0, bytes: MEMORY }]);
        const start = place % size | (place & 1) << 15;
        const driver = new FakePackedDriver(memory, { size, start });
        const queue = startPacked(driver, { maxSegments: 64 });
        table.forEach(({ address, length, flags = 0 }, i) => {
          const view = new DataView(new ArrayBuffer(16));
          view.setBigUint64(0, BigInt(address), true);
          view.setUint32(8, length, true);
          view.setUint16(14, flags, true);
          memory.write(4096 + 16 * i, new Uint8Array(view.buffer));
        });
        const chain = list.map((each, i) => ({
          ...each,
          address: (each.flags! & INDIRECT) !== 0 ? 4096 : each.address,
          flags: (each.flags! & ~NEXT) | (i < list.length - 1 ? NEXT : 0),
        }));
        driver.offer(...chain);
        const wanted = naive(chain, memory);
        const id = chain.at(-1)!.id!;
        const taken = queue.take();
        assertEquals(queue.broken, null);
        if (id >= size) {
          assertEquals([taken, queue.counters.badChains], [null, 1]);
          return;
        }
        if (wanted === null) {
          assertEquals([taken, queue.counters.badChains], [null, 1]);
          queue.publish();
          assertEquals(driver.reapOffered(list.length), { id, length: 0 });
          bad++;
          return;
        }
        assert(taken !== null, queue.lastError ?? "nothing to take");
        assertEquals(taken.head, id);
        assertEquals(bytesOf(taken), wanted);
        assertEquals(taken.readableLength, wanted.readable.length);
        assertEquals(taken.writableLength, wanted.writable.length);
        queue.complete(taken, taken.writableLength);
        queue.publish();
        const length = taken.writableLength;
        assertEquals(driver.reapOffered(list.length), { id, length });
        good++;
      },
    ),
    { numRuns: 2000 },
  );
  assert(good > 300 && bad > 300, `${good} good, ${bad} bad`);
});

Deno.test("garbage in the ring throws nothing and stays in bounds", () => {
  const poke = fc.record({
    kind: fc.constantFrom("offer", "offer", "raw", "marks", "event"),
    descriptor,
    at: fc.nat(7),
    value: fc.nat(0xffff),
  });
  let broken = 0, served = 0;
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.boolean(),
      fc.array(poke, { maxLength: 60, size: "max" }),
      fc.infiniteStream(fc.nat(5)),
      (eventIdx, inOrder, pokes, choices) => {
        const memory = new FakeMemory([{ guestAddress: 0, bytes: MEMORY }]);
        const driver = new FakePackedDriver(memory, { size: 8, eventIdx });
        const queue = startPacked(driver, { inOrder });
        // A guard around the ring shows writes out of bounds.
        const guard = driver.descriptorTable + 16 * 8 + 64;
        memory.bytes(guard, 512).fill(0xa5);
        const held: DescriptorChain[] = [];
        for (const { kind, descriptor, at, value } of pokes) {
          if (kind === "offer") driver.offer(descriptor);
          else if (kind === "event") driver.driverEvent = value << 16 | value;
          else if (kind === "raw") {
            driver.setDescriptor(at, { ...descriptor, flags: value });
          } else driver.setDescriptor(at, { ...descriptor, flags: 0x80 });
          for (let i = 0; i < 4; i++) {
            const choice = choices.next().value;
            if (choice <= 1) {
              const chain = queue.take();
              if (chain !== null) held.push(chain);
            } else if (choice === 2 && held.length > 0) {
              const chain = held.shift()!;
              queue.complete(chain, chain.writableLength);
              served++;
            } else if (choice === 3) queue.publish();
            else if (choice === 4) queue.enableNotification();
            else queue.disableNotification();
          }
          assertEquals(queue.inFlight, held.length);
          assertEquals(
            new Set(held.map((chain) => chain.head)).size,
            held.length,
          );
          for (const chain of held) {
            assert(chain.head < 8);
            for (let i = 0; i < chain.count; i++) {
              assert(chain.address(i) + chain.length(i) <= MEMORY);
            }
          }
        }
        if (queue.broken !== null) broken++;
        assertEquals(memory.read(guard, 512), new Uint8Array(512).fill(0xa5));
      },
    ),
    { numRuns: 1500 },
  );
  assert(broken > 30 && served > 30, `${broken} broken, ${served} served`);
});
