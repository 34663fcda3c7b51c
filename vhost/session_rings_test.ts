import { assertEquals, assertNotEquals } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount } from "../sys/fd.ts";
import { Harness } from "./testing/harness.ts";
import { TestRing } from "./testing/test_ring.ts";
import { FakeDriver, FakeMemory } from "../virtqueue/testing/driver.ts";

const BIT_30 = 1n << 30n;
const EVENT_IDX = 1n << 29n;

Deno.test("a ring runs with what the front-end said of it", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout, 0xffff);
  await frontEnd.setVringEnable(0, true);
  const { kickFd, callFd, errorFd, ...setup } = plane.running.get(0)!;
  assertEquals(setup, {
    index: 0,
    position: 0xffff,
    inflight: null,
    usedLog: -1,
    ...ring.layout,
  });
  // The descriptors are the front-end's, under numbers of our own.
  for (
    const [fd, event] of [
      [kickFd, frontEnd.events(0).kick],
      [callFd, frontEnd.events(0).call],
      [errorFd, frontEnd.events(0).error],
    ] as const
  ) {
    assertNotEquals(fd, event.fd);
    const same = new EventFd(fd);
    same.signal();
    same.release();
    assertEquals(event.drain(), 1);
  }
});

Deno.test("a kick before the ring is enabled is not lost", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout);
  frontEnd.kick(0);
  assertEquals(plane.running.size, 0);
  await frontEnd.setVringEnable(0, true);
  // The session took nothing from it: whoever serves the ring sees it.
  const kick = new EventFd(plane.running.get(0)!.kickFd);
  assertEquals(kick.drain(), 1);
  kick.release();
});

Deno.test("size, addresses, kick, enable and memory come in any order", async () => {
  const steps = ["num", "addr", "kick", "enable", "memory"] as const;
  for (let first = 0; first < steps.length; first++) {
    for (const backwards of [false, true]) {
      await using ring = new TestRing();
      const { frontEnd, plane } = ring.h;
      await ring.prepare();
      const order = steps.map((_, i) => steps[(first + i) % steps.length]);
      if (backwards) order.reverse();
      for (const step of order) {
        assertEquals(plane.running.size, 0, `${order} before ${step}`);
        if (step === "num") await frontEnd.setVringNum(0, 8);
        if (step === "addr") await frontEnd.setVringAddr(0, ring.layout);
        if (step === "kick") await frontEnd.setVringKick(0);
        if (step === "enable") await frontEnd.setVringEnable(0, true);
        if (step === "memory") await frontEnd.addMemReg(ring.region);
      }
      assertEquals(plane.running.size, 1, `${order}`);
    }
  }
});

Deno.test("rings that are enabled but not configured stay as they are", async () => {
  await using h = Harness.open({ queueCount: 3 });
  const { frontEnd, plane } = h;
  await frontEnd.handshake();
  for (const i of [0, 1, 2]) await frontEnd.setVringEnable(i, true);
  await frontEnd.setFeatures(frontEnd.features);
  for (const i of [0, 1, 2]) await frontEnd.setVringEnable(i, true);
  assertEquals(plane.running.size, 0);
  assertEquals(h.status.rings.map((ring) => ring.activity), [
    "stopped",
    "stopped",
    "stopped",
  ]);
});

Deno.test("without bit 30 a ring is enabled by its kick", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  frontEnd.acks = false;
  await frontEnd.setFeatures(0n);
  await frontEnd.setMemTable([ring.region]);
  await frontEnd.setupRing(0, ring.layout);
  await ring.h.settled();
  assertEquals(plane.running.size, 1);
  // It is disabled and enabled again nevertheless.
  await frontEnd.setVringEnable(0, false);
  await ring.h.settled();
  assertEquals(plane.running.size, 0);
  await frontEnd.setVringEnable(0, true);
  await ring.h.settled();
  assertEquals(plane.running.size, 1);
  // After a stop the kick enables again.
  await frontEnd.setVringEnable(0, false);
  await frontEnd.getVringBase(0);
  await frontEnd.setVringKick(0);
  await ring.h.settled();
  assertEquals(plane.running.size, 1);
});

Deno.test("a front-end that acknowledges no features at all is served", async () => {
  await using ring = new TestRing({ features: 1n << 32n });
  const { frontEnd, plane } = ring.h;
  frontEnd.acks = false;
  await frontEnd.setMemTable([ring.region]);
  await frontEnd.setupRing(0, ring.layout);
  await ring.h.settled();
  assertEquals(plane.calls, [
    "addRegion 0x10000",
    "negotiate 0x0",
    "startRing 0 @0",
  ]);
});

Deno.test("SET_FEATURES without bit 30 enables rings that wait", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout);
  assertEquals(plane.running.size, 0);
  await frontEnd.setFeatures(0n);
  assertEquals(plane.running.size, 1);
});

Deno.test("SET_FEATURES does not stop rings that run", async () => {
  await using ring = new TestRing({ features: EVENT_IDX });
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.takeCalls();
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.setFeatures(BIT_30);
  await frontEnd.setFeatures(0n);
  assertEquals(plane.takeCalls(), ["negotiate 0x0"]);
  assertEquals(plane.running.size, 1);
});

Deno.test("ENABLE 0 stops a ring, ENABLE 1 has it go on", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.positions.set(0, 77);
  await frontEnd.setVringEnable(0, false);
  await frontEnd.setVringEnable(0, false);
  assertEquals(ring.h.status.rings[0].activity, "disabled");
  await frontEnd.setVringEnable(0, true);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.running.get(0)!.position, 77);
  await frontEnd.setVringEnable(0, false);
  assertEquals(await frontEnd.getVringBase(0), 77);
});

Deno.test("GET_VRING_BASE stops a ring until it is kicked again, and leaves it enabled", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.positions.set(0, 9);
  assertEquals(await frontEnd.getVringBase(0), 9);
  assertEquals(await frontEnd.getVringBase(0), 9);
  assertEquals(ring.h.status.rings[0].enabled, true);
  assertEquals(ring.h.status.rings[0].started, false);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.running.size, 0);
  await frontEnd.setVringBase(0, 12);
  await frontEnd.setVringKick(0);
  assertEquals(plane.running.get(0)!.position, 12);
});

Deno.test("GET_VRING_BASE answers for a ring that never started", async () => {
  await using h = Harness.open({ queueCount: 2 });
  await h.frontEnd.handshake();
  assertEquals(await h.frontEnd.getVringBase(1), 0);
  await h.frontEnd.setVringBase(1, 40000);
  assertEquals(await h.frontEnd.getVringBase(1), 40000);
});

Deno.test("GET_VRING_BASE answers when the ring is drained, not before", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  const { arrived, release } = plane.hold("stopRing");
  plane.positions.set(0, 3);
  let answered = false;
  const base = frontEnd.getVringBase(0).then((position) => {
    answered = true;
    return position;
  });
  await arrived;
  assertEquals(answered, false);
  assertEquals(plane.running.size, 1);
  release();
  assertEquals(await base, 3);
  assertEquals(plane.running.size, 0);
});

Deno.test("CALL is replaced at any time; the old one is closed afterwards", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  const before = openFdCount();
  using other = EventFd.create();
  const old = plane.running.get(0)!.callFd;
  const { arrived, release } = plane.hold("setCall");
  const replaced = frontEnd.setVringCall(0, other.fd);
  await arrived;
  // The data plane may signal the old one until it has taken the new one.
  const still = new EventFd(old);
  still.signal();
  still.release();
  assertEquals(frontEnd.events(0).call.drain(), 1);
  release();
  await replaced;
  const now = new EventFd(plane.running.get(0)!.callFd);
  now.signal();
  now.release();
  assertEquals(other.drain(), 1);
  assertEquals(openFdCount(), before + 1);
  await frontEnd.setVringCall(0, -1);
  assertEquals(plane.running.get(0)!.callFd, -1);
  assertEquals(openFdCount(), before);
  await frontEnd.setVringErr(0, -1);
  assertEquals(plane.running.get(0)!.errorFd, -1);
  assertEquals(openFdCount(), before - 1);
  await frontEnd.setVringErr(0);
  await frontEnd.setVringCall(0);
  assertEquals(plane.calls.slice(-4), [
    "setCall 0 none",
    "setError 0 none",
    "setError 0 fd",
    "setCall 0 fd",
  ]);
  await frontEnd.getVringBase(0);
  plane.takeCalls();
  await frontEnd.setVringCall(0);
  assertEquals(plane.calls, []);
});

Deno.test("KICK and CALL may say that there is no descriptor", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setVringNum(0, 8);
  await frontEnd.setVringAddr(0, ring.layout);
  await frontEnd.setVringCall(0, -1);
  await frontEnd.setVringKick(0, -1);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.running.get(0)!.kickFd, -1);
  assertEquals(plane.running.get(0)!.callFd, -1);
});

Deno.test("KICK of a running ring replaces the descriptor", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.positions.set(0, 5);
  plane.takeCalls();
  await frontEnd.setVringKick(0, -1);
  assertEquals(plane.calls, ["stopRing 0", "startRing 0 @5"]);
  assertEquals(plane.running.get(0)!.kickFd, -1);
});

Deno.test("a fake driver says where its ring is", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  const driver = new FakeDriver(new FakeMemory([ring.region]), { size: 32 });
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, driver);
  await frontEnd.setVringEnable(0, true);
  const { size, descriptorTable, usedRing } = plane.running.get(0)!;
  assertEquals(size, 32);
  assertEquals(descriptorTable, driver.descriptorTable);
  assertEquals(usedRing, driver.usedRing);
});
