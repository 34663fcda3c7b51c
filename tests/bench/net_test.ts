import { assert, assertEquals } from "@std/assert";
import { netTable } from "./net.ts";
import { measureLoop } from "./net_loop.ts";
import { guestTable } from "./net_guest.ts";

Deno.test("all frames of bench:net --loop arrive, of any size", () => {
  for (const size of [14, 64, 1518]) assert(measureLoop(size, 640) > 0);
});

Deno.test("the table of bench:net-guest has medians", () => {
  const name = "vhostd, TAP";
  const table = guestTable({
    machine: {},
    mebibytes: 1,
    runs: [[9, 100], [11, 300], [10, 200]].map(([sent, received]) => ({
      ...{ name, sent, received },
    })),
  });
  assertEquals(table.split("\n").slice(2).map((row) => row.split(/ *\| */)), [
    ["", name, "10", "200", ""],
  ]);
});

Deno.test("the table of bench:net has medians, and the median of ratios", () => {
  const run = (frames: number) => ({ frames, cpu: 0.5 });
  const table = netTable({
    machine: {},
    seconds: 1,
    cases: [{
      size: 125,
      switch: [1e6, 3e6, 2e6].map(run),
      testpmd: [4e6, 4e6, 8e6].map(run),
    }],
  });
  assertEquals(table.split("\n").slice(2), [
    "| 125 | switch | 2000 | 2.00 | 0.50 | 0.25 |",
    "| 125 | testpmd | 4000 | 4.00 | 0.50 |  |",
  ]);
});
