import { assert, assertEquals, assertRejects } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount } from "../sys/fd.ts";
import { mappingsOf } from "../sys/mapping.ts";
import { dirtyLogSize } from "../virtqueue/dirty_log.ts";
import { FrontEndMessage, ProtocolFeature } from "./constants.ts";
import { encodeLog, type LogDescription } from "./message.ts";
import { LOG_ALL_BIT } from "./state.ts";
import { FrontEndError, SharedRegion } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { LogMemory, setLogging } from "./testing/log_memory.ts";
import { TestRing } from "./testing/test_ring.ts";

/** The end of a {@linkcode TestRing}'s memory. */
const END = 0x2_0000;
const SIZE = dirtyLogSize(END);

const layouts = (ring: TestRing) => new Map([[0, ring.layout]]);

/** Calls that have to do with rings or the log. */
function takeCalls(ring: TestRing): string[] {
  return ring.h.plane.takeCalls();
}

Deno.test("logging starts and ends while the ring runs, as QEMU does it", async () => {
  await using ring = new TestRing({ features: 1n << 32n });
  const { frontEnd, plane, session } = ring.h;
  using log = new LogMemory(SIZE);
  await ring.run();
  takeCalls(ring);
  await log.set(frontEnd);
  assertEquals([takeCalls(ring), session.status().writesLogged], [[], false]);
  await setLogging(frontEnd, true, layouts(ring));
  assertEquals(takeCalls(ring), [
    `logWrites ${SIZE}`,
    `setUsedLog 0 ${ring.layout.usedRing}`,
  ]);
  assertEquals(session.status().writesLogged, true);
  plane.log![1] = 0x42;
  assertEquals(log.takePages(), [9, 14]);
  // The device is not told: the driver acknowledged what it did before.
  assertEquals(plane.negotiated, 1n << 32n);
  await setLogging(frontEnd, false, layouts(ring));
  assertEquals(takeCalls(ring), ["logWrites nowhere", "setUsedLog 0 -1"]);
  assertEquals(session.status().writesLogged, false);
  assertEquals(session.status().rings[0].activity, "running");
  assertEquals(mappingsOf("vhost-test-log"), 1, "the front-end's own");
});

Deno.test("features first, log after: logging starts with the log", async () => {
  await using ring = new TestRing();
  using log = new LogMemory(SIZE);
  await ring.run();
  await setLogging(ring.h.frontEnd, true, layouts(ring));
  assertEquals(ring.h.session.status().writesLogged, false);
  await log.set(ring.h.frontEnd);
  assertEquals(ring.h.session.status().writesLogged, true);
  assertEquals(ring.h.plane.running.get(0)!.usedLog, ring.layout.usedRing);
});

Deno.test("a ring that starts while writes are to be logged waits for the log", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane, session } = ring.h;
  using log = new LogMemory(SIZE);
  await ring.prepare();
  await frontEnd.setFeatures(frontEnd.features | LOG_ALL_BIT);
  await frontEnd.addMemReg(ring.region);
  await frontEnd.setVringNum(0, 8);
  await frontEnd.setVringAddr(0, ring.layout, 0x1_8000);
  await frontEnd.setVringKick(0);
  await frontEnd.setVringEnable(0, true);
  assertEquals(
    session.status().rings[0].activity,
    "waits for the log of its writes",
  );
  takeCalls(ring);
  await log.set(frontEnd);
  assertEquals(takeCalls(ring), [`logWrites ${SIZE}`, "startRing 0 @0"]);
  assertEquals(plane.running.get(0)!.usedLog, 0x1_8000);
});

Deno.test("without LOG_SHMFD there is no log to wait for", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  const protocolFeatures = ~(1n << BigInt(ProtocolFeature.LOG_SHMFD));
  await ring.prepare({ protocolFeatures });
  await frontEnd.setFeatures(frontEnd.features | LOG_ALL_BIT);
  await ring.start();
  assertEquals(ring.h.session.status().rings[0].activity, "running");
  using log = new LogMemory(SIZE);
  await assertRejects(() => log.set(frontEnd), FrontEndError, "refused");
  assertEquals(
    ring.h.status.lastError,
    "Cannot serve VHOST_USER_SET_LOG_BASE: protocol feature LOG_SHMFD was " +
      "not negotiated",
  );
});

Deno.test("another log takes the place of the first", async () => {
  await using ring = new TestRing();
  using first = new LogMemory(SIZE);
  using second = new LogMemory(2 * SIZE, 4096);
  await ring.run();
  await first.set(ring.h.frontEnd);
  await setLogging(ring.h.frontEnd, true, layouts(ring));
  takeCalls(ring);
  await second.set(ring.h.frontEnd);
  assertEquals(takeCalls(ring), [`logWrites ${2 * SIZE}`]);
  ring.h.plane.log![0] = 1;
  assertEquals([first.takePages(), second.takePages()], [[], [0]]);
  // Two of the front-end, one of the back-end.
  assertEquals(mappingsOf("vhost-test-log"), 3);
});

Deno.test("the answer comes unasked, as 0", async () => {
  await using ring = new TestRing();
  using log = new LogMemory(SIZE);
  await ring.run();
  ring.h.frontEnd.acks = false;
  await log.set(ring.h.frontEnd);
  await ring.h.settled();
});

Deno.test("a reset and the front-end's end take the log away", async () => {
  await Harness.warmUp();
  const before = openFdCount();
  for (const end of ["reset", "leave"]) {
    using log = new LogMemory(SIZE);
    using told = EventFd.create();
    {
      await using ring = new TestRing();
      const { frontEnd } = ring.h;
      await ring.run();
      await log.set(frontEnd);
      await frontEnd.set(FrontEndMessage.SET_LOG_FD, undefined, [told.fd]);
      await setLogging(frontEnd, true, layouts(ring));
      assertEquals(mappingsOf("vhost-test-log"), 2);
      if (end === "reset") {
        await frontEnd.resetDevice();
        assertEquals(mappingsOf("vhost-test-log"), 1);
        assertEquals(ring.h.session.status().writesLogged, false);
        assertEquals(takeCalls(ring).slice(-2), ["reset", "logWrites nowhere"]);
      }
    }
    assertEquals(mappingsOf("vhost-test-log"), 1, end);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("again and again leaves nothing behind", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.run();
  const before = openFdCount();
  for (let i = 0; i < 50; i++) {
    using log = new LogMemory(SIZE);
    using told = EventFd.create();
    await log.set(frontEnd);
    await frontEnd.set(FrontEndMessage.SET_LOG_FD, undefined, [told.fd]);
    await setLogging(frontEnd, true, layouts(ring));
    await log.set(frontEnd);
    await setLogging(frontEnd, false, layouts(ring));
  }
  // The last one to be told stays.
  assertEquals(openFdCount(), before + 1);
  assertEquals(mappingsOf("vhost-test-log"), 0);
});

Deno.test("logs that make no sense are refused, and told of", async () => {
  const shapes: [LogDescription, string][] = [
    [{ mmapSize: 0, mmapOffset: 0 }, "a log of 0 bytes is not from 1 to"],
    [
      { mmapSize: 2 ** 32 + 1, mmapOffset: 0 },
      "a log of 4294967297 bytes is not from 1 to 4294967296",
    ],
    [
      { mmapSize: SIZE, mmapOffset: 4096 },
      `a log of ${SIZE} bytes at 4096 cannot be mapped`,
    ],
    [
      { mmapSize: 2 ** 32, mmapOffset: Number.MAX_SAFE_INTEGER },
      "cannot be mapped",
    ],
    [
      { mmapSize: SIZE - 1, mmapOffset: 0 },
      `a log of ${
        SIZE - 1
      } bytes is less than the ${SIZE} that the region at ` +
      "0x10000 needs",
    ],
  ];
  for (const [shape, message] of shapes) {
    await using ring = new TestRing();
    using log = new LogMemory(4096);
    await ring.run();
    const before = openFdCount();
    await assertRejects(
      () => log.set(ring.h.frontEnd, shape),
      FrontEndError,
      "refused VHOST_USER_SET_LOG_BASE",
    );
    assert(
      ring.h.status.lastError?.includes(message),
      ring.h.status.lastError!,
    );
    assertEquals(ring.h.session.status().rings[0].activity, "running");
    assertEquals(openFdCount(), before);
    assertEquals(mappingsOf("vhost-test-log"), 1);
  }
});

Deno.test("numbers of 64 bits, a missing descriptor and a short payload are refused", async () => {
  const wrong: [payload: Uint8Array, fds: number, message: string][] = [
    [
      new Uint8Array(16).fill(0xff),
      1,
      "log size 0xffffffffffffffff is not below 2^53",
    ],
    [encodeLog({ mmapSize: SIZE, mmapOffset: 0 }), 0, "0 file descriptors"],
    [new Uint8Array(8), 1, "payload is 8 bytes, not 16"],
  ];
  for (const [payload, fds, message] of wrong) {
    await using ring = new TestRing();
    using log = new LogMemory(SIZE);
    await ring.run();
    await assertRejects(() =>
      ring.h.frontEnd.set(
        FrontEndMessage.SET_LOG_BASE,
        payload,
        [log.fd].slice(0, fds),
      ), FrontEndError);
    assert(
      ring.h.status.lastError?.includes(message),
      ring.h.status.lastError!,
    );
  }
});

Deno.test("who did not ask, and is refused, is told by the end of the connection", async () => {
  await using ring = new TestRing();
  using log = new LogMemory(SIZE);
  await ring.run();
  ring.h.frontEnd.acks = false;
  await assertRejects(
    () => log.set(ring.h.frontEnd, { mmapSize: 1, mmapOffset: 0 }),
    FrontEndError,
    "closed the connection",
  );
});

Deno.test("what has no room in the log is refused while it is written", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  using log = new LogMemory(SIZE);
  using far = SharedRegion.create(0x10_0000, 0x1000);
  await ring.run();
  await log.set(frontEnd);
  await setLogging(frontEnd, true, layouts(ring));
  await assertRejects(() => frontEnd.addMemReg(far), FrontEndError);
  assert(ring.h.status.lastError?.includes("the region at 0x100000 needs"));
  await assertRejects(
    () => frontEnd.setMemTable([ring.region, far]),
    FrontEndError,
  );
  await assertRejects(
    () => frontEnd.setVringAddr(0, ring.layout, END),
    FrontEndError,
  );
  assert(
    ring.h.status.lastError?.includes("the used ring of ring 0 needs"),
    ring.h.status.lastError!,
  );
  assertEquals(ring.h.session.status().rings[0].activity, "running");
  await setLogging(frontEnd, false, layouts(ring));
  await frontEnd.addMemReg(far);
});

Deno.test("a log that became too small is refused with the feature", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  using log = new LogMemory(SIZE);
  using far = SharedRegion.create(0x10_0000, 0x1000);
  await ring.run();
  await log.set(frontEnd);
  await frontEnd.addMemReg(far);
  await assertRejects(
    () => frontEnd.setFeatures(frontEnd.features | LOG_ALL_BIT),
    FrontEndError,
  );
  assertEquals(ring.h.session.status().writesLogged, false);
});

Deno.test("only an eventfd is signalled", async () => {
  await using ring = new TestRing();
  const { frontEnd } = ring.h;
  await ring.run();
  using log = new LogMemory(SIZE);
  await assertRejects(
    () => frontEnd.set(FrontEndMessage.SET_LOG_FD, undefined, [log.fd]),
    FrontEndError,
  );
  assertEquals(ring.h.plane.logFd, -1);
  using told = EventFd.create();
  await frontEnd.set(FrontEndMessage.SET_LOG_FD, undefined, [told.fd]);
  assert(ring.h.plane.logFd >= 0);
});

Deno.test("a log address of 64 bits is refused", async () => {
  await using ring = new TestRing();
  await ring.run();
  await assertRejects(
    () => ring.h.frontEnd.setVringAddr(0, ring.layout, 2 ** 53),
    FrontEndError,
  );
  assertEquals(
    ring.h.status.lastError,
    "Cannot serve VHOST_USER_SET_VRING_ADDR: log address 0x20000000000000 " +
      "is not below 2^53",
  );
});
