import { assert, assertEquals, assertRejects } from "@std/assert";
import { openFdCount, setNonblocking } from "../sys/fd.ts";
import { EventFd, relieveEventFd } from "../sys/eventfd.ts";
import { libc } from "../sys/libc.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { waitUntil, withDeadline } from "../tests/support/deadline.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { isConfigRefusal } from "../virtqueue/config_refusal.ts";
import type { FakeDriver } from "../virtqueue/testing/driver.ts";
import { DeviceError, WorkerPlane, WorkerPool } from "./worker_plane.ts";
import type { FailingOptions } from "./worker/testing/failing_device.ts";
import {
  GUEST_ADDRESS,
  GUEST_SIZE,
  PlaneMemory,
} from "./worker/testing/plane_memory.ts";

for (
  const [name, options] of [
    ["blk", (path: string) => ({ path })],
    ["scsi", (path: string) => ({ luns: [{ path }] })],
  ] as const
) {
  Deno.test(`${name} says which image it waits for while it is made`, async () => {
    using directory = TemporaryDirectory.make("plane");
    const path = directory.file("none.img");
    const told: string[] = [];
    await assertRejects(
      () =>
        WorkerPlane.start({
          module: new URL(`../backends/${name}/mod.ts`, import.meta.url).href,
          options: options(path),
          onWaitsFor: (what) => void told.push(what),
          log() {},
        }),
      DeviceError,
      "there is no such file",
    );
    assertEquals(told, [`"${path}" to open`]);
  });
}

/** Fills the counter of an eventfd: adding to it blocks, or is in vain. */
function fill(event: EventFd): void {
  assertEquals(libc().eventfd_write(event.fd, 0xffff_ffff_ffff_fffen), 0);
}

for (const which of ["call", "error"] as const) {
  Deno.test(`a descriptor for ${which}s that blocks cannot keep the Worker`, async () => {
    using directory = TemporaryDirectory.make("plane");
    const path = directory.file("disk.img");
    Deno.writeFileSync(path, new Uint8Array(512));
    const plane = await WorkerPlane.start({
      module: new URL("../backends/blk/mod.ts", import.meta.url).href,
      options: { path },
      log() {},
    });
    using memory = new PlaneMemory();
    using kick = EventFd.create();
    using call = EventFd.create({ nonblocking: false });
    using error = EventFd.create({ nonblocking: false });
    const driver = memory.driver();
    const full = which === "call" ? call : error;
    try {
      await plane.addRegion(memory.region);
      await plane.startRing({
        ...driver,
        index: 0,
        position: 0,
        kickFd: kick.fd,
        callFd: call.fd,
        errorFd: error.fd,
      });
      driver.setDescriptor(0, { address: GUEST_ADDRESS, length: 0, flags: 2 });
      const strike = async (count: number): Promise<void> => {
        fill(full);
        if (which === "error") driver.offer(driver.size);
        driver.offer(0);
        kick.signal();
        await waitUntil(() => driver.usedIndex === count, {
          what: "the Worker to notify",
        });
      };
      await strike(1);
      await withDeadline(plane.status(), 5_000, "the status");
      assertEquals(full.drain(), 1);
      if (which === "call") {
        // The one that replaces it is no better.
        using next = EventFd.create({ nonblocking: false });
        fill(next);
        await withDeadline(plane.setCall(0, next.fd), 5_000, "the next one");
        await withDeadline(plane.setCall(0, call.fd), 5_000, "the old one");
        full.drain();
      }
      await strike(2);
      await withDeadline(plane.stopRing(0), 5_000, "the ring to stop");
      assertEquals(full.drain(), 1);
      await plane.removeRegion(memory.region);
    } finally {
      await withDeadline(plane.close(), 5_000, "the Worker to end");
    }
  });
}

function startFailing(
  options: FailingOptions,
  workers = 1,
): Promise<WorkerPlane> {
  return WorkerPlane.start({
    module: new URL("./worker/testing/failing_device.ts", import.meta.url).href,
    options: { ...options },
    workers,
    log() {},
  });
}

Deno.test("a device that fails with a chain in its hands is told of", async () => {
  const plane = await startFailing({});
  using memory = new PlaneMemory();
  using kick = EventFd.create();
  const driver = memory.driver();
  await plane.addRegion(memory.region);
  const [ours, theirs] = UnixSocket.pair();
  using _ours = ours, _theirs = theirs;
  const lent = assertRejects(() =>
    plane.configDelegate!.answer({
      fd: ours.fd,
      acknowledges: true,
      counts: new Uint32Array(new SharedArrayBuffer(8)),
    }), DeviceError);
  driver.submit([{ writable: 4 }]);
  const { descriptorTable, availableRing, usedRing, size } = driver;
  await plane.startRing({
    index: 0,
    size,
    descriptorTable,
    availableRing,
    usedRing,
    position: 0,
    kickFd: kick.fd,
    callFd: -1,
    errorFd: -1,
  });
  const error = await withDeadline(plane.failed, 5_000, "the failure");
  assert(error.message.includes("The medium caught fire"), error.message);
  const refusal = await assertRejects(() => plane.stopRing(0), DeviceError);
  assertEquals(refusal.kind, "worker-failed");
  await withDeadline(lent, 5_000, "the end of the loan");
  await withDeadline(plane.close(), 5_000, "the Worker to end");
});

Deno.test("a device knows what backs the guest's memory", async () => {
  const plane = await WorkerPlane.start({
    module: new URL("./worker/testing/memory_device.ts", import.meta.url).href,
    options: {},
    log() {},
  });
  using memory = new PlaneMemory(GUEST_SIZE);
  const { region } = memory;
  try {
    await plane.addRegion(region);
    const { device } = await plane.status();
    assertEquals(device.regions, [{
      guestAddress: GUEST_ADDRESS,
      size: GUEST_SIZE,
      backing: { fd: region.fd, offset: GUEST_SIZE, pageSize: 4096 },
    }]);
    await plane.removeRegion(region);
    assertEquals((await plane.status()).device.regions, []);
  } finally {
    await plane.close();
  }
});

Deno.test("Workers are closed when a later one refuses", async () => {
  using directory = TemporaryDirectory.make("plane");
  const closed = directory.file("closed");
  const error = await assertRejects(
    () => startFailing({ refuse: 1, closed }, 2),
    DeviceError,
  );
  assertEquals(error.message, "Worker 1 refuses");
  assert(Deno.statSync(closed).isFile);
});

Deno.test("words that the driver writes are there at once, for one Worker", async () => {
  const options = {
    module: new URL("../backends/balloon/mod.ts", import.meta.url).href,
    options: { size: 4096 },
    log() {},
  };
  const plane = await WorkerPlane.start(options);
  try {
    const written = plane.writeConfig(0, new Uint8Array(16).fill(7));
    assertEquals([...plane.config.slice(0, 8)], [1, 0, 0, 0, 7, 7, 7, 7]);
    await written;
    const { device } = await plane.status();
    assertEquals(device.actual, 0x07070707 * 4096);
    await plane.reset();
    assertEquals([...plane.config.slice(4)], new Array(12).fill(0));
  } finally {
    await plane.close();
  }
  await assertRejects(
    () => WorkerPlane.start({ ...options, workers: 2 }),
    TypeError,
    "has one Worker, not 2",
  );
});

Deno.test("what a device refuses of its configuration is known as that", async () => {
  const plane = await startFailing({}, 2);
  try {
    const refusal = await assertRejects(
      () => plane.writeConfig(0, Uint8Array.of(1)),
      DeviceError,
      "the medium stays as it is",
    );
    assert(isConfigRefusal(refusal));
  } finally {
    await plane.close();
  }
});

Deno.test("a Worker ends although its device cannot be closed", async () => {
  const before = openFdCount();
  const plane = await startFailing({ stuck: true });
  await withDeadline(plane.close(), 5_000, "the answer");
  await waitUntil(() => openFdCount() <= before, {
    what: "the Worker to end",
    timeout: 5_000,
  });
});

/** An end of a pair, with memory and a driver for each of its queues. */
class PairEnd implements AsyncDisposable {
  readonly memory = new PlaneMemory();
  readonly kick = EventFd.create();
  readonly call = EventFd.create();
  readonly receive: FakeDriver = this.memory.driver();
  readonly transmit: FakeDriver = this.memory.driver();

  private constructor(readonly plane: WorkerPlane) {}

  static async start(pool: WorkerPool, group: string | null): Promise<PairEnd> {
    const end = new PairEnd(
      await WorkerPlane.start({ ...PAIR, pool, group, log() {} }),
    );
    await end.plane.addRegion(end.memory.region);
    const drivers = [end.receive, end.transmit];
    for (const [index, driver] of drivers.entries()) {
      const { descriptorTable, availableRing, usedRing, size } = driver;
      await end.plane.startRing({
        index,
        size,
        descriptorTable,
        availableRing,
        usedRing,
        position: 0,
        kickFd: index === 1 ? end.kick.fd : -1,
        callFd: end.call.fd,
        errorFd: -1,
      });
    }
    return end;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane.close();
    for (const fd of [this.kick, this.call]) fd.close();
    this.memory[Symbol.dispose]();
  }
}

const PAIR = {
  module: new URL("./worker/testing/pair_device.ts", import.meta.url).href,
  options: {},
};

Deno.test("devices of a group share one Worker, and reach each other's rings", async () => {
  const pool = new WorkerPool();
  const before = openFdCount();
  {
    await using one = await PairEnd.start(pool, "pair");
    {
      await using two = await PairEnd.start(pool, "pair");
      assertEquals((await one.plane.status()).device, { ends: 2 });
      two.receive.submit([{ writable: 16 }]);
      // The ring has no kick descriptor: it is looked at all the time.
      await waitUntil(
        async () => (await two.plane.status()).rings[0].inFlight === 1,
        { what: "the buffer to be taken" },
      );
      one.transmit.submit([{ readable: new TextEncoder().encode("hello") }]);
      one.kick.signal();
      await waitUntil(() => two.receive.usedPending, { what: "the message" });
      const [{ data, length }] = two.receive.reap();
      assertEquals(new TextDecoder().decode(data.subarray(0, length)), "hello");
      await waitUntil(() => two.call.drain() > 0, { what: "the notification" });
      await assertRejects(
        () =>
          WorkerPlane.start({
            ...PAIR,
            options: { refuse: true },
            pool,
            group: "pair",
            log() {},
          }),
        DeviceError,
        "No third end",
      );
    }
    // One is gone, the other one goes on.
    assertEquals((await one.plane.status()).device, { ends: 1 });
    one.transmit.submit([{ readable: new TextEncoder().encode("anyone?") }]);
    one.kick.signal();
    await waitUntil(() => one.transmit.usedPending, { what: "the answer" });
  }
  await waitUntil(() => openFdCount() <= before, { what: "the Worker to end" });
  // A group begins again in a Worker of its own.
  await using again = await PairEnd.start(pool, "pair");
  assertEquals((await again.plane.status()).device, { ends: 1 });
});

/** A disk that shares its Worker with others, and its driver. */
class SharedDisk implements AsyncDisposable {
  readonly memory = new PlaneMemory();
  readonly kick = EventFd.create();
  readonly driver: FakeDriver = this.memory.driver();
  readonly lines: string[] = [];
  plane!: WorkerPlane;
  readonly #directory = TemporaryDirectory.make("plane");
  #offered = 0;

  async start(pool: WorkerPool, call: EventFd): Promise<void> {
    const path = this.#directory.file("disk.img");
    Deno.writeFileSync(path, new Uint8Array(512));
    this.plane = await WorkerPlane.start({
      module: new URL("../backends/blk/mod.ts", import.meta.url).href,
      options: { path },
      pool,
      group: "disks",
      log: (_level, message) => void this.lines.push(message),
    });
    await this.plane.addRegion(this.memory.region);
    const { descriptorTable, availableRing, usedRing, size } = this.driver;
    await this.plane.startRing({
      index: 0,
      size,
      descriptorTable,
      availableRing,
      usedRing,
      position: 0,
      kickFd: this.kick.fd,
      callFd: call.fd,
      errorFd: -1,
    });
    const buffer = { address: GUEST_ADDRESS, length: 0, flags: 2 };
    this.driver.setDescriptor(0, buffer);
  }

  /** Has a request served. */
  async use(): Promise<void> {
    this.driver.offer(0);
    this.kick.signal();
    const count = ++this.#offered;
    await waitUntil(() => this.driver.usedIndex === count, {
      what: `request ${count} to be served`,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane?.close();
    this.kick.close();
    this.memory[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

for (const later of [false, true]) {
  Deno.test(`a full eventfd that ${later ? "came to block" : "blocks"} does not keep the Worker that others share`, async () => {
    const pool = new WorkerPool();
    using full = EventFd.create({ nonblocking: later });
    using call = EventFd.create();
    await using one = new SharedDisk();
    await using other = new SharedDisk();
    await one.start(pool, full);
    await other.start(pool, call);
    setNonblocking(full.fd, false);
    fill(full);
    // The Worker signals what it has published, and nobody asks it for anything.
    await one.use();
    await other.use();
    await waitUntil(() => one.lines.length > 0, {
      what: "the log to tell of it",
    });
    assertEquals(one.lines, [
      "The eventfd for the calls of queue 0 was full and kept other devices " +
      "waiting: it is signalled no more",
    ]);
    await one.plane.status();
    full.drain();
    fill(full);
    await one.use();
    await other.use();
    await other.plane.status();
    assert(relieveEventFd(full.fd), "it was left alone");
    assertEquals([one.lines.length, other.lines], [1, []]);
    using next = EventFd.create();
    await one.plane.setCall(0, next.fd);
    assertEquals(next.drain(), 1);
    await one.use();
    await waitUntil(() => next.drain() > 0, { what: "the notification" });
  });
}

Deno.test("devices without a group have Workers of their own", async () => {
  const pool = new WorkerPool();
  await using one = await PairEnd.start(pool, null);
  await using two = await PairEnd.start(pool, null);
  assertEquals((await one.plane.status()).device, { ends: 1 });
  assertEquals((await two.plane.status()).device, { ends: 1 });
  await assertRejects(
    () => WorkerPlane.start({ ...PAIR, group: "x", workers: 2, log() {} }),
    TypeError,
    'A device of the group "x" has one Worker, not 2',
  );
});
