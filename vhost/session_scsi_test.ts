import { assertEquals, assertNotEquals } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { VIRTIO_ID_SCSI } from "../virtqueue/constants.ts";
import { ProtocolFeature } from "./constants.ts";
import { SharedRegion } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { InflightMemory } from "./testing/inflight_memory.ts";

const FEATURES = 1n << 32n | 1n << 29n | 1n << 1n;
/** Control queue, event queue and two request queues. */
const QUEUES = 4;
/** Those that the driver configures: it uses one request queue. */
const CONFIGURED = [0, 1, 2];

const layoutOf = (index: number) => ({
  size: 128,
  descriptorTable: 0x4000 * index + 0x1000,
  availableRing: 0x4000 * index + 0x2000,
  usedRing: 0x4000 * index + 0x3000,
});

Deno.test("QEMU's life of a SCSI host: no configuration space, status 8, CALL after ENABLE", async () => {
  await using h = Harness.open({
    deviceId: VIRTIO_ID_SCSI,
    features: FEATURES,
    queueCount: QUEUES,
    config: new Uint8Array(36),
  });
  const { frontEnd, plane } = h;
  using region = SharedRegion.create(0, 1 << 20);
  // QEMU serves the configuration space itself and does not accept CONFIG, nor
  // that requests stay in flight: it takes the area of block devices alone along.
  const { CONFIG, GET_VRING_BASE_INFLIGHT } = ProtocolFeature;
  const refused = 1n << BigInt(CONFIG) | 1n << BigInt(GET_VRING_BASE_INFLIGHT);
  await frontEnd.handshake({ protocolFeatures: ~refused });
  assertEquals(frontEnd.queueCount, QUEUES);
  await frontEnd.resetDevice();
  await frontEnd.resetDevice();
  plane.takeCalls();

  for (const base of [0, 9]) {
    await frontEnd.setFeatures(frontEnd.features);
    assertEquals(await frontEnd.getStatus(), 0);
    await frontEnd.setStatus(8);
    using area = await InflightMemory.get(frontEnd, QUEUES, 128);
    await area.set(frontEnd);
    for (let i = 0; i < QUEUES; i++) await frontEnd.setVringCall(i);
    await frontEnd.setFeatures(frontEnd.features);
    if (base === 0) await frontEnd.addMemReg(region);
    for (const i of CONFIGURED) {
      await frontEnd.setupRing(i, layoutOf(i), base);
    }
    // Made available before the device may look: served when it may.
    frontEnd.kick(2);
    assertEquals(plane.running.size, 0);
    for (let i = 0; i < QUEUES; i++) await frontEnd.setVringEnable(i, true);
    assertEquals([...plane.running.keys()], CONFIGURED);
    const old = plane.running.get(2)!.callFd;
    for (let i = 0; i < QUEUES; i++) await frontEnd.setVringCall(i);

    // The rings run although the status never says DRIVER_OK.
    assertEquals(await frontEnd.getStatus(), 8);
    const { kickFd, callFd, position, inflight } = plane.running.get(2)!;
    assertEquals(position, base);
    assertNotEquals(inflight, null);
    assertNotEquals(callFd, old);
    const kick = new EventFd(kickFd), call = new EventFd(callFd);
    assertEquals(kick.drain(), 1);
    call.signal();
    assertEquals(await frontEnd.waitCall(2), 1);
    kick.release();
    call.release();

    for (const i of CONFIGURED) plane.positions.set(i, base + 9);
    for (let i = 0; i < QUEUES; i++) await frontEnd.setVringEnable(i, false);
    for (const i of CONFIGURED) {
      assertEquals(await frontEnd.getVringBase(i), base + 9);
    }
    await frontEnd.setStatus(0);
    await frontEnd.resetDevice();
    const starts = CONFIGURED.map((i) => `startRing ${i} @${base}`);
    const calls = CONFIGURED.map((i) => `setCall ${i} fd`);
    const stops = CONFIGURED.map((i) => `stopRing ${i}`);
    assertEquals(plane.takeCalls(), [
      `negotiate 0x${FEATURES.toString(16)}`,
      ...(base === 0 ? ["addRegion 0x0"] : []),
      ...starts,
      ...calls,
      ...stops,
      "reset",
    ]);
  }
  const { status } = h;
  assertEquals([status.refused, status.ignored, status.lastError], [
    0,
    0,
    null,
  ]);
  assertEquals(status.messages.VHOST_USER_GET_CONFIG, undefined);
});
