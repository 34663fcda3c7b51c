import { assertEquals } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount } from "../sys/fd.ts";
import { ringLengths, Vring } from "./vring.ts";

Deno.test("ringLengths() are those of section 2.7", () => {
  assertEquals(ringLengths(128, false), {
    descriptor: 2048,
    available: 260,
    used: 1028,
  });
  assertEquals(ringLengths(32768, true), {
    descriptor: 524288,
    available: 65542,
    used: 262150,
  });
});

Deno.test("a ring is configured when it lacks nothing but memory", () => {
  const ring = new Vring(3);
  const steps = [
    () => ring.enabled = true,
    () => ring.start(null),
    () => ring.size = 8,
    () => ring.addresses = { descriptor: 0, available: 0, used: 0 },
  ];
  for (const step of steps) {
    assertEquals(ring.configured, false);
    step();
  }
  assertEquals(ring.configured, true);
  ring.stop();
  assertEquals(ring.configured, false);
  assertEquals(ring.enabled, true);
});

Deno.test("a ring owns its descriptors", () => {
  const before = openFdCount();
  const ring = new Vring(0);
  assertEquals([ring.kickFd, ring.callFd, ring.errorFd], [-1, -1, -1]);
  for (let i = 0; i < 5; i++) {
    ring.start(EventFd.create());
    ring.setCall(EventFd.create())?.close();
    ring.setError(EventFd.create())?.close();
  }
  assertEquals(openFdCount(), before + 3);
  const { callFd, errorFd } = ring;
  ring.enabled = true;
  ring.size = 8;
  ring.position = 7;
  ring.addresses = { descriptor: 16, available: 16, used: 16 };
  ring.reset();
  assertEquals(openFdCount(), before + 2);
  assertEquals(
    [ring.kickFd, ring.callFd, ring.errorFd],
    [-1, callFd, errorFd],
  );
  assertEquals(
    [ring.size, ring.position, ring.addresses, ring.enabled, ring.started],
    [0, 0, null, false, false],
  );
  ring.close();
  assertEquals(openFdCount(), before);
});
