import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  concat,
  copy,
  endsWith,
  equals,
  includesNeedle,
  indexOfNeedle,
  repeat,
  startsWith,
} from "@std/bytes";

const bytes = (...values: readonly number[]) => new Uint8Array(values);
const text = (value: string) => new TextEncoder().encode(value);

Deno.test("concat() joins into a new array", () => {
  const parts = [text("Virtio"), text(" "), text("net"), bytes()];
  const joined = concat(parts);
  assertEquals(joined, text("Virtio net"));
  const alone = concat([parts[0]]);
  assertEquals(alone, parts[0]);
  assert(alone !== parts[0]);
  assertEquals(concat([]), bytes());
  assertEquals(concat([bytes(), bytes()]).byteLength, 0);
});

Deno.test("copy() copies what fits", () => {
  const cases: [Uint8Array, number | undefined, number, Uint8Array][] = [
    [bytes(1, 2), 0, 2, bytes(1, 2, 0, 0)],
    [bytes(1, 2), 1, 2, bytes(0, 1, 2, 0)],
    [bytes(1, 2), 3, 1, bytes(0, 0, 0, 1)],
    [bytes(1, 2, 3, 4, 5), undefined, 4, bytes(1, 2, 3, 4)],
    [bytes(1, 2), 100, 0, bytes(0, 0, 0, 0)],
    [bytes(1, 2), -2, 2, bytes(1, 2, 0, 0)],
  ];
  for (const [source, offset, count, expected] of cases) {
    const target = bytes(0, 0, 0, 0);
    assertEquals(copy(source, target, offset), count);
    assertEquals(target, expected);
  }
});

Deno.test("startsWith() and endsWith() compare one end", () => {
  assert(startsWith(bytes(1, 2, 3), bytes(1, 2)));
  assert(startsWith(bytes(1, 2), bytes(1, 2)));
  assert(startsWith(bytes(1), bytes()));
  assert(!startsWith(bytes(0, 1, 2), bytes(0, 2)));
  assert(!startsWith(bytes(0, 1), bytes(0, 1, 2)));
  assert(endsWith(bytes(1, 2, 3), bytes(2, 3)));
  assert(endsWith(bytes(1, 2), bytes(1, 2)));
  assert(endsWith(bytes(1), bytes()));
  assert(!endsWith(bytes(0, 1, 2), bytes(0, 2)));
  assert(!endsWith(bytes(1, 2), bytes(0, 1, 2)));
});

Deno.test("equals() looks at every byte of any alignment", () => {
  assert(equals(bytes(), bytes()));
  assert(!equals(bytes(1, 0), bytes(1)));
  assert(!equals(bytes(1), bytes(1, 0)));
  for (let offsetA = 0; offsetA < 4; offsetA++) {
    for (let offsetB = 0; offsetB < 4; offsetB++) {
      for (const length of [1, 7, 158, 159, 160, 161, 162, 163]) {
        const a = new Uint8Array(new ArrayBuffer(length + offsetA), offsetA);
        const b = new Uint8Array(new ArrayBuffer(length + offsetB), offsetB);
        for (let at = 0; at < length; at++) {
          assert(equals(a, b));
          a[at] = 1;
          assert(!equals(a, b));
          b[at] = 1;
        }
      }
    }
  }
});

Deno.test("indexOfNeedle() finds the first place", () => {
  const cases: [Uint8Array, Uint8Array, number | undefined, number][] = [
    [bytes(1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 3), bytes(0, 1, 2), undefined, 2],
    [bytes(0, 0, 1), bytes(0, 1), undefined, 1],
    [bytes(1, 1, 2), bytes(1, 2), undefined, 1],
    [text("virtio"), text("v"), undefined, 0],
    [bytes(), bytes(0, 1), undefined, -1],
    [bytes(0, 1), bytes(0, 1, 2), undefined, -1],
    [bytes(0, 1, 0), bytes(0, 1, 0, 1), undefined, -1],
    [bytes(0, 1, 2, 0, 1, 2), bytes(0, 1), 1, 3],
    [bytes(0, 1, 2, 0, 1, 2), bytes(0, 1), 3, 3],
    [bytes(0, 1, 2, 1, 1, 2), bytes(0, 1), 3, -1],
    [bytes(0, 1, 2, 0, 1, 2), bytes(0, 1), 7, -1],
    [bytes(0, 1, 2, 0, 1, 2), bytes(0, 1), -3, 3],
    [bytes(0, 1, 2, 1, 1, 2), bytes(0, 1), -3, -1],
    [bytes(0, 1), bytes(0, 1), -10, 0],
    [bytes(0, 1), bytes(), undefined, -1],
  ];
  for (const [source, needle, start, expected] of cases) {
    assertEquals(indexOfNeedle(source, needle, start), expected);
    assertEquals(includesNeedle(source, needle, start), expected >= 0);
  }
});

Deno.test("repeat()", () => {
  assertEquals(repeat(text("ab "), 3), text("ab ab ab "));
  assertEquals(repeat(text("-"), 0), bytes());
  assertEquals(repeat(bytes(), 2), bytes());
  for (const count of [-1, 1.1, NaN]) {
    assertThrows(
      () => repeat(text("-"), count),
      RangeError,
      "Count must be a non-negative integer",
    );
  }
});
