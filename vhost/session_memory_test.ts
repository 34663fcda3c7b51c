import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { openFdCount } from "../sys/fd.ts";
import { withDeadline } from "../tests/support/deadline.ts";
import { detachMemory, mappingsOf, viewMemory } from "../sys/mapping.ts";
import { FrontEndMessage } from "./constants.ts";
import { encodeMemoryRegion, encodeMemoryTable } from "./message.ts";
import { FrontEndError, SharedRegion } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { TestRing } from "./testing/test_ring.ts";

const { ADD_MEM_REG, REM_MEM_REG, SET_MEM_TABLE } = FrontEndMessage;

await Harness.warmUp();

/** Mappings of shared regions, on both sides. */
const mapped = (): number => mappingsOf("vhost-test");

Deno.test("memory that comes after a ring was started has it run", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.setupRing(0, ring.layout);
  await frontEnd.setVringEnable(0, true);
  assertEquals(ring.h.status.rings[0].activity, "waits for its memory");
  using elsewhere = SharedRegion.create(0x100000, 0x1000);
  await frontEnd.addMemReg(elsewhere);
  assertEquals(plane.running.size, 0);
  await frontEnd.addMemReg(ring.region);
  assertEquals(plane.running.size, 1);
  // More of it changes nothing for a ring that runs.
  using more = SharedRegion.create(0x200000, 0x1000);
  plane.takeCalls();
  await frontEnd.addMemReg(more);
  await frontEnd.remMemReg(elsewhere);
  assertEquals(plane.calls, ["addRegion 0x200000", "removeRegion 0x100000"]);
});

Deno.test("a ring that the device starts, or has refused, says so", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  const activity = () => ring.h.status.rings[0].activity;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setupRing(0, ring.layout);
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  plane.startRing = () => (asked.resolve(), answer.promise);
  const enabled = assertRejects(
    () => frontEnd.setVringEnable(0, true),
    FrontEndError,
  );
  await withDeadline(asked.promise, 5_000, "the start of the ring");
  assertEquals(activity(), "waits for the device");
  answer.reject(new Error("in use"));
  await enabled;
  assertEquals(activity(), "refused");
});

Deno.test("a ring stops with its memory and goes on when it is back", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.positions.set(0, 41);
  plane.takeCalls();
  await frontEnd.remMemReg(ring.region);
  assertEquals(plane.takeCalls(), ["stopRing 0", "removeRegion 0x10000"]);
  assertEquals(ring.h.status.rings[0].position, 41);
  assertEquals(ring.h.status.rings[0].activity, "waits for its memory");
  await frontEnd.addMemReg(ring.region);
  assertEquals(plane.takeCalls(), ["addRegion 0x10000", "startRing 0 @41"]);
});

Deno.test("a ring stops when any of its parts goes", async () => {
  for (const part of [0, 1, 2]) {
    await using ring = new TestRing();
    const { frontEnd, plane } = ring.h;
    await ring.prepare();
    const regions = [0, 1, 2].map((i) =>
      SharedRegion.create(0x10000 + 0x1000 * i, 0x1000)
    );
    for (const region of regions) await frontEnd.addMemReg(region);
    await frontEnd.setupRing(0, ring.layout);
    await frontEnd.setVringEnable(0, true);
    assertEquals(plane.running.size, 1);
    await frontEnd.remMemReg(regions[part]);
    assertEquals(plane.running.size, 0);
    await frontEnd.addMemReg(regions[part]);
    assertEquals(plane.running.size, 1);
    for (const region of regions) region[Symbol.dispose]();
  }
});

Deno.test("memory is unmapped when the data plane has let go, then answered", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  const before = mapped();
  const { arrived, release } = plane.hold("removeRegion");
  let answered = false;
  const removed = frontEnd.remMemReg(ring.region).then(() => answered = true);
  await arrived;
  assertEquals(mapped(), before);
  assertEquals(answered, false);
  release();
  await removed;
  assertEquals(mapped(), before - 1);
});

Deno.test("REM_MEM_REG goes by addresses and size, and closes a descriptor", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.addMemReg(ring.region);
  const before = openFdCount();
  const { description } = ring.region;
  for (
    const other of [
      { ...description, size: 0x1000 },
      { ...description, userAddress: 0 },
      { ...description, guestAddress: 0x11000 },
    ]
  ) {
    await assertRejects(
      () =>
        frontEnd.set(REM_MEM_REG, encodeMemoryRegion(other), [ring.region.fd]),
      FrontEndError,
    );
    assertStringIncludes(ring.h.status.lastError!, "there is no region of");
  }
  assertEquals(openFdCount(), before);
  assertEquals(plane.regions.size, 1);
  await frontEnd.set(
    REM_MEM_REG,
    encodeMemoryRegion({ ...description, mmapOffset: 0x5000 }),
    [ring.region.fd],
  );
  assertEquals(plane.regions.size, 0);
  // What is not there was removed: without an answer that is no matter.
  frontEnd.acks = false;
  await frontEnd.remMemReg(ring.region, true);
  await ring.h.settled();
  assertEquals(ring.h.status.ignored, 1);
  assertEquals(openFdCount(), before - 1);
});

Deno.test("ADD_MEM_REG that cannot be mapped is refused and leaves nothing", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  const before = openFdCount();
  const { description, fd } = ring.region;
  const payloads = [
    { ...description, size: description.size + 1 },
    { ...description, mmapOffset: 1 },
    { ...description, size: 0 },
  ].map(encodeMemoryRegion);
  for (const payload of payloads) {
    await assertRejects(
      () => frontEnd.set(ADD_MEM_REG, payload, [fd]),
      FrontEndError,
    );
  }
  const good = encodeMemoryRegion(description);
  await assertRejects(() => frontEnd.set(ADD_MEM_REG, good), FrontEndError);
  await assertRejects(
    () => frontEnd.set(ADD_MEM_REG, good, [fd, fd]),
    FrontEndError,
  );
  assertEquals(openFdCount(), before);
  await frontEnd.set(ADD_MEM_REG, good, [fd]);
  await assertRejects(
    () => frontEnd.set(ADD_MEM_REG, good, [fd]),
    FrontEndError,
  );
  assertStringIncludes(ring.h.status.lastError!, "overlaps another region");
  assertEquals(plane.takeCalls().slice(-1), ["addRegion 0x10000"]);
  assertEquals(openFdCount(), before + 1);
});

Deno.test("regions with an offset and parts of one file are mapped right", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  using shifted = SharedRegion.create(0x50000, 0x1000, { fileOffset: 0x2010 });
  shifted.bytes[3] = 99;
  await frontEnd.addMemReg(shifted);
  const { hostAddress, fileOffset } = plane.regions.get(0x50000)!;
  assertEquals(fileOffset, 0x2010);
  assertEquals(hostAddress % 4096, 0x10);
  const view = viewMemory(hostAddress, 16);
  assertEquals(new Uint8Array(view)[3], 99);
  detachMemory(view);
});

Deno.test("SET_MEM_TABLE replaces all regions under rings that run", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  using old = SharedRegion.create(0x80000, 0x1000);
  await frontEnd.setMemTable([ring.region, old]);
  await frontEnd.setupRing(0, ring.layout);
  await frontEnd.setVringEnable(0, true);
  plane.positions.set(0, 6);
  plane.takeCalls();
  const before = openFdCount();
  using added = SharedRegion.create(0x90000, 0x1000);
  await frontEnd.setMemTable([ring.region, added]);
  assertEquals(plane.takeCalls(), [
    "stopRing 0",
    "removeRegion 0x10000",
    "removeRegion 0x80000",
    "addRegion 0x10000",
    "addRegion 0x90000",
    "startRing 0 @6",
  ]);
  assertEquals(openFdCount(), before + 1);
  // Without the ring's memory it waits; with an empty table too.
  await frontEnd.setMemTable([old]);
  assertEquals(plane.running.size, 0);
  await frontEnd.setMemTable([]);
  assertEquals(plane.regions.size, 0);
  await frontEnd.setMemTable([ring.region]);
  assertEquals(plane.running.get(0)!.position, 6);
});

Deno.test("SET_MEM_TABLE that is refused changes nothing", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.takeCalls();
  const before = openFdCount();
  const mappedBefore = mapped();
  const { description, fd } = ring.region;
  const other = { ...description, guestAddress: 0x40000, userAddress: 0x40000 };
  const table = encodeMemoryTable;
  const cases: [Uint8Array, number[], string][] = [
    [table([description]), [], "0 file descriptors came along with 1 regions"],
    [table([description]), [fd, fd], "2 file descriptors came along with 1"],
    [table([]), [fd], "1 file descriptors came along with 0 regions"],
    [table([description, description]), [fd, fd], "overlaps another region"],
    [
      table([other, { ...description, size: 0x20000 }]),
      [fd, fd],
      "cannot be mapped",
    ],
    [
      table([{ ...description, size: 0x20000 }, other, other]),
      [fd, fd, fd],
      "cannot be mapped",
    ],
    [table([description]).subarray(0, 39), [fd], "payload is 39 bytes, not 40"],
  ];
  for (const [payload, fds, text] of cases) {
    await assertRejects(
      () => frontEnd.set(SET_MEM_TABLE, payload, fds),
      FrontEndError,
    );
    assertStringIncludes(ring.h.status.lastError!, text);
    assertEquals(openFdCount(), before);
  }
  assertEquals(plane.calls, []);
  assertEquals(mapped(), mappedBefore);
});

Deno.test("SET_MEM_TABLE carries up to 253 regions", async () => {
  await using h = Harness.open();
  await h.frontEnd.handshake();
  using one = SharedRegion.create(0, 0x1000);
  const regions = Array.from({ length: 253 }, (_, i) => ({
    ...one.description,
    guestAddress: i * 0x1000,
    userAddress: i * 0x1000,
  }));
  await h.frontEnd.set(
    SET_MEM_TABLE,
    encodeMemoryTable(regions),
    regions.map(() => one.fd),
  );
  assertEquals(h.plane.regions.size, 253);
});

Deno.test("512 regions are taken, one more is refused, and all are given back", async () => {
  const before = openFdCount();
  const mappedBefore = mapped();
  {
    await using h = Harness.open();
    await h.frontEnd.handshake();
    using one = SharedRegion.create(0, 0x1000);
    const add = (i: number): Promise<void> =>
      h.frontEnd.set(
        ADD_MEM_REG,
        encodeMemoryRegion({
          ...one.description,
          guestAddress: i * 0x1000,
          userAddress: i * 0x1000,
        }),
        [one.fd],
      );
    for (let i = 0; i < 512; i++) await add(i);
    await assertRejects(() => add(512), FrontEndError);
    assertStringIncludes(
      h.status.lastError!,
      "all 512 memory slots are in use",
    );
    assertEquals(h.plane.regions.size, 512);
  }
  assertEquals(openFdCount(), before);
  assertEquals(mapped(), mappedBefore);
});

Deno.test("a ring that its memory could start, but the device not, ends the connection", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.prepare();
  await frontEnd.setupRing(0, ring.layout);
  await frontEnd.setVringEnable(0, true);
  plane.fail("startRing", new Error("no"));
  await assertRejects(() => frontEnd.addMemReg(ring.region), FrontEndError);
  await ring.h.done;
  assertStringIncludes(ring.h.status.lastError!, "ring 0 does not start: no");
  assertEquals(plane.regions.size, 0);
});

Deno.test("memory that the data plane does not give up stays mapped", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  const before = mapped();
  plane.fail("removeRegion", new Error("the worker is gone"));
  frontEnd.close();
  const error = await ring.h.failed();
  assertStringIncludes(String(error), "the worker is gone");
  assertEquals(mapped(), before);
});

Deno.test("a ring that does not stop keeps its memory mapped", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  plane.fail("stopRing", new Error("stuck"));
  frontEnd.close();
  assertStringIncludes(String(await ring.h.failed()), "stuck");
  assertEquals(plane.regions.size, 1);
  assert(!plane.calls.includes("reset"));
});
