/** Rings that stop with requests in flight, where the front-end agreed to it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { detachMemory, mapFile, viewMemory } from "../sys/mapping.ts";
import {
  featureMask,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import { splitInflightSize } from "../virtqueue/inflight.ts";
import { ProtocolFeature } from "./constants.ts";
import type { HandshakeOptions } from "./testing/front_end.ts";
import { InflightMemory } from "./testing/inflight_memory.ts";
import { TestRing } from "./testing/test_ring.ts";

const without = (...bits: number[]): HandshakeOptions => ({
  protocolFeatures: ~bits.reduce((mask, bit) => mask | 1n << BigInt(bit), 0n),
});

/** Runs ring 0 of a session, with an area for `queues` queues; 0: none. */
async function run(
  ring: TestRing,
  options: HandshakeOptions = {},
  queues = 1,
): Promise<void> {
  await ring.prepare(options);
  if (queues > 0) {
    using area = await InflightMemory.get(ring.h.frontEnd, queues, 8);
    await area.set(ring.h.frontEnd);
  }
  await ring.start();
  ring.h.plane.takeCalls();
}

Deno.test("GET_VRING_BASE leaves requests in flight where that was negotiated", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  plane.positions.set(0, 5);
  assertEquals(await frontEnd.getVringBase(0), 5);
  assertEquals(plane.takeCalls(), ["stopRing 0 suspend"]);
});

Deno.test("SET_VRING_ENABLE leaves them, too: it comes just before", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  plane.positions.set(0, 5);
  await frontEnd.setVringEnable(0, false);
  assertEquals(plane.takeCalls(), ["stopRing 0 suspend"]);
  assertEquals(await frontEnd.getVringBase(0), 5);
  assertEquals(plane.takeCalls(), []);
});

Deno.test("a ring that was only disabled goes on where it was", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  plane.positions.set(0, 5);
  await frontEnd.setVringEnable(0, false);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.takeCalls(), ["stopRing 0 suspend", "startRing 0 @5"]);
});

Deno.test("without agreement, tracking or a part of the area a ring is drained", async () => {
  const { GET_VRING_BASE_INFLIGHT, INFLIGHT_SHMFD } = ProtocolFeature;
  const cases: [HandshakeOptions, queues: number, index: number][] = [
    [without(GET_VRING_BASE_INFLIGHT), 1, 0],
    // Such an acknowledgement means nothing.
    [without(INFLIGHT_SHMFD), 0, 0],
    [{}, 0, 0],
    [{}, 1, 1],
  ];
  for (const [options, queues, index] of cases) {
    await using ring = new TestRing({ queueCount: 2 });
    const { frontEnd, plane } = ring.h;
    await run(ring, options, queues);
    if (index > 0) {
      await frontEnd.setupRing(index, ring.layout);
      await frontEnd.setVringEnable(index, true);
    }
    plane.takeCalls();
    await frontEnd.getVringBase(index);
    assertEquals(plane.takeCalls(), [`stopRing ${index}`]);
  }
});

Deno.test("rings that stop for another reason are drained", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  using other = await InflightMemory.get(frontEnd, 1, 8);
  await other.set(frontEnd);
  assertEquals(plane.takeCalls(), ["stopRing 0", "startRing 0 @0"]);
  await frontEnd.remMemReg(ring.region);
  assertEquals(plane.takeCalls(), ["stopRing 0", "removeRegion 0x10000"]);
  await frontEnd.addMemReg(ring.region);
  plane.takeCalls();
  await frontEnd.resetDevice();
  assertEquals(plane.takeCalls().slice(0, 1), ["stopRing 0"]);
});

Deno.test("a packed ring that goes on where it was keeps what is in flight", async () => {
  await using ring = new TestRing({
    features: featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED),
  });
  const { frontEnd, plane } = ring.h;
  await run(ring, { packed: true });
  const { address, size } = plane.running.get(0)!.inflight!;
  const area = new Uint8Array(viewMemory(address, size)).fill(7);
  // Three entries taken, of which one was answered.
  const base = 0x8001_8003;
  plane.positions.set(0, base);
  assertEquals(await frontEnd.getVringBase(0), base);
  assertEquals(plane.takeCalls(), ["stopRing 0 suspend"]);
  await frontEnd.setVringBase(0, base);
  await frontEnd.setupRing(0, ring.layout, base);
  assertEquals(plane.takeCalls(), [`startRing 0 @${base}`]);
  assertEquals(area.every((byte) => byte === 7), true);
  detachMemory(area.buffer);
});

Deno.test("a ring that begins a new life does not inherit what was in flight", async () => {
  const { GET_VRING_BASE_INFLIGHT } = ProtocolFeature;
  for (const agreed of [true, false]) {
    await using ring = new TestRing();
    const { frontEnd, plane } = ring.h;
    await run(ring, agreed ? {} : without(GET_VRING_BASE_INFLIGHT));
    const { address, size } = plane.running.get(0)!.inflight!;
    const area = new Uint8Array(viewMemory(address, size)).fill(7);
    plane.positions.set(0, 5);
    await frontEnd.getVringBase(0);
    await frontEnd.setVringBase(0, 5);
    assertEquals(area.every((byte) => byte === 7), true);
    // Where it stopped is what was said last; a driver that was reset is at 0.
    await frontEnd.setVringKick(0);
    await frontEnd.getVringBase(0);
    await frontEnd.setVringBase(0, 0);
    assertEquals(area.every((byte) => byte === 0), agreed);
    detachMemory(area.buffer);
  }
});

Deno.test("an area that came after GET_VRING_BASE is kept, whatever the base", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  plane.positions.set(0, 5);
  await frontEnd.getVringBase(0);
  using area = await InflightMemory.get(frontEnd, 1, 8);
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  const bytes = new Uint8Array(mapping.buffer).fill(7);
  await area.set(frontEnd);
  await frontEnd.setVringBase(0, 9);
  await ring.h.settled();
  assert(bytes.every((byte) => byte === 7));
});

Deno.test("a ring that was not tracked when it started is drained", async () => {
  const features = featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED);
  await using ring = new TestRing({ features });
  const { frontEnd, plane } = ring.h;
  await ring.prepare({ packed: true });
  using area = await InflightMemory.get(frontEnd, 1, 8);
  // It has room for split rings alone.
  const mmapSize = splitInflightSize(8);
  await area.set(frontEnd, { ...area.description, mmapSize });
  await ring.start();
  assertEquals(plane.running.get(0)!.inflight, null);
  const packed = featureMask(VIRTIO_F_RING_PACKED);
  await frontEnd.setFeatures(frontEnd.features & ~packed);
  plane.takeCalls();
  await frontEnd.getVringBase(0);
  assertEquals(plane.takeCalls(), ["stopRing 0"]);
});

Deno.test("no position is made up where requests are in the area alone", async () => {
  for (const message of ["GET_VRING_BASE", "SET_INFLIGHT_FD"]) {
    await using ring = new TestRing();
    const { frontEnd, plane } = ring.h;
    await run(ring, without(ProtocolFeature.GET_VRING_BASE_INFLIGHT));
    plane.positions.set(0, 5);
    await frontEnd.setVringEnable(0, false);
    await frontEnd.setVringEnable(0, true);
    plane.positions.set(0, -1);
    await frontEnd.setVringEnable(0, false);
    // With the same area it goes on, and may stop in order later.
    await frontEnd.setVringEnable(0, true);
    plane.positions.set(0, 6);
    await frontEnd.setVringEnable(0, false);
    await frontEnd.setVringEnable(0, true);
    const calls = [5, 5, 6].map((at) => ["stopRing 0", `startRing 0 @${at}`]);
    assertEquals(plane.takeCalls(), calls.flat());
    plane.positions.set(0, -1);
    if (message === "GET_VRING_BASE") {
      await assertRejects(() => frontEnd.getVringBase(0));
    } else {
      using other = await InflightMemory.get(frontEnd, 1, 8);
      await assertRejects(() => other.set(frontEnd));
    }
    assertEquals(plane.takeCalls().slice(0, 1), ["stopRing 0"]);
    const reason = await ring.h.dropped();
    assert(
      reason?.includes(message) && reason.includes("ring 0 stopped with"),
      `${reason}`,
    );
  }
});

Deno.test("a device is told whether rings that stop are about to start again", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await run(ring);
  const stops = async (ask: () => Promise<unknown>): Promise<boolean[]> => {
    plane.stops.length = 0;
    await ask();
    assertEquals([plane.running.size, plane.restarting], [1, false]);
    return [...plane.stops];
  };
  using other = await InflightMemory.get(frontEnd, 1, 8);
  const elsewhere = { ...ring.layout, usedRing: 0x13000 };
  const restarts: (() => Promise<unknown>)[] = [
    () => frontEnd.setVringKick(0),
    () => frontEnd.setVringAddr(0, elsewhere),
    () => frontEnd.setMemTable([ring.region]),
    () => other.set(frontEnd),
  ];
  for (const ask of restarts) assertEquals(await stops(ask), [true], `${ask}`);
  plane.stops.length = 0;
  await frontEnd.setVringEnable(0, false);
  await frontEnd.setVringEnable(0, true);
  await frontEnd.getVringBase(0);
  assertEquals(plane.stops, [false, false]);
});
