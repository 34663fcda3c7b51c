import { assertEquals } from "@std/assert";
import * as blk from "../backends/blk/protocol.ts";
import * as virtio from "../virtqueue/constants.ts";
import { featureNames } from "./features.ts";

Deno.test("featureNames() names the bits of a device and of the transport", () => {
  assertEquals(featureNames("blk", 0n), []);
  assertEquals(featureNames("blk", 0x1_7000_0246n), [
    "SIZE_MAX",
    "SEG_MAX",
    "BLK_SIZE",
    "FLUSH",
    "INDIRECT_DESC",
    "EVENT_IDX",
    "PROTOCOL_FEATURES",
    "VERSION_1",
  ]);
  assertEquals(featureNames("blk", 1n << 63n | 1n << 8n), ["bit 8", "bit 63"]);
  assertEquals(featureNames("net", 0x3fn << 50n | 1n << 43n), [
    "SUSPEND",
    "DEVICE_STATS",
    "HASH_TUNNEL",
    "VQ_NOTF_COAL",
    "NOTF_COAL",
    "GUEST_USO4",
    "GUEST_USO6",
  ]);
  assertEquals(featureNames("entropy", 1n | 1n << 32n), ["bit 0", "VERSION_1"]);
});

Deno.test("featureNames() gives a bit of two meanings the device's own", () => {
  assertEquals(featureNames("net", 3n << 41n), ["GUEST_RSC4", "GUEST_RSC6"]);
  assertEquals(featureNames("blk", 3n << 41n), ["ADMIN_VQ", "bit 42"]);
});

Deno.test("featureNames() agrees with the constants of the other layers", () => {
  for (const [name, bit] of Object.entries(blk)) {
    if (!name.startsWith("VIRTIO_BLK_F_")) continue;
    const [found] = featureNames("blk", 1n << BigInt(bit as number));
    assertEquals(found, name.slice("VIRTIO_BLK_F_".length));
  }
  for (const [name, bit] of Object.entries(virtio)) {
    if (!name.startsWith("VIRTIO_F_")) continue;
    const [found] = featureNames("blk", 1n << BigInt(bit as number));
    assertEquals(found, name.slice("VIRTIO_F_".length));
  }
});
