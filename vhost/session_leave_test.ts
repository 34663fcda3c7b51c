/**
 * How a session ends: whatever the front-end was doing, rings are drained,
 * memory is given up and unmapped, descriptors are closed, in this order.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openFdCount } from "../sys/fd.ts";
import { mappingsOf } from "../sys/mapping.ts";
import { Reactor } from "../sys/reactor.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { VIRTIO_ID_BLOCK } from "../virtqueue/constants.ts";
import { Connection } from "./connection.ts";
import { FrontEndMessage, VHOST_USER_VERSION } from "./constants.ts";
import { encodeMessage } from "./message.ts";
import { Session } from "./session.ts";
import { SharedRegion } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { RecordingPlane } from "./testing/recording_plane.ts";
import { until } from "./testing/until.ts";
import { TestRing } from "./testing/test_ring.ts";

await Harness.warmUp();

const LEAVING = [
  "stopRing 0",
  "removeRegion 0x10000",
  "reset",
];

Deno.test("when the front-end leaves, all is given back in order", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane, done } = ring.h;
  await ring.run();
  plane.takeCalls();
  frontEnd.close();
  await done;
  assertEquals(plane.calls, LEAVING);
  assertEquals(ring.h.status.lastError, null);
  assert(ring.h.log.lines.includes("info front-end connected"));
  assert(ring.h.log.lines.includes("info front-end disconnected"));
  assertEquals(ring.h.session.spoke, true);
});

Deno.test("whoever says nothing is no front-end", async () => {
  await using h = Harness.open();
  h.frontEnd.close();
  await h.done;
  assertEquals(h.log.lines, ["debug a connection ended without a message"]);
  assertEquals([h.session.spoke, h.session.dropped], [false, null]);
});

Deno.test("half a header is something said", async () => {
  await using h = Harness.open();
  await h.frontEnd.sendRaw(new Uint8Array(5));
  h.frontEnd.close();
  await h.done;
  assertStringIncludes(h.session.dropped!, "after 5 of 12 header bytes");
  assertEquals(h.session.spoke, true);
});

Deno.test("stop() does the same, and the front-end sees the end", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane, session } = ring.h;
  await ring.run();
  plane.takeCalls();
  await session.stop();
  assertEquals(plane.calls, LEAVING);
  assertEquals(await frontEnd.receive(), null);
  await session.stop();
  assertEquals(plane.calls, LEAVING);
});

Deno.test("stop() before the first message, and before run()", async () => {
  await using h = Harness.open();
  await h.session.stop();
  assertEquals(h.plane.calls, ["reset"]);
});

Deno.test("the front-end sees the end when all is given back, not before", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane, session } = ring.h;
  await ring.run();
  const { arrived, release } = plane.hold("removeRegion");
  let seen = false;
  const end = frontEnd.receive().then((message) => {
    seen = true;
    return message;
  });
  const stopped = session.stop();
  await arrived;
  assertEquals(seen, false);
  release();
  await stopped;
  assertEquals(await end, null);
});

Deno.test("a message under way is finished when the session is stopped", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane, session } = ring.h;
  await ring.run();
  plane.takeCalls();
  const { arrived, release } = plane.hold("stopRing");
  const base = frontEnd.getVringBase(0).catch((error) => String(error));
  await arrived;
  const stopped = session.stop();
  release();
  await stopped;
  assertStringIncludes(String(await base), "closed the connection");
  assertEquals(plane.calls, LEAVING);
});

Deno.test("a front-end that reads no answers does not hold up stop()", async () => {
  const before = openFdCount();
  {
    const reactor = new Reactor();
    const [ours, theirs] = UnixSocket.pair();
    const plane = new RecordingPlane();
    const session = new Session(new Connection(ours, reactor), plane);
    const done = session.run();
    // The session stops reading when its answers have no more room, and then
    // there is no more room for requests.
    const ask = encodeMessage(FrontEndMessage.GET_FEATURES, VHOST_USER_VERSION);
    let turns = 0;
    await until(() => {
      turns++;
      while (theirs.trySend(ask) > 0) turns = 0;
      return turns === 50;
    }, "a session that reads no more");
    await session.stop();
    await done;
    theirs.close();
    assertEquals(plane.calls, ["reset"]);
    reactor.close();
    // The reactor gives its own descriptors back in another turn.
    await until(() => openFdCount() === before, "the reactor's descriptors");
  }
});

Deno.test("a device that fails ends the session and is reported", async () => {
  for (const call of ["negotiate", "addRegion", "writeConfig"] as const) {
    await using ring = new TestRing({ config: new Uint8Array(8) });
    const { frontEnd, plane } = ring.h;
    await frontEnd.handshake();
    plane.fail(call, new Error(`broken ${call}`));
    const work = async (): Promise<void> => {
      await frontEnd.setFeatures(frontEnd.features);
      await frontEnd.addMemReg(ring.region);
      await frontEnd.setConfig(0, new Uint8Array(8));
    };
    const failure = await work().catch((error) => String(error));
    assertStringIncludes(String(failure), "closed the connection");
    assertStringIncludes(String(await ring.h.failed()), `broken ${call}`);
    assertEquals(plane.regions.size, 0);
    assertEquals(plane.calls.at(-1), "reset");
  }
});

/** A deterministic source of numbers below 1 (mulberry32). */
function randomNumbers(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const RINGS = 2;

/** What a life of a front-end consists of, one step after the other. */
function life(h: Harness, regions: SharedRegion[]): (() => Promise<unknown>)[] {
  const { frontEnd } = h;
  const layout = (index: number) => ({
    size: 64,
    descriptorTable: 0x10000 + 0x4000 * index,
    availableRing: 0x11000 + 0x4000 * index,
    usedRing: 0x12000 + 0x4000 * index,
  });
  return [
    () => frontEnd.handshake(),
    () => frontEnd.setFeatures(frontEnd.features),
    () => frontEnd.addMemReg(regions[0]),
    () => frontEnd.setupRing(0, layout(0)),
    () => frontEnd.setVringEnable(0, true),
    () => frontEnd.addMemReg(regions[1]),
    () => frontEnd.setupRing(1, layout(1), 9),
    () => frontEnd.setVringEnable(1, true),
    () => Promise.resolve(h.session.configChanged()),
    () => frontEnd.setVringCall(0),
    () => frontEnd.setBackendReqFd(),
    () => frontEnd.remMemReg(regions[1], true),
    () => frontEnd.setMemTable(regions),
    () => frontEnd.setFeatures(0n),
    () => frontEnd.getVringBase(1),
    () => frontEnd.stop(),
  ];
}

Deno.test("every connection is offered the same, whatever the one before did", async () => {
  const plane = new RecordingPlane({
    deviceId: VIRTIO_ID_BLOCK,
    queueCount: RINGS,
    features: 1n << 32n | 1n << 29n | 0x1200n,
    config: new Uint8Array(60),
  });
  const offers: unknown[] = [];
  const look = async ({ frontEnd }: Harness) => {
    const features = await frontEnd.getFeatures();
    const protocolFeatures = await frontEnd.getProtocolFeatures();
    await frontEnd.setProtocolFeatures(protocolFeatures);
    offers.push({
      features,
      protocolFeatures,
      queues: await frontEnd.getQueueNum(),
      slots: await frontEnd.getMaxMemSlots(),
      status: await frontEnd.getStatus(),
    });
  };
  using region = SharedRegion.create(0x10000, 0x10000);
  const layout = {
    size: 8,
    descriptorTable: 0x10000,
    availableRing: 0x11000,
    usedRing: 0x12000,
  };
  for (const accepted of [~0n, 0n, 1n << 32n]) {
    await using h = Harness.reopen(plane);
    await look(h);
    // It accepts less, uses memory, reports DRIVER_OK, and is dropped or leaves.
    await h.frontEnd.handshake({ features: accepted | 1n << 30n });
    await h.frontEnd.start([region], new Map([[0, layout]]));
    assertEquals(await h.frontEnd.getStatus(), 0xf);
    if (accepted === 0n) {
      await h.frontEnd.sendRaw(new Uint8Array(12).fill(0xff));
      await h.dropped();
    }
  }
  {
    await using h = Harness.reopen(plane);
    await look(h);
  }
  const bits = [0, 1, 3, 5, 9, 12, 13, 15, 16, 20];
  const offer = {
    features: plane.features | 1n << 26n | 1n << 30n,
    protocolFeatures: bits.reduce((mask, bit) => mask | 1n << BigInt(bit), 0n),
    queues: RINGS,
    slots: 512,
    status: 0,
  };
  assertEquals(offers, Array(4).fill(offer));
});

Deno.test("after 1,000 front-ends that left anywhere, nothing is left", async () => {
  const random = randomNumbers(20240607);
  const plane = new RecordingPlane({
    queueCount: RINGS,
    features: 1n << 32n,
    config: new Uint8Array(60),
  });
  const regions = [
    SharedRegion.create(0x10000, 0x10000),
    SharedRegion.create(0x40000, 0x2000),
  ];
  const fds = openFdCount();
  const mappings = mappingsOf("vhost-test");
  let ran = 0;
  for (let i = 0; i < 1000; i++) {
    await using h = Harness.reopen(plane);
    const steps = life(h, regions);
    const last = Math.floor(random() * (steps.length + 1));
    for (const step of steps.slice(0, last)) await step();
    if (plane.running.size > 0) ran++;
    // One in three leaves in the middle of a step, one in three is stopped.
    const way = Math.floor(random() * 3);
    if (way === 0 && last < steps.length) {
      const cut = steps[last]().catch(() => {});
      h.frontEnd.close();
      await cut;
    } else if (way === 1) await h.session.stop();
    h.frontEnd.close();
    await h.done;
    plane.takeCalls();
    assertEquals(plane.running.size, 0);
    assertEquals(plane.regions.size, 0);
    if (i % 100 === 0) assertEquals(openFdCount(), fds, `front-end ${i}`);
  }
  assert(ran > 100, `${ran} had a ring running`);
  assertEquals(openFdCount(), fds);
  assertEquals(mappingsOf("vhost-test"), mappings);
  for (const region of regions) region[Symbol.dispose]();
});
