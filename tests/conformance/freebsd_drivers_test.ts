import { assert, assertEquals } from "@std/assert";
import {
  VTBALLOON_10_4,
  VTBALLOON_12_1,
  VTBALLOON_13_2,
  VTBALLOON_15_1,
} from "./freebsd_balloon/profiles.ts";
import {
  VTBLK_10_4,
  VTBLK_12_1,
  VTBLK_13_2,
  VTBLK_15_1,
} from "./freebsd_blk/profiles.ts";
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

Deno.test("drivers: four drivers of every release from 9 to 15", () => {
  assertEquals(
    [...new Set(DRIVERS.map(({ release }) => release.name.split(".")[0]))],
    ["9", "10", "11", "12", "13", "14", "15"],
  );
  assertEquals(DRIVERS.length, 4 * 7);
  const find = (driver: string, release: string) =>
    DRIVERS.find((one) =>
      one.driver === driver && one.release.name === release
    )!;
  // As a verbose boot of that driver shows for a disk with these features.
  const blk = find("virtio_blk", "15.1");
  assertEquals(negotiated(blk, "legacy"), 0x10002e54n);
  assertEquals(negotiated(blk, "modern"), 0x110002e54n);
  // 9.3 does not ask for TOPOLOGY (bit 10).
  assertEquals(negotiated(find("virtio_blk", "9.3"), "legacy"), 0x10000a54n);
  assertEquals(negotiated(find("virtio_blk", "10.4"), "legacy"), 0x10000e54n);
});

Deno.test("drivers: the profiles of the models are those of the table", () => {
  for (
    const profile of [VTBLK_10_4, VTBLK_12_1, VTBLK_13_2, VTBLK_15_1]
  ) {
    const found = DRIVERS.find(({ driver, release }) =>
      driver === "virtio_blk" && release === profile.release
    )!;
    assertEquals(found.asks, {
      legacy: profile.legacyFeatures,
      modern: profile.modernFeatures,
    });
  }
  for (
    const profile of [
      VTBALLOON_10_4,
      VTBALLOON_12_1,
      VTBALLOON_13_2,
      VTBALLOON_15_1,
    ]
  ) {
    const found = DRIVERS.find(({ driver, release }) =>
      driver === "virtio_balloon" && release === profile.release
    )!;
    assertEquals(found.asks.modern, profile.features);
  }
});

Deno.test("drivers: vtnet(4) has other words until 12", () => {
  const words = driverTable().filter(([driver, , mode]) =>
    driver === "vtnet(4)" && mode === "legacy"
  ).map(([, release, , , names]) => [release, names.split(", ")] as const);
  for (const [release, names] of words) {
    const old = Number(release.split(".")[0]) <= 12;
    assertEquals(names.includes("MacAddress"), old, release);
    assertEquals(names.includes("RxTSOv4"), old, release);
    assertEquals(names.includes("RxLROv4"), !old, release);
    assertEquals(names.includes("CtrlRxOffloads"), !old, release);
  }
  // VTNET_LEGACY_FEATURES alone has the old bit for all of TSO.
  for (const { driver, release, asks } of DRIVERS) {
    if (driver !== "vtnet") continue;
    assertEquals((asks.legacy & 1n << 6n) !== 0n, true, release.name);
    assertEquals(asks.modern & 1n << 6n, 0n, release.name);
  }
});
