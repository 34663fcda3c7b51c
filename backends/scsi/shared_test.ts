import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ScsiLunError } from "./error.ts";
import { lunField, ScsiBench, type SendOptions } from "./testing/bench.ts";
import { SyncEngine } from "../storage/sync_engine.ts";
import { openFdCount } from "../../sys/fd.ts";
import { DataFile } from "../../sys/file.ts";
import { StorageError } from "../storage/error.ts";
import { ImageLock } from "../storage/lock.ts";
import { imageTest } from "../storage/testing/engines.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const TUR = [0, 0, 0, 0, 0, 0];
const CONFLICT = 0x18;
const read = (lba: number) => [0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0];
const write = [0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0];
const OUT: SendOptions = { out: new Uint8Array(512) };

/** Two SCSI hosts with one disk. */
class Pair implements Disposable {
  readonly first = new ScsiBench();
  readonly second: ScsiBench;

  constructor() {
    const path = this.first.image("disk.img");
    this.second = new ScsiBench({ scsi: { path } });
    this.first.clearAttentions();
    this.second.clearAttentions();
  }

  [Symbol.dispose](): void {
    this.second[Symbol.dispose]();
    this.first[Symbol.dispose]();
  }
}

imageTest("two SCSI hosts share a logical unit and its reservations", () => {
  using pair = new Pair();
  const { first, second } = pair;
  assertEquals(first.device.bus.initiator.name, "hba-0");
  assertEquals(second.device.bus.initiator.name, "hba-1");
  assertEquals(first.run(write, OUT).status, 0);
  assertEquals(second.run(read(9), { room: 512 }).data, new Uint8Array(512));
  assertEquals(first.run([0x16, 0, 0, 0, 0, 0]).status, 0);
  assertEquals(second.run(write, OUT).status, CONFLICT);
  // A guest that leaves takes its reservation along.
  first.device.reset();
  assertEquals(second.run(write, OUT).status, 0);
  first.clearAttentions();
  // Persistent ones stay.
  const key = new Uint8Array(24);
  key[15] = 1;
  assertEquals(
    first.run([0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], { out: key }).status,
    0,
  );
  const own = new Uint8Array(24);
  own[7] = 1;
  assertEquals(
    first.run([0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], { out: own }).status,
    0,
  );
  first.device.reset();
  assertEquals(second.run(write, OUT).status, CONFLICT);
});

imageTest("who cannot add a shared logical unit leaves nothing of it", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const path = first.image("common.img");
  const place = { target: 1, lun: 0 };
  first.device.command("lun-add", { ...place, path });
  const { bus } = second.device;
  bus.add = () => {
    throw new Error("The bus is full");
  };
  const add = () => second.device.command("lun-add", { ...place, path });
  assertThrows(add, Error, "The bus is full");
  // The first one may have made the ring.
  const fds = openFdCount();
  assertThrows(add, Error, "The bus is full");
  assertEquals(openFdCount(), fds);
  Reflect.deleteProperty(bus, "add");
  // Neither its lock, when the one who serves it lets go,
  using file = DataFile.open(path);
  const lock = new ImageLock(file, false);
  assertThrows(() => lock.acquire(), StorageError, "another process uses it");
  first.device.deactivate();
  lock.acquire();
  lock.release();
  first.device.activate();
  // nor its place.
  add();
  second.clearAttentions();
  assertEquals(second.run(read(0), { ...place, room: 512 }).status, 0);
});

Deno.test("a disk is thin where what is freed reads as zeroes", () => {
  const prototype = SyncEngine.prototype;
  const unmaps = Object.getOwnPropertyDescriptor(prototype, "canUnmap")!;
  try {
    for (const canUnmap of [false, true]) {
      Object.defineProperty(prototype, "canUnmap", { get: () => canUnmap });
      using bench = new ScsiBench();
      const [{ thin }] = bench.device.status().luns as { thin: boolean }[];
      assertEquals(thin, canUnmap);
    }
  } finally {
    Object.defineProperty(prototype, "canUnmap", unmaps);
  }
});

ringTest("nothing of another host comes between compare and write", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const storage = first.fake(), other = second.fake();
  const compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0];
  first.send(compare, { out: new Uint8Array(1024) });
  first.turn();
  second.send(write, OUT);
  second.turn();
  assertEquals([storage.pending.length, other.pending.length], [1, 0]);
  storage.complete(0);
  assertEquals([storage.pending.length, other.pending.length], [1, 0]);
  storage.complete(0);
  assertEquals(other.pending.length, 1);
  other.complete(0);
  // It ended outside of its own loop's turn, which was asked for another one.
  assertEquals(second.resumed.includes(2), true);
  second.turn();
  assertEquals([...second.reap().values()][0].status, 0);
});

imageTest(
  "mode parameters and sizes change for both, and both are told",
  () => {
    using pair = new Pair();
    const { first, second } = pair;
    const caching = [0, 0, 0, 0, 0x08, 0x12, ...new Array(18).fill(0)];
    const out = Uint8Array.from(caching);
    assertEquals(first.run([0x15, 0x10, 0, 0, 24, 0], { out }).status, 0);
    assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2a01 });
    Deno.truncateSync(first.image("disk.img"), 2 ** 21);
    second.provideEvents(1);
    first.device.command("resize", {});
    assertEquals(second.events().length, 1);
    assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2a09 });
    const far = [0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 1, 0];
    assertEquals(second.run(far, { room: 512 }).status, 0);
  },
);

ringTest("a logical unit reset by one aborts the commands of the other", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const other = second.fake();
  second.send(read(1), { room: 512 });
  second.turn();
  const reset = new Uint8Array(24);
  reset[4] = 5;
  reset[8] = 1;
  first.offer(0, [{ readable: reset }, { writable: 1 }]);
  first.turn();
  assertEquals(first.drivers[0].reap().length, 0);
  other.complete(0);
  second.turn();
  first.turn();
  assertEquals([...second.reap().values()][0].response, 4);
  first.turn();
  assertEquals(first.drivers[0].reap().length, 1);
  assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2903 });
});

imageTest(
  "what another initiator resets does not switch a write cache on",
  () => {
    using pair = new Pair();
    const { first, second } = pair;
    const out = new Uint8Array(24);
    out.set([0, 0, 0, 0, 0x08, 0x12]);
    assertEquals(first.run([0x15, 0x10, 0, 0, 24, 0], { out }).status, 0);
    const reset = new Uint8Array(24);
    reset[4] = 5;
    reset[8] = 1;
    assertEquals([...second.control(reset)], [0]);
    second.device.reset();
    for (const { device } of [first, second]) {
      const [{ cache }] = device.status().luns as { cache: string }[];
      assertEquals(cache, "writethrough");
    }
  },
);

imageTest("hosts that share agree on what they share", () => {
  using first = new ScsiBench();
  const path = first.image("disk.img");
  assertThrows(
    () => new ScsiBench({ scsi: { path, readonly: true } }),
    Error,
    "twice with different options: readOnly is false and true",
  );
  assertThrows(
    () => new ScsiBench({ scsi: { initiator: "hba-0" } }),
    Error,
    "another SCSI host has that name",
  );
  // The refused ones left nothing behind.
  using second = new ScsiBench({ scsi: { path } });
  assertEquals(second.device.bus.initiator.name, "hba-1");
});

/** Two SCSI hosts with one CD-ROM. */
function cdroms(): Pick<Pair, "first" | "second"> & Disposable {
  const images = new ScsiBench();
  const path = images.image("cd.iso");
  const scsi = { type: "cdrom", path };
  const first = new ScsiBench({ scsi }), second = new ScsiBench({ scsi });
  first.clearAttentions();
  second.clearAttentions();
  return {
    first,
    second,
    [Symbol.dispose]: () => {
      for (const bench of [second, first, images]) bench[Symbol.dispose]();
    },
  };
}

const CAPACITY = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const MEDIA_EVENTS = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];

imageTest("a new medium is one for all who share the drive", async () => {
  using pair = cdroms();
  const { first, second } = pair;
  const larger = first.image("larger.iso", 2 ** 21);
  for (const bench of [first, second]) {
    const subscribe = new Uint8Array(16);
    subscribe.set([2, 0, 0, 0, ...lunField(0, 0), 0x10]);
    assertEquals([...bench.control(subscribe, 5)], [0x10, 0, 0, 0, 0]);
    bench.provideEvents(1);
  }
  const capacity = (bench: ScsiBench) => bench.run(CAPACITY, { room: 8 });
  const places = ["hba-1", "hba-2"]
    .map((initiator) => ({ initiator, target: 0, lun: 0 }));
  const change = async (path: string) =>
    await first.device.command("change-medium", { path });
  assertEquals(await change(larger), {
    ...{ target: 0, lun: 0, path: larger, capacity: 2 ** 21, places },
  });
  for (const bench of [first, second]) {
    assertEquals(bench.events().map(({ event }) => event), [2]);
    const media = bench.run(MEDIA_EVENTS, { room: 8 });
    assertEquals([...media.data.subarray(4, 6)], [2, 2]);
    assertEquals(capacity(bench).sense, { key: 6, asc: 0x2800 });
    assertEquals([...capacity(bench).data], [0, 0, 3, 255, 0, 0, 8, 0]);
    const block = bench.run(read(200), { room: 2048 });
    assertEquals(block.data, Deno.readFileSync(larger).slice(409600, 411648));
  }
  await change("");
  for (const bench of [first, second]) {
    assertEquals(bench.run(MEDIA_EVENTS, { room: 8 }).data[4], 3);
    assertEquals(bench.run(TUR).sense, { key: 6, asc: 0x2800 });
    assertEquals(bench.run(TUR).sense, { key: 2, asc: 0x3a00 });
  }
  // They still have one drive: the next medium is for both.
  await change(larger);
  for (const bench of [first, second]) {
    bench.clearAttentions();
    assertEquals(bench.run(TUR).status, 0);
  }
});

ringTest(
  "a medium is changed when all who share the drive are done",
  async () => {
    using pair = cdroms();
    const { first, second } = pair;
    const storage = second.fake();
    second.send(read(1), { room: 2048 });
    second.turn();
    assertEquals(storage.pending.length, 1);
    const path = first.image("larger.iso", 2 ** 21);
    let changed = false;
    const change = async (from: ScsiBench, path: string) =>
      await from.device.command("change-medium", { path });
    const changing = change(first, path).then(() => changed = true);
    await Promise.resolve();
    assertEquals([changed, storage.closed], [false, false]);
    assertEquals(first.run(TUR).sense, { key: 2, asc: 0x3a00 });
    const refused = await assertRejects(
      () => change(second, path),
      ScsiLunError,
      "is being changed",
    );
    assertEquals(refused.kind, "busy");
    storage.complete(0);
    await changing;
    assertEquals([...second.reap().values()].length, 0);
    second.turn();
    assertEquals([...second.reap().values()][0].status, 0);
    assertEquals(storage.closed, true);
  },
);

imageTest("a medium that one of them cannot have changes nothing", async () => {
  using pair = cdroms();
  const { first, second } = pair;
  const change = async (path: string) =>
    await first.device.command("change-medium", { path });
  await assertRejects(() => change("/nonexistent"), Error, "/nonexistent");
  const other = second.image("other.iso");
  using third = new ScsiBench({ scsi: { type: "cdrom", path: other } });
  await assertRejects(
    () => change(other),
    ScsiLunError,
    "another logical unit serves it",
  );
  third.clearAttentions();
  for (const bench of [first, second, third]) {
    assertEquals(bench.run(TUR).status, 0);
    assertEquals(bench.run(read(3), { room: 2048 }).status, 0);
  }
  // The same medium again is a change like any other.
  await change(third.image("fresh.iso"));
  await change(third.image("fresh.iso"));
  assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2800 });
  assertEquals(second.run(TUR).status, 0);
});

imageTest("the last host that leaves closes the logical unit", () => {
  using first = new ScsiBench();
  const path = first.image("disk.img");
  const second = new ScsiBench({ scsi: { path } });
  const [, , nexus] = [...second.device.bus.entries()][0];
  second[Symbol.dispose]();
  const [, , left] = [...first.device.bus.entries()][0];
  assertEquals(left.unit, nexus.unit);
  assertEquals(left.unit.nexuses.size, 1);
  first.clearAttentions();
  assertEquals(first.run(write, OUT).status, 0);
});
