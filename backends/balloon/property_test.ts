import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { BalloonBench, type BenchRegion } from "./testing/bench.ts";
import { profileRuns, ringTest } from "../../virtqueue/testing/ring_profile.ts";

// A model of what may be given back: pages in the balloon, and pages reported in
// the request at hand. Every hole is translated back into guest pages and held
// against it, whatever the regions look like; pages outside keep their bytes.

const PAGE = 4096;
/** What memory is filled with. */
const FILL = 0xaa;
const FIRST = 250;
const PAGES = 80;
/** A page size of the host that keeps the model small. */
const HUGE = 8;

/** Regions that follow each other, with gaps, over pages of either size. */
const regionsArbitrary = fc.array(
  fc.record({
    gap: fc.nat({ max: 5 }),
    pages: fc.integer({ min: 1, max: 24 }),
    offset: fc.oneof(
      { weight: 4, arbitrary: fc.nat({ max: 10 }).map((n) => n * PAGE) },
      { weight: 1, arbitrary: fc.constantFrom(1, 512, PAGE + 2048) },
    ),
    huge: fc.boolean(),
    backed: fc.integer({ min: 0, max: 5 }).map((n) => n > 0),
  }),
  { minLength: 1, maxLength: 4 },
).map((parts): BenchRegion[] => {
  let page = FIRST;
  return parts.map(({ gap, pages, offset, huge, backed }, i) => {
    const start = page + gap;
    page = start + pages;
    return {
      page: start,
      pages,
      offset,
      fd: backed ? 10 + i : -1,
      pageSize: (huge ? HUGE : 1) * PAGE,
    };
  });
});

const pageArbitrary = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.integer({ min: FIRST - 5, max: FIRST + PAGES }),
  },
  { weight: 1, arbitrary: fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1) },
);
const listArbitrary = fc.oneof(
  fc.array(pageArbitrary, { maxLength: 40 }),
  fc.tuple(pageArbitrary, fc.integer({ min: 1, max: 40 })).map(
    ([first, count]) =>
      Array.from({ length: count }, (_, i) => (first + i) >>> 0),
  ),
);

const stepArbitrary = fc.oneof(
  fc.record({ kind: fc.constant("inflate" as const), pages: listArbitrary }),
  fc.record({ kind: fc.constant("deflate" as const), pages: listArbitrary }),
  fc.record({
    kind: fc.constant("report" as const),
    /** Place in a region and length, in thousandths of it. */
    region: fc.nat({ max: 3 }),
    from: fc.nat({ max: 999 }),
    to: fc.nat({ max: 1000 }),
    aligned: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("log" as const), on: fc.boolean() }),
  fc.constant({ kind: "reset" as const }),
);

/** Pages of the model. */
class Model {
  readonly balloon = new Set<number>();

  constructor(
    readonly bench: BalloonBench,
    readonly regions: readonly BenchRegion[],
  ) {}

  holds(page: number): boolean {
    return this.regions.some((region) =>
      page >= region.page && page < region.page + region.pages
    );
  }

  /** Checks that every hole since the last call lies in what may go. */
  check(reported: { start: number; end: number } | null): void {
    for (const { fd, offset, length } of this.bench.pages.holes.splice(0)) {
      const region = this.regions.find((one) => one.fd === fd);
      assert(region !== undefined, `a hole in fd ${fd}`);
      const start = offset - region.offset! + region.page * PAGE;
      const end = start + length;
      assert(start >= region.page * PAGE, "a hole before the region");
      assert(end <= (region.page + region.pages) * PAGE, "a hole behind it");
      assertEquals(offset % region.pageSize!, 0);
      assertEquals(length % region.pageSize!, 0);
      if (reported !== null) {
        assert(start >= reported.start && end <= reported.end);
        continue;
      }
      assertEquals(start % PAGE, 0);
      for (let page = start / PAGE; page < end / PAGE; page++) {
        assert(this.balloon.has(page), `page ${page} is not in the balloon`);
      }
    }
  }
}

ringTest("no page outside of the balloon is ever touched", () => {
  fc.assert(
    fc.property(
      regionsArbitrary,
      fc.array(stepArbitrary, { maxLength: 12 }),
      (regions, steps) => {
        using bench = new BalloonBench({ regions });
        const model = new Model(bench, regions);
        let inhibited = false;
        // Pages that were ever named: all others keep their bytes.
        const named = new Set<number>();
        for (const step of steps) {
          switch (step.kind) {
            case "inflate": {
              const valid = step.pages.filter((page) => model.holds(page));
              for (const page of valid) model.balloon.add(page);
              for (const page of valid) named.add(page);
              bench.inflate(...step.pages);
              if (inhibited) assertEquals(bench.pages.holes, []);
              model.check(null);
              break;
            }
            case "deflate":
              for (const page of step.pages) model.balloon.delete(page);
              bench.deflate(...step.pages);
              assertEquals(bench.pages.holes, []);
              break;
            case "report": {
              const region = regions[step.region % regions.length];
              const size = region.pages * PAGE;
              const unit = step.aligned ? PAGE : 1;
              const cut = (at: number): number =>
                Math.floor(size * at / 1000 / unit) * unit;
              const start = region.page * PAGE +
                cut(Math.min(step.from, step.to));
              const end = region.page * PAGE +
                cut(Math.max(step.from, step.to));
              if (start === end) break;
              bench.submit(3, {
                address: start,
                length: end - start,
                write: true,
              });
              if (inhibited) assertEquals(bench.pages.holes, []);
              for (
                let page = Math.floor(start / PAGE);
                page < Math.ceil(end / PAGE);
                page++
              ) named.add(page);
              model.check({ start, end });
              break;
            }
            case "log":
              inhibited = step.on;
              bench.device.logWrites(step.on);
              // What was put off is done now, and nothing else.
              for (let i = 0; i < 20; i++) bench.turn();
              if (inhibited) assertEquals(bench.pages.holes, []);
              else assertEquals(bench.device.status().waiting, 0);
              model.check(null);
              break;
            case "reset": {
              const features = bench.device.features;
              bench.device.reset();
              bench.device.negotiate(features);
              model.balloon.clear();
            }
          }
          const { reclaimed, partial } = bench.device.status();
          assert((reclaimed as number) >= 0 && (partial as number) >= 0);
          assert(
            (reclaimed as number) + (partial as number) <=
              model.balloon.size * PAGE,
          );
        }
        for (const region of regions) {
          if (region.fd! < 0) continue;
          const file = bench.pages.files.get(region.fd!)!;
          for (let i = 0; i < region.pages; i++) {
            if (named.has(region.page + i)) continue;
            const at = region.offset! + i * PAGE;
            assert(file.subarray(at, at + PAGE).every((byte) => byte === FILL));
          }
        }
      },
    ),
    { numRuns: profileRuns(800) },
  );
});

ringTest("what is put into the balloon goes, all of it and at once", () => {
  const list = fc.array(fc.integer({ min: 256, max: 1279 }), {
    minLength: 1,
    maxLength: 600,
  });
  fc.assert(fc.property(list, (pages) => {
    using bench = new BalloonBench();
    bench.inflate(...pages);
    const gone = new Set<number>();
    for (const [start, count] of bench.pages.takePages()) {
      for (let i = 0; i < count; i++) gone.add(256 + start + i);
    }
    assertEquals(gone, new Set(pages));
    assertEquals(bench.device.status().reclaimed, gone.size * PAGE);
    bench.deflate(...pages);
    assertEquals(bench.device.status().reclaimed, 0);
  }));
});
