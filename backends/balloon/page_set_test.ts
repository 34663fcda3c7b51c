import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { PageSet } from "./page_set.ts";

Deno.test("pages are found in their order, across words and parts", () => {
  const pages = new PageSet();
  const all = [
    0,
    1,
    31,
    32,
    2 ** 18 - 1,
    2 ** 18,
    3 * 2 ** 18 + 77,
    2 ** 32 - 1,
  ];
  for (const page of all.toReversed()) pages.add(page);
  const found: number[] = [];
  for (let page = pages.next(0); page >= 0; page = pages.next(page + 1)) {
    found.push(page);
    if (page === 2 ** 32 - 1) break;
  }
  assertEquals(found, all);
  assertEquals([pages.next(2), pages.next(33)], [31, 2 ** 18 - 1]);
  pages.clear();
  assertEquals(pages.next(0), -1);
});

Deno.test("a page set is a set of 32-bit numbers", () => {
  const page = fc.oneof(
    fc.nat({ max: 70 }),
    fc.integer({ min: 2 ** 18 - 3, max: 2 ** 18 + 3 }),
    fc.integer({ min: 2 ** 31 - 3, max: 2 ** 31 + 3 }),
    fc.integer({ min: 2 ** 32 - 3, max: 2 ** 32 - 1 }),
  );
  const change = fc.tuple(fc.constantFrom("add", "delete", "clear"), page);
  fc.assert(fc.property(fc.array(change), (changes) => {
    const pages = new PageSet(), model = new Set<number>();
    for (const [what, page] of changes) {
      if (what === "add") {
        assertEquals(pages.add(page), !model.has(page));
        model.add(page);
      } else if (what === "delete") {
        assertEquals(pages.delete(page), model.delete(page));
      } else if (page === 0) {
        pages.clear();
        model.clear();
      }
      assertEquals([pages.size, pages.has(page)], [
        model.size,
        model.has(page),
      ]);
    }
  }));
});
