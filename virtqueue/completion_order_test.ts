import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { CompletionOrder } from "./completion_order.ts";

function drain(order: CompletionOrder): [key: number, written: number][] {
  const out: [number, number][] = [];
  for (let key = order.next(); key >= 0; key = order.next()) {
    out.push([key, order.written(key)]);
  }
  return out;
}

Deno.test("what is complete waits for what was taken before it", () => {
  const order = new CompletionOrder(4);
  assertEquals(order.next(), -1);
  for (const key of [2, 0, 3]) order.take(key);
  order.finish(0, 7);
  order.finish(3, 8);
  assertEquals(drain(order), []);
  order.finish(2, 9);
  assertEquals(drain(order), [[2, 9], [0, 7], [3, 8]]);
});

Deno.test("a chain that was given back leaves the line, refused ones stay", () => {
  const order = new CompletionOrder(4);
  for (const key of [1, 2, 3]) order.take(key);
  order.finish(3, 0); // Refused, behind the one that is given back.
  order.untake(2);
  order.finish(1, 5);
  assertEquals(drain(order), [[1, 5], [3, 0]]);
  order.take(2);
  order.untake(2);
  assertEquals(drain(order), []);
});

Deno.test("CompletionOrder is a queue that lets out what is complete", () => {
  const act = fc.tuple(
    fc.constantFrom("take", "untake", "finish", "drain"),
    fc.nat(8),
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.array(act, { maxLength: 100 }),
      (size, acts) => {
        const order = new CompletionOrder(size);
        const line: { key: number; written: number }[] = [];
        for (const [what, which] of acts) {
          const key = which % size;
          const found = line.find((each) => each.key === key);
          if (what === "take" && found === undefined) {
            order.take(key);
            line.push({ key, written: -1 });
          } else if (what === "finish" && found !== undefined) {
            order.finish(key, found.written = which);
          } else if (what === "untake" && line.at(-1)?.written === -1) {
            order.untake(line.pop()!.key);
          } else if (what === "drain") {
            const wanted: [number, number][] = [];
            while (line.length > 0 && line[0].written >= 0) {
              const { key, written } = line.shift()!;
              wanted.push([key, written]);
            }
            assertEquals(drain(order), wanted);
          }
        }
      },
    ),
  );
});
