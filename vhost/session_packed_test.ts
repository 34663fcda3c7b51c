import { assert, assertEquals, assertRejects } from "@std/assert";
import { mapFile } from "../sys/mapping.ts";
import {
  featureMask,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import { packedInflightSize } from "../virtqueue/packed_inflight.ts";
import { FrontEndError } from "./testing/front_end.ts";
import { InflightMemory } from "./testing/inflight_memory.ts";
import { TestRing } from "./testing/test_ring.ts";

const FEATURES = featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED);
/** The parts of a ring of 7 at the very end of the memory. */
const AT_THE_END = {
  size: 7,
  descriptorTable: 0x10000,
  availableRing: 0x1fff8,
  usedRing: 0x1fffc,
};

/** A session whose features are settled. */
async function packedRing(): Promise<TestRing> {
  const ring = new TestRing({ features: FEATURES });
  await ring.prepare({ packed: true });
  await ring.h.frontEnd.setFeatures(ring.h.frontEnd.features);
  await ring.h.frontEnd.addMemReg(ring.region);
  return ring;
}

Deno.test("packed: any size, a base of 32 bits, event structures of 4 bytes", async () => {
  await using ring = await packedRing();
  const { frontEnd, plane } = ring.h;
  await frontEnd.setupRing(0, AT_THE_END, 0x8006_0001);
  await frontEnd.setVringEnable(0, true);
  const { size, position, availableRing, usedRing } = plane.running.get(0)!;
  assertEquals([size, position], [7, 0x8006_0001]);
  assertEquals([availableRing, usedRing], [0x1fff8, 0x1fffc]);
  plane.positions.set(0, 0x8002_8002);
  assertEquals(await frontEnd.getVringBase(0), 0x8002_8002);
});

Deno.test("packed: sizes beyond 32768 and crooked event structures are refused", async () => {
  await using ring = await packedRing();
  const { frontEnd } = ring.h;
  for (const size of [0, 32769]) {
    await assertRejects(() => frontEnd.setVringNum(0, size), FrontEndError);
  }
  for (const part of ["availableRing", "usedRing"]) {
    const crooked = { ...AT_THE_END, [part]: 0x11002 };
    await assertRejects(() => frontEnd.setVringAddr(0, crooked), FrontEndError);
  }
  await frontEnd.setVringNum(0, 32768);
});

Deno.test("packed: an area is right, until a ring goes on elsewhere than it stopped", async () => {
  await using ring = await packedRing();
  const { frontEnd, plane } = ring.h;
  using area = await InflightMemory.get(frontEnd, 1, 7);
  await area.set(frontEnd);
  await frontEnd.setupRing(0, AT_THE_END, 0x8000_8000);
  await frontEnd.setVringEnable(0, true);
  using mapping = mapFile(area.fd, { size: packedInflightSize(7) });
  const bytes = new Uint8Array(mapping.buffer).fill(7);
  plane.positions.set(0, 0x8002_8002);
  const position = await frontEnd.getVringBase(0);
  await frontEnd.setVringBase(0, position);
  assert(bytes.every((byte) => byte === 7), "it goes on");
  await frontEnd.getVringBase(0);
  await frontEnd.setVringBase(0, 0x8000_8000);
  assert(bytes.every((byte) => byte === 0), "it begins anew");
});
