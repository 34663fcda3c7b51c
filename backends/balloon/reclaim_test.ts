import { assertEquals } from "@std/assert";
import { BalloonBench } from "./testing/bench.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const MIB2 = 2 ** 21;
const HUGE = 512;

/** The pages of a huge page, without those left out. */
function pagesOf(first: number, ...without: readonly number[]): number[] {
  return Array.from({ length: HUGE }, (_, i) => first + i)
    .filter((page) => !without.includes(page));
}

/** Puts any number of pages into the balloon. */
function inflate(bench: BalloonBench, pages: readonly number[]): void {
  for (let i = 0; i < pages.length; i += 256) {
    bench.inflate(...pages.slice(i, i + 256));
  }
}

function huge(page: number, pages: number, offset = 0) {
  return new BalloonBench({
    regions: [{ page, pages, offset, fd: 3, pageSize: MIB2 }],
  });
}

ringTest("a huge page goes when all of it is in the balloon", () => {
  using bench = huge(0, 4 * HUGE, MIB2);
  inflate(bench, pagesOf(HUGE, HUGE + 5));
  assertEquals(bench.pages.holes, []);
  assertEquals(bench.device.status().partial, 511 * 4096);
  bench.inflate(HUGE + 4, HUGE + 4, HUGE + 6, 0, 2 * HUGE);
  assertEquals(bench.pages.holes, []);
  assertEquals(bench.device.status().partial, 513 * 4096);
  bench.inflate(HUGE + 5);
  assertEquals(bench.pages.holes, [
    { fd: 3, offset: 2 * MIB2, length: MIB2 },
  ]);
  const { reclaimed, partial } = bench.device.status();
  assertEquals([reclaimed, partial], [MIB2, 2 * 4096]);
});

ringTest("a huge page of which a page came out counts again from there", () => {
  using bench = huge(0, 2 * HUGE);
  inflate(bench, pagesOf(HUGE));
  bench.deflate(HUGE + 7);
  bench.deflate(HUGE + 7);
  assertEquals(bench.device.status().reclaimed, 0);
  assertEquals(bench.device.status().partial, 511 * 4096);
  bench.pages.takePages();
  bench.inflate(HUGE + 8);
  assertEquals(bench.pages.takePages(), []);
  bench.inflate(HUGE + 7);
  assertEquals(bench.pages.takePages(), [[HUGE, HUGE]]);
  for (const page of pagesOf(HUGE)) bench.deflate(page);
  const { reclaimed, partial } = bench.device.status();
  assertEquals([reclaimed, partial], [0, 0]);
});

ringTest("a huge page that a region has a part of never goes", () => {
  // The region starts and ends in the middle of huge pages of its file.
  using bench = huge(256, 2 * HUGE, MIB2 / 2);
  inflate(bench, Array.from({ length: 2 * HUGE }, (_, i) => 256 + i));
  assertEquals(bench.pages.holes, [{ fd: 3, offset: MIB2, length: MIB2 }]);
  assertEquals(bench.device.status().partial, MIB2);
});

ringTest("parts of two files never make a huge page", () => {
  for (const order of [[0, 256], [256, 0]]) {
    using bench = new BalloonBench({
      regions: [
        { page: HUGE, pages: 256, fd: 3, pageSize: MIB2 },
        {
          page: HUGE + 256,
          pages: 256,
          fd: 4,
          offset: MIB2 / 2,
          pageSize: MIB2,
        },
      ],
    });
    for (const half of order) {
      inflate(bench, pagesOf(HUGE + half).slice(0, 256));
    }
    assertEquals(bench.pages.holes, []);
    assertEquals(bench.device.status().partial, MIB2);
  }
});

ringTest("huge pages lie in the file, not in guest addresses", () => {
  using bench = huge(3, 2 * HUGE);
  inflate(bench, pagesOf(3));
  assertEquals(bench.pages.holes, [{ fd: 3, offset: 0, length: MIB2 }]);
});

ringTest("reports of huge pages go whole, in one step", () => {
  using bench = huge(0, 64 * HUGE);
  bench.offer(3, [{
    address: 4096,
    length: 63 * MIB2,
    write: true,
  }]);
  bench.turn();
  assertEquals(bench.drivers[3].reap().length, 1);
  assertEquals(bench.pages.holes, [
    { fd: 3, offset: MIB2, length: 62 * MIB2 },
  ]);
});

ringTest(
  "a full huge page stays while writes are logged, and goes later",
  () => {
    using bench = huge(0, HUGE);
    bench.device.logWrites(true);
    inflate(bench, pagesOf(0));
    assertEquals(bench.pages.holes, []);
    assertEquals(bench.device.status().waiting, MIB2);
    bench.deflate(9);
    assertEquals(bench.device.status().waiting, 0);
    bench.inflate(9);
    bench.device.logWrites(false);
    bench.turn();
    assertEquals(bench.pages.takePages(), [[0, HUGE]]);
    const { reclaimed, waiting } = bench.device.status();
    assertEquals([reclaimed, waiting], [MIB2, 0]);
  },
);

ringTest("a reset empties the balloon", () => {
  using bench = huge(0, HUGE);
  inflate(bench, pagesOf(0));
  bench.device.reset();
  const { reclaimed, partial } = bench.device.status();
  assertEquals([reclaimed, partial], [0, 0]);
  bench.pages.takePages();
  inflate(bench, pagesOf(0));
  assertEquals(bench.pages.takePages(), [[0, HUGE]]);
});
