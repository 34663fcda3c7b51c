import { assertEquals, assertRejects } from "@std/assert";
import { openStorage } from "../backends/storage/open.ts";
import { EventFd } from "../sys/eventfd.ts";
import { waitUntil, withDeadline } from "../tests/support/deadline.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { LockPatience } from "./lock_patience.ts";
import { DeviceError } from "./worker/channel.ts";
import { PlaneMemory } from "./worker/testing/plane_memory.ts";
import { WorkerPlane } from "./worker_plane.ts";

/** Longer than any test may take (ms). */
const FOREVER = 600_000;

function locked(): DeviceError {
  return new DeviceError("locked", "another process uses it");
}

/** Attempts that fail so often, and then succeed; and their count. */
function failing(
  times: number,
): { attempt: () => Promise<void>; made: number } {
  const attempts = {
    made: 0,
    attempt(): Promise<void> {
      attempts.made++;
      return attempts.made > times
        ? Promise.resolve()
        : Promise.reject(locked());
    },
  };
  return attempts;
}

Deno.test("LockPatience tries again while somebody holds a lock, and says so once", async () => {
  const reasons: string[] = [];
  const patience = new LockPatience(FOREVER, (reason) => reasons.push(reason));
  const attempts = failing(4);
  await patience.outlast(attempts.attempt);
  assertEquals(attempts.made, 5);
  assertEquals(reasons, ["another process uses it"]);
  await patience.outlast(attempts.attempt);
  assertEquals([attempts.made, reasons.length], [6, 1]);
});

Deno.test("LockPatience waits for nothing else", async () => {
  const patience = new LockPatience(FOREVER, () => {});
  for (
    const error of [new DeviceError("system", "no locks"), new Error("locked")]
  ) {
    let made = 0;
    const thrown = await assertRejects(() =>
      patience.outlast(() => {
        made++;
        return Promise.reject(error);
      })
    );
    assertEquals([thrown, made], [error, 1]);
  }
});

Deno.test("LockPatience: after a wait in vain all are told at once, for a minute", async () => {
  let now = 0;
  const patience = new LockPatience(5_000, () => {}, () => now);
  /** Fails for so long, while the clock runs. */
  const fail = async (): Promise<number> => {
    let made = 0;
    await assertRejects(() =>
      patience.outlast(() => {
        made++;
        now += 1_000;
        return Promise.reject(locked());
      }), DeviceError);
    return made;
  };
  assertEquals(await fail(), 5);
  assertEquals(await fail(), 1);
  now += 54_000;
  assertEquals(await fail(), 1);
  // Who had it may have gone, and another one may be ending.
  now += 5_000;
  assertEquals(await fail(), 5);
  assertEquals(await fail(), 1);
  // One that succeeds tells that it has.
  await patience.outlast(failing(0).attempt);
  assertEquals(await fail(), 5);
});

Deno.test("LockPatience waits for nobody who has gone", async () => {
  const patience = new LockPatience(FOREVER, () => {});
  const attempts = failing(Infinity);
  const wanted = () => attempts.made < 3;
  await assertRejects(
    () => patience.outlast(attempts.attempt, wanted),
    DeviceError,
  );
  assertEquals(attempts.made, 3);
  // Nothing is said about the lock by that.
  await patience.outlast(failing(1).attempt);
});

Deno.test("LockPatience ends in the middle of a wait, for good", async () => {
  let begun = false;
  const patience = new LockPatience(FOREVER, () => begun = true);
  const attempts = failing(Infinity);
  const waiting = assertRejects(
    () => patience.outlast(attempts.attempt),
    DeviceError,
  );
  await waitUntil(() => begun, { what: "the wait to begin" });
  patience.end();
  await withDeadline(waiting, 5_000, "the end of the wait");
  await patience.outlast(failing(0).attempt);
  const later = failing(Infinity);
  await assertRejects(() => patience.outlast(later.attempt), DeviceError);
  assertEquals(later.made, 1);
});

/** Whether the wait was told of. */
function waits(lines: readonly string[]): boolean {
  return lines.some((line) =>
    line.startsWith("info Waits for a process that may be ending") &&
    line.includes("another process uses it")
  );
}

/** A disk that somebody else has locked, and a ring to start on it. */
async function withLockedDisk(
  lockPatience: number,
  body: (
    plane: WorkerPlane,
    start: () => Promise<void>,
    release: () => void,
    lines: readonly string[],
    path: string,
  ) => Promise<void>,
): Promise<void> {
  using directory = TemporaryDirectory.make("patience");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(512));
  const lines: string[] = [];
  const plane = await WorkerPlane.start({
    module: new URL("../backends/blk/mod.ts", import.meta.url).href,
    options: { path },
    lockPatience,
    log: (level, message) => lines.push(`${level} ${message}`),
  });
  const holder = openStorage({ path });
  using memory = new PlaneMemory();
  using kick = EventFd.create();
  using call = EventFd.create();
  const driver = memory.driver();
  try {
    await plane.addRegion(memory.region);
    holder.acquire();
    const start = () =>
      plane.startRing({
        ...driver,
        index: 0,
        position: 0,
        kickFd: kick.fd,
        callFd: call.fd,
        errorFd: -1,
      });
    await body(plane, start, () => holder.release(), lines, path);
  } finally {
    holder.close();
    await plane.close();
  }
}

Deno.test("a disk whose predecessor still holds the lock starts when that is gone", async () => {
  await withLockedDisk(FOREVER, async (plane, start, release, lines) => {
    let started = false;
    const starting = start().then(() => started = true);
    await waitUntil(() => waits(lines), { what: "the wait to begin" });
    // The device answers others meanwhile.
    assertEquals((await plane.status()).rings.length, 0);
    assertEquals(started, false);
    release();
    await withDeadline(starting, 5_000, "the start of the ring");
    assertEquals((await plane.status()).rings.length, 1);
    await plane.stopRing(0);
  });
});

Deno.test("a disk that is in use is refused in the end, and when server or front-end leave", async () => {
  await withLockedDisk(20, async (_plane, start) => {
    const error = await assertRejects(start, DeviceError);
    assertEquals(error.kind, "locked");
  });
  await withLockedDisk(FOREVER, async (plane, start, _release, lines) => {
    const refused = assertRejects(start, DeviceError);
    await waitUntil(() => waits(lines), { what: "the wait to begin" });
    plane.hurry();
    await withDeadline(refused, 5_000, "the refusal");
  });
  await withLockedDisk(FOREVER, async (plane, start, _release, lines) => {
    const refused = assertRejects(start, DeviceError);
    await waitUntil(() => waits(lines), { what: "the wait to begin" });
    plane.frontEndPresent = () => false;
    await withDeadline(refused, 5_000, "the refusal");
  });
});

Deno.test("a disk keeps its lock while its only ring restarts, and no longer", async () => {
  await withLockedDisk(FOREVER, async (plane, start, release, _lines, path) => {
    const another = openStorage({ path });
    const isFree = (): boolean => {
      try {
        another.acquire();
      } catch (error) {
        assertEquals((error as { kind?: unknown }).kind, "locked");
        return false;
      }
      another.release();
      return true;
    };
    try {
      release();
      await start();
      const seen: boolean[] = [];
      await plane.restart(async () => {
        await plane.stopRing(0);
        seen.push(isFree());
        await start();
      });
      seen.push(isFree());
      // It comes back to nothing: the lock is free when that is known.
      await plane.restart(async () => void await plane.stopRing(0));
      seen.push(isFree());
      await start();
      seen.push(isFree());
      await plane.stopRing(0);
      seen.push(isFree());
      assertEquals(seen, [false, false, true, false, true]);
    } finally {
      another.close();
    }
  });
});
