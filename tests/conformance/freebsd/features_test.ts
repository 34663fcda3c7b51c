import { assertEquals } from "@std/assert";
import {
  COMMON_NAMES_10,
  COMMON_NAMES_13,
  describeFeatures,
  filterTransportFeatures,
} from "./features.ts";

Deno.test("describeFeatures() names bits from the highest down, and hides 30", () => {
  assertEquals(
    describeFeatures("host", 0x7800_0001n, { 0: "Zero" }, COMMON_NAMES_10),
    "host features: 0x78000001 <EventIdx,RingIndirect,0x8000000,Zero>",
  );
  assertEquals(
    describeFeatures("negotiated", 0x1_0800_0000n, {}, COMMON_NAMES_13),
    "negotiated features: 0x108000000 <Version1,AnyLayout>",
  );
  assertEquals(
    describeFeatures("host", 0n, {}, COMMON_NAMES_13),
    "host features: 0",
  );
});

Deno.test("filterTransportFeatures() keeps what the virtqueue driver knows", () => {
  const all = (1n << 64n) - 1n;
  assertEquals(filterTransportFeatures(all, "10"), 0x3fff_ffffn);
  assertEquals(
    filterTransportFeatures(all, "13"),
    all & ~(0x3ffn << 28n) | 0x3000_0000n | 1n << 32n,
  );
});
