import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount } from "../sys/fd.ts";
import { createMemfd } from "../sys/memfd.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { FrontEndMessage } from "./constants.ts";
import { encodeU64, encodeVringState } from "./message.ts";
import { FrontEndError, SharedRegion } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { TestRing } from "./testing/test_ring.ts";

const BIT_30 = 1n << 30n;
const EVENT_IDX = 1n << 29n;

Deno.test("messages that are repeated leak nothing", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  const again = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      await frontEnd.setVringNum(0, 8 << (i & 1));
      await frontEnd.setVringBase(0, i);
      await frontEnd.setVringAddr(0, ring.layout);
      await frontEnd.setVringKick(0);
      await frontEnd.setVringCall(0);
      await frontEnd.setVringErr(0);
    }
  };
  await again();
  const before = openFdCount();
  await again();
  assertEquals(openFdCount(), before);
});

Deno.test("ring sizes that are no power of two up to 32768 are refused", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  for (const size of [0, 3, 127, 32769, 65536, 0x8000_0000, 0xffff_ffff]) {
    await assertRejects(() => frontEnd.setVringNum(0, size), FrontEndError);
    assertStringIncludes(
      ring.h.status.lastError!,
      `ring size ${size} is not a power of two from 1 to 32768`,
    );
  }
  for (const size of [1, 2, 32768]) {
    await frontEnd.setVringNum(0, size);
    assertEquals(ring.h.status.rings[0].size, size);
  }
});

Deno.test("ring indices are checked whole", async () => {
  await using ring = new TestRing({ queueCount: 2 });
  const { frontEnd } = ring.h;
  await ring.prepare();
  const { SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR } = FrontEndMessage;
  using event = EventFd.create();
  for (const request of [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR]) {
    // 0x10000 and 2^32 are 0 in their low byte.
    for (const value of [2n, 255n, 0x200n, 0x1_0000n, 1n << 32n, 1n << 63n]) {
      await assertRejects(
        () => frontEnd.set(request, encodeU64(value), [event.fd]),
        FrontEndError,
      );
    }
  }
  const states = [
    FrontEndMessage.SET_VRING_NUM,
    FrontEndMessage.SET_VRING_BASE,
    FrontEndMessage.SET_VRING_ENABLE,
  ];
  for (const request of states) {
    for (const index of [2, 256, 0x1_0000, 0xffff_ffff]) {
      await assertRejects(
        () => frontEnd.set(request, encodeVringState({ index, num: 1 })),
        FrontEndError,
      );
      assertStringIncludes(
        ring.h.status.lastError!,
        `ring index ${index} is not below 2: rings are made by tests`,
      );
    }
  }
  assert(ring.h.status.rings.every((one) => !one.started && !one.enabled));
});

Deno.test("what only a stopped ring may be told is refused while it runs", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.takeCalls();
  await frontEnd.setVringNum(0, 8);
  await assertRejects(() => frontEnd.setVringNum(0, 16), FrontEndError);
  await assertRejects(() => frontEnd.setVringBase(0, 1), FrontEndError);
  assertStringIncludes(ring.h.status.lastError!, "ring 0 is running");
  assertEquals(plane.calls, []);
});

Deno.test("a ring is enabled with any number but 0", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  const enable = (num: number) =>
    frontEnd.set(
      FrontEndMessage.SET_VRING_ENABLE,
      encodeVringState({ index: 0, num }),
    );
  await ring.run();
  for (const num of [256, 0xffff_ffff, 1]) {
    await enable(0);
    plane.takeCalls();
    await enable(num);
    assertEquals(plane.takeCalls().map((call) => call.split(" @")[0]), [
      "startRing 0",
    ]);
  }
});

Deno.test("SET_VRING_BASE takes 16 bits", async () => {
  await using ring = new TestRing();
  await ring.prepare();
  await assertRejects(
    () => ring.h.frontEnd.setVringBase(0, 65536),
    FrontEndError,
  );
  assertStringIncludes(
    ring.h.status.lastError!,
    "available index 65536 does not fit 16 bits",
  );
});

Deno.test("a running ring may be told its addresses again, or new ones", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.takeCalls();
  await frontEnd.setVringAddr(0, ring.layout);
  assertEquals(plane.calls, []);
  plane.positions.set(0, 2);
  await frontEnd.setVringAddr(0, { ...ring.layout, usedRing: 0x13000 });
  assertEquals(plane.calls, ["stopRing 0", "startRing 0 @2"]);
  assertEquals(plane.running.get(0)!.usedRing, 0x13000);
});

Deno.test("ring addresses must be aligned", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.prepare();
  const cases: [string, number, string][] = [
    [
      "descriptorTable",
      8,
      "descriptor table address 0x7f0000010008 is not a multiple of 16",
    ],
    [
      "availableRing",
      1,
      "available ring address 0x7f0000011001 is not a multiple of 2",
    ],
    ["usedRing", 2, "used ring address 0x7f0000012002 is not a multiple of 4"],
  ];
  for (const [part, by, text] of cases) {
    const key = part as "descriptorTable" | "availableRing" | "usedRing";
    const layout = { ...ring.layout, [key]: ring.layout[key] + by };
    await assertRejects(() => frontEnd.setVringAddr(0, layout), FrontEndError);
    assertStringIncludes(ring.h.status.lastError!, text);
  }
});

Deno.test("a ring whose parts are not whole in one region waits", async () => {
  await using ring = new TestRing({ features: EVENT_IDX });
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setVringNum(0, 8);
  await frontEnd.setVringKick(0);
  await frontEnd.setVringEnable(0, true);
  const end = 0x20000;
  const layouts = [
    { ...ring.layout, descriptorTable: end - 16 * 8 + 16 },
    { ...ring.layout, availableRing: end - 4 - 2 * 8 },
    { ...ring.layout, usedRing: end - 4 - 8 * 8 },
    { ...ring.layout, usedRing: end + 0x1000 },
  ];
  for (const layout of layouts) {
    await frontEnd.setVringAddr(0, layout);
    assertEquals(plane.running.size, 0);
    assertEquals(ring.h.status.rings[0].activity, "waits for its memory");
  }
  // Without EVENT_IDX the rings are two bytes shorter, and fit.
  await frontEnd.setFeatures(BIT_30);
  for (const layout of layouts.slice(1, 3)) {
    await frontEnd.setVringAddr(0, layout);
    assertEquals(plane.running.size, 1);
  }
});

Deno.test("a ring that the device refuses is refused, and tried again", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout);
  plane.fail("startRing", new Error('Cannot lock "disk.img"'));
  await assertRejects(() => frontEnd.setVringEnable(0, true), FrontEndError);
  assertStringIncludes(
    ring.h.status.lastError!,
    'VHOST_USER_SET_VRING_ENABLE: ring 0 does not start: Cannot lock "disk.img"',
  );
  assertEquals(ring.h.status.rings[0].activity, "refused");
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.running.size, 1);
});

Deno.test("a ring that the device refuses ends a connection without answers", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  frontEnd.acks = false;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout);
  plane.fail("startRing", new Error("no"));
  await frontEnd.setVringEnable(0, true);
  assertStringIncludes((await ring.h.dropped())!, "ring 0 does not start: no");
  assertEquals(plane.regions.size, 0);
  assertEquals(plane.calls.at(-1), "reset");
});

Deno.test("rings are independent of each other", async () => {
  await using h = Harness.open({ queueCount: 2 });
  const { frontEnd, plane } = h;
  using region = SharedRegion.create(0, 0x10000);
  await frontEnd.handshake();
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.addMemReg(region);
  const layout = (index: number) => ({
    size: 16,
    descriptorTable: 0x4000 * index,
    availableRing: 0x4000 * index + 0x1000,
    usedRing: 0x4000 * index + 0x2000,
  });
  for (const index of [0, 1]) {
    await frontEnd.setVringEnable(index, true);
  }
  plane.fail("startRing", new Error("no"));
  await frontEnd.setVringNum(0, 16);
  await frontEnd.setVringAddr(0, layout(0));
  await assertRejects(() => frontEnd.setVringKick(0), FrontEndError);
  plane.fail("startRing", new Error("never asked for"));
  await frontEnd.setVringNum(1, 16);
  plane.takeCalls();
  await frontEnd.setVringAddr(1, layout(1));
  assertEquals(plane.calls, []);
  await assertRejects(() => frontEnd.setVringKick(1), FrontEndError);
  await frontEnd.setVringKick(1);
  assertEquals([...plane.running.keys()], [1]);
  assertEquals(await frontEnd.getVringBase(0), 0);
  assertEquals([...plane.running.keys()], [1]);
});

Deno.test("kick, call and error descriptors are eventfds, nothing else", async () => {
  await using ring = new TestRing();
  await ring.run();
  const { frontEnd, plane } = ring.h;
  plane.takeCalls();
  const before = openFdCount();
  const [left, right] = UnixSocket.pair();
  using memfd = createMemfd("x", 4096);
  for (const fd of [left.fd, memfd.fd, ring.region.fd]) {
    for (
      const set of [
        () => frontEnd.setVringKick(0, fd),
        () => frontEnd.setVringCall(0, fd),
        () => frontEnd.setVringErr(0, fd),
      ]
    ) {
      await assertRejects(set, FrontEndError, "refused");
      assertStringIncludes(ring.h.status.lastError!, ", not an eventfd");
    }
  }
  left.close();
  right.close();
  memfd.close();
  assertEquals(plane.calls, []);
  assertEquals(openFdCount(), before);
});
