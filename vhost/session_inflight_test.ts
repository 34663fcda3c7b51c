import { assert, assertEquals, assertRejects } from "@std/assert";
import { openFdCount } from "../sys/fd.ts";
import {
  detachMemory,
  mapFile,
  mappingsOf,
  viewMemory,
} from "../sys/mapping.ts";
import {
  createMemfd,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  getSeals,
} from "../sys/memfd.ts";
import {
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import { splitInflightSize } from "../virtqueue/inflight.ts";
import { packedInflightSize } from "../virtqueue/packed_inflight.ts";
import { FrontEndMessage, ProtocolFeature } from "./constants.ts";
import { encodeInflight, type InflightDescription } from "./message.ts";
import { FrontEndError } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { InflightMemory } from "./testing/inflight_memory.ts";
import { TestRing } from "./testing/test_ring.ts";

Deno.test("an area is made for as many queues of the size that was asked for", async () => {
  await using ring = new TestRing({ queueCount: 2 });
  await ring.prepare();
  using area = await InflightMemory.get(ring.h.frontEnd, 2, 256);
  assertEquals(area.description, {
    // For either layout: the driver may change its mind.
    mmapSize: 2 * packedInflightSize(256),
    mmapOffset: 0,
    queueCount: 2,
    queueSize: 256,
  });
  assertEquals(
    getSeals(area.fd),
    F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_SHRINK,
  );
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  assert(new Uint8Array(mapping.buffer).every((byte) => byte === 0));
});

Deno.test("rings run with their parts of the area that was set", async () => {
  await using ring = new TestRing({ queueCount: 2 });
  const { frontEnd, plane, session } = ring.h;
  await ring.prepare();
  assertEquals(session.status().inflightTracking, false);
  using area = await InflightMemory.get(frontEnd, 2, 256);
  await area.set(frontEnd);
  await ring.start();
  assertEquals(session.status().inflightTracking, true);
  const { inflight } = plane.running.get(0)!;
  assertEquals([inflight?.heads, inflight?.size], [
    256,
    splitInflightSize(256),
  ]);
  // What a ring writes there is what the front-end keeps.
  const bytes = new Uint8Array(viewMemory(inflight!.address, inflight!.size));
  bytes[100] = 42;
  detachMemory(bytes.buffer);
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  assertEquals(new Uint8Array(mapping.buffer)[100], 42);
});

Deno.test("without an area rings run untracked", async () => {
  await using ring = new TestRing();
  await ring.run();
  assertEquals(ring.h.plane.running.get(0)!.inflight, null);
});

Deno.test("an area for fewer queues tracks those", async () => {
  await using ring = new TestRing({ queueCount: 2 });
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  using area = await InflightMemory.get(frontEnd, 1, 8);
  await area.set(frontEnd);
  await ring.start();
  await frontEnd.setupRing(1, ring.layout);
  await frontEnd.setVringEnable(1, true);
  assertEquals(plane.running.get(0)!.inflight?.heads, 8);
  assertEquals(plane.running.get(1)!.inflight, null);
});

Deno.test("another area while rings run: they go on with the new one", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  using first = await InflightMemory.get(frontEnd, 1, 8);
  await first.set(frontEnd);
  await ring.start();
  const before = mappingsOf("vhostd-inflight");
  using second = await InflightMemory.get(frontEnd, 1, 16);
  await second.set(frontEnd);
  assertEquals(plane.running.get(0)!.inflight?.heads, 16);
  assertEquals(mappingsOf("vhostd-inflight"), before);
});

Deno.test("asking and setting again and again leaves nothing behind", async () => {
  await Harness.warmUp();
  const before = openFdCount();
  const mappings = mappingsOf("vhostd-inflight");
  {
    await using ring = new TestRing();
    const { frontEnd } = ring.h;
    await ring.prepare();
    const connected = openFdCount();
    for (let i = 0; i < 100; i++) {
      using area = await InflightMemory.get(frontEnd, 1, 1024);
      await area.set(frontEnd);
    }
    assertEquals(openFdCount(), connected);
    assertEquals(mappingsOf("vhostd-inflight"), mappings + 1);
  }
  assertEquals(openFdCount(), before);
  assertEquals(mappingsOf("vhostd-inflight"), mappings);
});

Deno.test("shapes that make no sense are refused, and told of", async () => {
  const shapes: [queueCount: number, queueSize: number, message: string][] = [
    [0, 8, "number of queues 0 is not from 1 to 256"],
    [257, 8, "number of queues 257 is not from 1 to 256"],
    [1, 0, "queue size 0 is not from 1 to 32768"],
    [1, 65535, "queue size 65535 is not from 1 to 32768"],
  ];
  for (const [queueCount, queueSize, message] of shapes) {
    await using ring = new TestRing();
    await ring.prepare();
    await assertRejects(() =>
      InflightMemory.get(ring.h.frontEnd, queueCount, queueSize)
    );
    const reason = await ring.h.dropped();
    assert(reason?.includes(message), `${reason}`);
  }
});

Deno.test("an area that does not fit is refused, and the session goes on", async () => {
  await using ring = new TestRing();
  const { frontEnd, session } = ring.h;
  await ring.prepare();
  using area = await InflightMemory.get(frontEnd, 1, 8);
  await area.set(frontEnd);
  const { description } = area;
  const bad: [change: Partial<InflightDescription>, message: string][] = [
    [{ mmapSize: 100 }, "an area of 100 bytes is less than the 192"],
    [{ queueSize: 1024 }, "is less than the"],
    [{ queueCount: 0 }, "number of queues 0"],
    [{ mmapOffset: 64 }, "cannot be mapped"],
    [{ mmapOffset: 2 ** 52, mmapSize: 2 ** 52 }, "cannot be mapped"],
    [{ mmapOffset: 4 }, "cannot be mapped"],
  ];
  const before = openFdCount();
  for (const [change, message] of bad) {
    await assertRejects(
      () => area.set(frontEnd, { ...description, ...change }),
      FrontEndError,
      "refused",
    );
    const { lastError } = session.status();
    assert(lastError?.includes(message), `${lastError}`);
  }
  assertEquals(openFdCount(), before);
  // The one that was there before is still used.
  assertEquals(session.status().inflightTracking, true);
  await ring.start();
  assertEquals(ring.h.plane.running.get(0)!.inflight?.heads, 8);
});

Deno.test("an area comes with one descriptor, that can be mapped", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  using area = await InflightMemory.get(frontEnd, 1, 8);
  const payload = encodeInflight(area.description);
  using other = createMemfd("other", 100);
  for (const fds of [[], [area.fd, area.fd], [other.fd]]) {
    await assertRejects(
      () => frontEnd.set(FrontEndMessage.SET_INFLIGHT_FD, payload, fds),
      FrontEndError,
      "refused",
    );
  }
});

Deno.test("a payload may have the padding of C, or not", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  for (const size of [20, 24]) {
    const { payload, fds } = await frontEnd.getWithFds(
      FrontEndMessage.GET_INFLIGHT_FD,
      encodeInflight(
        { mmapSize: 0, mmapOffset: 0, queueCount: 1, queueSize: 8 },
        size,
      ),
    );
    assertEquals([payload.length, fds.length], [size, 1]);
    const [fd] = fds;
    const area = encodeInflight({
      mmapSize: splitInflightSize(8),
      mmapOffset: 0,
      queueCount: 1,
      queueSize: 8,
    }, size);
    await frontEnd.set(FrontEndMessage.SET_INFLIGHT_FD, area, [fd.fd]);
    fd.close();
  }
});

Deno.test("tracking has to be negotiated", async () => {
  await using ring = new TestRing();
  await ring.prepare({
    protocolFeatures: ~(1n << BigInt(ProtocolFeature.INFLIGHT_SHMFD)),
  });
  await assertRejects(() => InflightMemory.get(ring.h.frontEnd, 1, 8));
  const reason = await ring.h.dropped();
  assert(reason?.includes("INFLIGHT_SHMFD was not negotiated"), `${reason}`);
});

Deno.test("packed rings have parts of their own size, or none in a small area", async () => {
  const features = 1n << BigInt(VIRTIO_F_VERSION_1) |
    1n << BigInt(VIRTIO_F_RING_PACKED);
  await using ring = new TestRing({ queueCount: 2, features });
  const { frontEnd, plane } = ring.h;
  await ring.prepare({ packed: true });
  using area = await InflightMemory.get(frontEnd, 2, 8);
  const small = { ...area.description, mmapSize: 2 * splitInflightSize(8) };
  await area.set(frontEnd);
  await frontEnd.setFeatures(frontEnd.features);
  await ring.start();
  const first = plane.running.get(0)!.inflight!;
  assertEquals(first.size, packedInflightSize(8));
  await frontEnd.setupRing(1, ring.layout);
  await frontEnd.setVringEnable(1, true);
  const second = plane.running.get(1)!.inflight!;
  assertEquals(second.address, first.address + packedInflightSize(8));
  // Made by another back-end, it has room for one packed ring.
  assert(packedInflightSize(8) <= small.mmapSize);
  await area.set(frontEnd, small);
  assertEquals(plane.running.get(0)!.inflight?.size, packedInflightSize(8));
  assertEquals(plane.running.get(1)!.inflight, null);
});

Deno.test("a reset clears the area", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  using area = await InflightMemory.get(frontEnd, 1, 8);
  await area.set(frontEnd);
  await ring.start();
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  const bytes = new Uint8Array(mapping.buffer);
  bytes.fill(7);
  await frontEnd.getVringBase(0);
  assertEquals(bytes[0], 7);
  await frontEnd.resetDevice();
  assert(bytes.every((byte) => byte === 0));
});
