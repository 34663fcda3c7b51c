import { assert, assertEquals } from "@std/assert";
import { DRIVERS, driverTable, negotiated } from "./freebsd_drivers.ts";

const PAGE = new URL("../../docs/freebsd.md", import.meta.url);
const BEGIN = "<!-- drivers -->", END = "<!-- end of drivers -->";

Deno.test("drivers: docs/freebsd.md has what each driver negotiates", () => {
  const [, rest] = Deno.readTextFileSync(PAGE).split(BEGIN);
  assert(rest?.includes(END), `"${BEGIN}" or its end is missing`);
  const lines = rest.split(END)[0].trim().split("\n").slice(2);
  const cells = lines.map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
  // To write it anew: deno eval with driverTable(), a line for each entry.
  assertEquals(cells, driverTable());
});

Deno.test("drivers: four drivers of four releases", () => {
  assertEquals(DRIVERS.length, 16);
  const blk = DRIVERS.find(({ driver, release }) =>
    driver === "virtio_blk" && release.name === "15.1"
  )!;
  // As a verbose boot of that driver shows for a disk with these features.
  assertEquals(negotiated(blk, "legacy"), 0x10002e54n);
  assertEquals(negotiated(blk, "modern"), 0x110002e54n);
});
