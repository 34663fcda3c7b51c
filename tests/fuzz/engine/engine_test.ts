import { assert, assertEquals } from "@std/assert";
import { minimize } from "./minimize.ts";
import { Mutator, recordCount, withoutRecords } from "./mutator.ts";
import { Random } from "./random.ts";
import { CoverageMap, coversAll } from "./coverage.ts";

const SHAPE = { header: 2, record: 4, maxRecords: 6 };

Deno.test("a seed makes the same inputs again", () => {
  const make = (seed: number): Uint8Array[] => {
    const mutator = new Mutator(SHAPE, new Random(seed));
    let input = mutator.generate();
    return Array.from({ length: 50 }, () => {
      input = mutator.mutate(input, mutator.generate());
      return input;
    });
  };
  assertEquals(make(7), make(7));
  assert(make(7).some((input, i) => `${input}` !== `${make(8)[i]}`));
});

Deno.test("numbers below a limit are all there, and none beyond", () => {
  const random = new Random(1);
  const seen = new Set(Array.from({ length: 1000 }, () => random.below(10)));
  assertEquals([...seen].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

Deno.test("mutated inputs have a header and whole records, not too many", () => {
  const mutator = new Mutator(SHAPE, new Random(3));
  const counts = new Set<number>();
  let input: Uint8Array = new Uint8Array(0);
  for (let i = 0; i < 2000; i++) {
    // One that is cut off is as good as any.
    const other = mutator.generate().subarray(0, i % 20);
    input = mutator.mutate(input, other);
    assertEquals((input.length - SHAPE.header) % SHAPE.record, 0);
    counts.add(recordCount(input, SHAPE));
  }
  assertEquals([...counts].sort(), [0, 1, 2, 3, 4, 5, 6]);
});

Deno.test("records are taken out where they are", () => {
  const input = Uint8Array.of(9, 9, 1, 1, 1, 1, 2, 2, 2, 2, 3);
  assertEquals(recordCount(input, SHAPE), 3);
  assertEquals(
    withoutRecords(input, SHAPE, 1, 1),
    Uint8Array.of(9, 9, 1, 1, 1, 1, 3),
  );
  assertEquals(
    withoutRecords(input, SHAPE, 1, 5),
    Uint8Array.of(9, 9, 1, 1, 1, 1),
  );
});

Deno.test("what does not matter is taken out of an input", async () => {
  const input = new Uint8Array(2 + 4 * 6).map((_, i) => i + 1);
  input[2 + 4 * 3 + 1] = 77;
  let runs = 0;
  const small = await minimize(input, SHAPE, (candidate) => {
    runs++;
    return candidate.includes(77);
  });
  assertEquals(small, Uint8Array.of(0, 0, 0, 77));
  assert(runs < 100, `${runs} runs`);
});

Deno.test("minimizing ends where it may not run any more", async () => {
  let runs = 0;
  await minimize(new Uint8Array(26).fill(1), SHAPE, () => ++runs > 0, 3);
  assertEquals(runs, 3);
});

Deno.test("what was covered once is not new again", () => {
  const map = new CoverageMap();
  const first = new Map([["f", Uint8Array.of(1, 1, 0, 0)]]);
  assertEquals(map.novel(first), [["f", 0]]);
  map.add(first);
  assertEquals(map.novel(first), []);
  const second = new Map([["f", Uint8Array.of(1, 0, 1, 1)]]);
  const places = map.novel(second);
  assertEquals(places, [["f", 2]]);
  assertEquals([coversAll(first, places), coversAll(second, places)], [
    false,
    true,
  ]);
  map.add(second);
  assertEquals([map.functions, map.characters], [1, 4]);
});
