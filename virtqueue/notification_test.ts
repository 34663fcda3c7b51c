import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { needEvent, needPackedEvent } from "./notification.ts";
import { encodePosition } from "./packed_ring.ts";

const index = fc.integer({ min: 0, max: 0xffff });

Deno.test("needEvent() is true when the step passes the event", () => {
  // A step from 4 to 5 completes entry 4, from 4 to 7 entries 4, 5 and 6.
  assertEquals(needEvent(4, 5, 4), true);
  assertEquals(needEvent(3, 5, 4), false);
  assertEquals(needEvent(5, 5, 4), false);
  assertEquals([3, 4, 5, 6, 7].map((event) => needEvent(event, 7, 4)), [
    false,
    true,
    true,
    true,
    false,
  ]);
});

Deno.test("needEvent() is false when nothing was published", () => {
  fc.assert(
    fc.property(index, index, (event, at) => !needEvent(event, at, at)),
  );
});

Deno.test("needEvent() is true for exactly the entries of a step", () => {
  fc.assert(
    fc.property(
      index,
      index,
      fc.integer({ min: 0, max: 32768 }),
      (event, previous, step) => {
        const next = (previous + step) & 0xffff;
        // Written without modular tricks: walk from `previous` to `next`.
        let passed = false;
        for (let i = 0; i < step; i++) {
          if ((previous + i) % 65536 === event) passed = true;
        }
        assertEquals(needEvent(event, next, previous), passed);
      },
    ),
  );
});

Deno.test("needPackedEvent() is true for exactly the descriptors of a step", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.nat(),
      fc.nat(),
      fc.nat(),
      (size, from, length, at) => {
        const laps = 2 * size;
        const previous = from % laps, step = length % (size + 1);
        const event = at % laps;
        let passed = false;
        for (let i = 0; i < step; i++) {
          if ((previous + i) % laps === event) passed = true;
        }
        assertEquals(
          needPackedEvent(
            encodePosition(event, size),
            (previous + step) % laps,
            previous,
            size,
          ),
          passed,
        );
      },
    ),
  );
});

Deno.test("needPackedEvent() takes an event beyond the ring for passed", () => {
  assertEquals(needPackedEvent(7, 1, 0, 7), true);
  assertEquals(needPackedEvent(0xffff, 1, 0, 7), true);
});
