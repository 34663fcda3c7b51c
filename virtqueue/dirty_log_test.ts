import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { DIRTY_LOG_PAGE, DirtyLog, dirtyLogSize } from "./dirty_log.ts";

/** The pages that are marked, in order. */
function pagesOf(bits: Uint8Array): number[] {
  const pages: number[] = [];
  for (let page = 0; page < 8 * bits.length; page++) {
    if (bits[page >> 3] >> (page & 7) & 1) pages.push(page);
  }
  return pages;
}

Deno.test("a range marks the pages that it touches, and no other", () => {
  const length = fc.nat(70 * DIRTY_LOG_PAGE);
  fc.assert(fc.property(fc.nat(70 * DIRTY_LOG_PAGE), length, (at, length) => {
    const bits = new Uint8Array(dirtyLogSize(160 * DIRTY_LOG_PAGE));
    const log = new DirtyLog(bits);
    log.mark(at, length);
    const pages: number[] = [];
    for (let page = 0; page < 160; page++) {
      const start = page * DIRTY_LOG_PAGE;
      if (
        length > 0 && start < at + length && start + DIRTY_LOG_PAGE > at
      ) pages.push(page);
    }
    assertEquals(pagesOf(bits), pages);
    assertEquals([log.changed, log.lost], [length > 0, 0]);
  }));
});

Deno.test("addresses beyond 4 GiB have their bits", () => {
  const base = 5 * 2 ** 32;
  const bits = new Uint8Array(dirtyLogSize(base) + 1);
  new DirtyLog(bits).mark(base + 3 * DIRTY_LOG_PAGE + 5, 1);
  assertEquals(bits[dirtyLogSize(base)], 0b1000);
  const log = new DirtyLog(bits);
  log.mark(Number.MAX_SAFE_INTEGER - 1, 1);
  assertEquals(log.lost, 1);
});

Deno.test("what is there stays, and what lies behind the end is counted", () => {
  const bits = Uint8Array.of(0x81, 0);
  const log = new DirtyLog(bits);
  log.mark(DIRTY_LOG_PAGE, 1);
  assertEquals([...bits], [0x83, 0]);
  log.mark(15 * DIRTY_LOG_PAGE, 10 * DIRTY_LOG_PAGE);
  assertEquals([...bits], [0x83, 0x80]);
  assertEquals(log.lost, 2);
});

Deno.test("entries of a ring are marked around its end", () => {
  const width = DIRTY_LOG_PAGE;
  const cases: [from: number, count: number, pages: number[]][] = [
    [0, 0, []],
    [0, 1, [10]],
    [2, 2, [12, 13]],
    [3, 2, [10, 13]],
    [1, 3, [11, 12, 13]],
    [2, 4, [10, 11, 12, 13]],
    [2, 9, [10, 11, 12, 13]],
  ];
  for (const [from, count, pages] of cases) {
    const bits = new Uint8Array(8);
    new DirtyLog(bits).markEntries(10 * width, width, from, count, 4);
    assertEquals(pagesOf(bits), pages, `${count} entries from ${from}`);
  }
});

Deno.test("the size of a log covers the last byte", () => {
  assertEquals([0, 1, 32768, 32769].map(dirtyLogSize), [0, 1, 1, 2]);
});

Deno.test("marks are atomic, also those that are there already", () => {
  const bits = new Uint8Array(1);
  const log = new DirtyLog(bits);
  const { or } = Atomics;
  let calls = 0;
  Atomics.or = ((array: Uint8Array, at: number, mask: number): number => {
    calls++;
    // Somebody else marks a page at the worst moment.
    array[at] |= 0x80;
    return or(array, at, mask);
  }) as typeof Atomics.or;
  try {
    log.mark(0, 1);
    log.mark(0, 1);
  } finally {
    Atomics.or = or;
  }
  assertEquals([bits[0], calls], [0x81, 2]);
});
