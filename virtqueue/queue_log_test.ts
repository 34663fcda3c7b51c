import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { DIRTY_LOG_PAGE, DirtyLog, dirtyLogSize } from "./dirty_log.ts";
import type { RunningQueue } from "./queue.ts";
import type { RingDriver } from "./testing/buffers.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startQueue, startRing } from "./testing/queue.ts";

const RINGS = 0x10_0000;
const SIZE = 0x10_0000;

interface Rig<Driver extends RingDriver> {
  readonly driver: Driver;
  readonly queue: RunningQueue;
  readonly memory: FakeMemory;
  /** All guest memory: two regions that touch each other at 0x18_0000. */
  readonly bytes: readonly Uint8Array[];
}

function memoryOfTwo(): { bytes: Uint8Array[]; memory: FakeMemory } {
  const bytes = [new Uint8Array(SIZE / 2), new Uint8Array(SIZE / 2)];
  const memory = new FakeMemory([
    { guestAddress: RINGS, bytes: bytes[0] },
    { guestAddress: RINGS + SIZE / 2, bytes: bytes[1] },
  ]);
  return { bytes, memory };
}

function rig(eventIdx = false, size = 8): Rig<FakeDriver> {
  const { bytes, memory } = memoryOfTwo();
  const driver = new FakeDriver(memory, { size, eventIdx });
  return { driver, queue: startQueue(driver), memory, bytes };
}

function packedRig(eventIdx = false, size = 7): Rig<FakePackedDriver> {
  const { bytes, memory } = memoryOfTwo();
  const driver = new FakePackedDriver(memory, { size, eventIdx });
  return { driver, queue: startRing(driver), memory, bytes };
}

const LAYOUTS: [
  string,
  (eventIdx?: boolean, size?: number) => Rig<RingDriver>,
][] = [
  ["split", rig],
  ["packed", packedRig],
];

/** A log for all of a rig's memory. */
function newLog(): { bits: Uint8Array; log: DirtyLog } {
  const bits = new Uint8Array(dirtyLogSize(RINGS + SIZE));
  return { bits, log: new DirtyLog(bits) };
}

/** The pages that are marked, by number from RINGS on; the marks are taken out. */
function takePages(bits: Uint8Array): number[] {
  const pages: number[] = [];
  for (let page = 0; page < 8 * bits.length; page++) {
    if (bits[page >> 3] >> (page & 7) & 1) {
      pages.push(page - RINGS / DIRTY_LOG_PAGE);
    }
  }
  bits.fill(0);
  return pages;
}

const pageOf = (address: number): number =>
  Math.floor((address - RINGS) / DIRTY_LOG_PAGE);

const buffer = (address: number, length: number, write = true) => ({
  address,
  length,
  write,
});

for (const [layout, make] of LAYOUTS) {
  Deno.test(`the whole writable part is marked before the answer is published, ${layout}`, () => {
    const { driver, queue } = make();
    const { bits, log } = newLog();
    queue.logWrites(log, -1);
    driver.submit([
      buffer(RINGS + 0x2_0000, 100, false),
      buffer(RINGS + 0x2_4ffe, 4),
      buffer(RINGS + 0x7_f000, 0x2000), // crosses into the other region
      buffer(RINGS + 0x9_0000, 1),
    ]);
    const chain = queue.take()!;
    assertEquals(takePages(bits), []);
    queue.complete(chain, 0);
    assertEquals(takePages(bits), [0x24, 0x25, 0x7f, 0x80, 0x90]);
    queue.publish();
    assertEquals(takePages(bits), [], "the used ring is not logged");
  });
}

Deno.test("buffers of an indirect table are marked, the table is not", () => {
  const { driver, queue } = rig();
  const { bits, log } = newLog();
  queue.logWrites(log, -1);
  driver.submit([buffer(RINGS + 0x3_0000, 10)], {
    indirect: true,
    tableAddress: RINGS + 0x4_0000,
  });
  queue.complete(queue.take()!, 10);
  assertEquals(takePages(bits), [0x30]);
});

for (const eventIdx of [false, true]) {
  Deno.test(`the used ring is marked where it is told to be, EVENT_IDX ${eventIdx}`, () => {
    const { driver, queue } = rig(eventIdx, 4096);
    const { bits, log } = newLog();
    // Not where it lies, to tell the two apart.
    const at = RINGS + 0xa_0000;
    queue.logWrites(log, at);
    // All of it at first: 4 + 8 * 4096 bytes, and 2 with EVENT_IDX.
    const all = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((page) => 0xa0 + page);
    assertEquals(takePages(bits), all);
    for (let i = 0; i < 1000; i++) {
      driver.submit([{ readable: Uint8Array.of(1) }]);
      queue.complete(queue.take()!, 0);
    }
    assertEquals(takePages(bits), [], "nobody sees the elements yet");
    queue.publish();
    assertEquals(takePages(bits), [0xa0, 0xa1]);
    queue.enableNotification();
    assertEquals(takePages(bits), [eventIdx ? 0xa8 : 0xa0]);
    queue.disableNotification();
    assertEquals(takePages(bits), eventIdx ? [] : [0xa0]);
    queue.logWrites(log, -1);
    driver.submit([{ readable: Uint8Array.of(1) }]);
    queue.complete(queue.take()!, 0);
    queue.publish();
    queue.enableNotification();
    assertEquals(takePages(bits), []);
  });
}

for (const [layout, make] of LAYOUTS) {
  Deno.test(`a chain in flight is logged where it ends, in the log of that time, ${layout}`, () => {
    const { driver, queue } = make();
    const first = newLog(), second = newLog();
    for (let i = 0; i < 3; i++) {
      driver.submit([buffer(RINGS + 0x2_0000 + i * 0x1000, 1)]);
    }
    const chains = [queue.take()!, queue.take()!, queue.take()!];
    queue.logWrites(first.log, -1);
    queue.complete(chains[0], 1);
    queue.logWrites(second.log, -1);
    queue.complete(chains[1], 1);
    queue.logWrites(null, RINGS);
    queue.complete(chains[2], 1);
    queue.publish();
    assertEquals(takePages(first.bits), [0x20]);
    assertEquals(takePages(second.bits), [0x21]);
  });
}

for (const [layout, make] of LAYOUTS) {
  Deno.test(`a chain that is given back is logged when it is answered, ${layout}`, () => {
    const { driver, queue } = make();
    const { bits, log } = newLog();
    queue.logWrites(log, -1);
    driver.submit([buffer(RINGS + 0x2_0000, 1)]);
    queue.untake(queue.take()!);
    assertEquals(takePages(bits), []);
    queue.complete(queue.take()!, 1);
    assertEquals(takePages(bits), [0x20]);
  });
}

Deno.test("answers are marked where the packed ring lies, and around its end", () => {
  const { driver, queue } = packedRig(true, 1000);
  const { bits, log } = newLog();
  const event = RINGS + 0xa_0000;
  queue.logWrites(log, event);
  const first = pageOf(driver.descriptorTable);
  assertEquals(
    takePages(bits),
    [0, 1, 2, 3].map((i) => first + i).concat(0xa0),
  );
  const answer = (count: number) => {
    for (let i = 0; i < count; i++) {
      driver.submit([{ readable: Uint8Array.of(1) }]);
      queue.complete(queue.take()!, 0);
    }
    assertEquals(takePages(bits), [], "nobody sees the answers yet");
    queue.publish();
    driver.reap();
    return takePages(bits).map((page) => page - first);
  };
  assertEquals(answer(200), [0]);
  assertEquals(answer(400), [0, 1, 2]);
  assertEquals(answer(410), [0, 2, 3]);
  assertEquals(answer(1), [0]);
  queue.enableNotification();
  queue.disableNotification();
  assertEquals(takePages(bits), [0xa0]);
  queue.logWrites(log, -1);
  assertEquals(answer(10), []);
});

Deno.test("a bad chain's answer is marked in the used ring", () => {
  const { driver, queue } = rig();
  const { bits, log } = newLog();
  queue.logWrites(log, driver.usedRing);
  takePages(bits);
  driver.setDescriptor(0, { address: 0, length: 4, flags: 2 }); // nowhere
  driver.offer(0);
  assertEquals(queue.take(), null);
  assertEquals(takePages(bits), []);
  queue.publish();
  assertEquals(takePages(bits), [pageOf(driver.usedRing)]);
});

for (const [layout, make] of LAYOUTS) {
  Deno.test(`every page that changes is marked: any chains, any order, ${layout}`, () => {
    const chain = fc.array(
      fc.record({
        at: fc.nat(0xb_fff0),
        length: fc.integer({ min: 1, max: 0x3000 }),
        write: fc.boolean(),
      }),
      { minLength: 1, maxLength: 4 },
    );
    const turn = fc.record({
      chains: fc.array(chain, { maxLength: 4 }),
      again: fc.boolean(),
      sleep: fc.boolean(),
      reverse: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(turn, { minLength: 1, maxLength: 12 }),
        (eventIdx, turns) => {
          const { driver, queue, bytes } = make(eventIdx, 16);
          const { bits, log } = newLog();
          queue.logWrites(log, driver.usedRing);
          takePages(bits);
          let fill = 0;
          for (const { chains, again, sleep, reverse } of turns) {
            for (const parts of chains) {
              const sorted = parts.toSorted((a, b) =>
                Number(a.write) - Number(b.write)
              );
              driver.submit(sorted.map(({ at, length, write }) =>
                // Above the rings, and up to the end.
                buffer(RINGS + 0x3_0000 + at, length, write)
              ));
            }
            const before = bytes.map((part) => part.slice());
            const taken = [];
            for (let next = queue.take(); next !== null; next = queue.take()) {
              taken.push(next);
            }
            if (again && taken.length > 0) {
              queue.untake(taken.pop()!);
              taken.push(queue.take()!);
            }
            if (reverse) taken.reverse();
            for (const each of taken) {
              fill = fill % 255 + 1;
              each.fill(0, each.writableLength, fill);
              queue.complete(each, each.writableLength);
            }
            queue.publish();
            if (sleep) queue.enableNotification();
            else queue.disableNotification();
            const marked = new Set(takePages(bits));
            for (const [i, part] of bytes.entries()) {
              for (let at = 0; at < part.length; at += DIRTY_LOG_PAGE) {
                const now = part.subarray(at, at + DIRTY_LOG_PAGE);
                const was = before[i].subarray(at, at + DIRTY_LOG_PAGE);
                if (now.every((byte, j) => byte === was[j])) continue;
                const page = pageOf(RINGS + i * SIZE / 2 + at);
                assert(
                  marked.has(page),
                  `page ${page} changed and is not marked`,
                );
              }
            }
            driver.reap();
          }
          assertEquals(log.lost, 0);
        },
      ),
      { numRuns: 60 },
    );
  });
}
