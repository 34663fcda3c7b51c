import { assertEquals } from "@std/assert";
import { unhex } from "./names.ts";
import { TargetBench } from "./testing/bench.ts";
import { be, parameter } from "./testing/cases.ts";
import {
  A,
  B,
  cdb,
  list,
  NONE,
  out,
  readIn,
  register,
  WE,
} from "./testing/persistent.ts";

/** A parameter list that registers others as well. */
function listOf(...transportIds: Uint8Array[]): Uint8Array {
  return Uint8Array.from([
    ...list(NONE, A, 8),
    ...be(24 * transportIds.length, 4),
    ...transportIds.flatMap((id) => [...id]),
  ]);
}

Deno.test("SPEC_I_PT registers others that are there, or nobody", () => {
  using bench = new TargetBench();
  const { first } = bench;
  const second = bench.join("second"), third = bench.join("third");
  const [own, two, three] = [first, second, third]
    .map(({ nexus }) => nexus.initiator.transportId);
  const run = (out: Uint8Array) => first.run(cdb(0, 0, out.length), { out });
  const stranger = new Uint8Array(24).fill(9);
  assertEquals(run(listOf(two, stranger)).sense, parameter(28 + 24));
  assertEquals(run(listOf(two).slice(0, 40)).sense, { key: 5, asc: 0x1a00 });
  assertEquals(readIn(first, 0).slice(4), be(0, 4));
  register(third, B);
  // Oneself and whoever is registered already are left as they are.
  assertEquals(run(listOf(own, two, two, three)).status, 0);
  assertEquals(readIn(first, 0), [
    ...be(2, 4),
    ...be(24, 4),
    ...[B, A, A].flatMap((key) => [...unhex(key)]),
  ]);
  assertEquals(out(second, 1, A, NONE, WE), 0);
  // Whoever is registered has nobody else registered.
  const again = Uint8Array.from([...unhex(A), ...listOf(two).slice(8)]);
  assertEquals(run(again).sense, parameter(20, 3));
});

Deno.test("ALL_TG_PT says what is so: there is one target port", () => {
  using bench = new TargetBench();
  assertEquals(out(bench.first, 0, NONE, A, 0, 4), 0);
  assertEquals(out(bench.first, 6, NONE, B, 0, 4), 0);
  assertEquals(readIn(bench.first, 0).slice(8), [...unhex(B)]);
});
