import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import { openFdCount } from "../../sys/fd.ts";
import { lunField, ScsiBench } from "./testing/bench.ts";
import { MOST_WAITING } from "./events.ts";
import { imageTest } from "../storage/testing/engines.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const read = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const TUR = [0, 0, 0, 0, 0, 0];
const CAPACITY = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RESET = 1, PARAMETER_CHANGE = 3, RESCAN = 1, REMOVED = 2;

imageTest(
  "a logical unit is added and removed while the driver runs",
  async () => {
    using images = new ScsiBench();
    const path = images.image("second.img");
    const fds = openFdCount();
    using bench = new ScsiBench();
    bench.clearAttentions();
    bench.provideEvents(4);
    assertEquals(bench.events(), []);
    assertEquals(bench.device.command("lun-add", { target: 3, lun: 2, path }), {
      target: 3,
      lun: 2,
      capacity: 2 ** 20,
    });
    const place = { target: 3, lun: 2 };
    assertEquals(bench.events(), [
      { event: RESET, lun: lunField(3, 2), reason: RESCAN },
    ]);
    // New to the driver, and so said.
    assertEquals(bench.run(TUR, place).sense, { key: 6, asc: 0x2900 });
    assertEquals(bench.run(read, { ...place, room: 512 }).status, 0);
    // Another on the same target: the list of its logical units changed.
    bench.device.command("lun-add", {
      target: 3,
      lun: 0,
      path: images.image("third.img"),
    });
    assertEquals(bench.run(TUR, place).sense, { key: 6, asc: 0x3f0e });
    assertEquals(await bench.device.command("lun-remove", place), place);
    assertEquals(bench.events().map(({ reason }) => reason), [RESCAN, REMOVED]);
    const gone = bench.run(TUR, place);
    assertEquals(gone.sense, { key: 5, asc: 0x2500 });
    await bench.device.command("lun-remove", { target: 3, lun: 0 });
    assertEquals(bench.run(TUR, place).response, 3);
    assertEquals(bench.lines.length, 4);
    await bench.device.command("lun-remove", {});
    assert(openFdCount() <= fds + 2);
  },
);

ringTest("a logical unit that is removed finishes its commands", async () => {
  using bench = new ScsiBench();
  const storage = bench.clearAttentions().fake();
  bench.send(read, { room: 512 });
  bench.turn();
  let removed = false;
  const removing = Promise.resolve(bench.device.command("lun-remove", {}))
    .then(() => removed = true);
  await Promise.resolve();
  assertEquals([removed, storage.closed], [false, false]);
  // What comes now finds nothing.
  assertEquals(bench.run(TUR).response, 3);
  storage.complete(0);
  bench.turn();
  assertEquals([...bench.reap().values()][0].status, 0);
  await removing;
  assertEquals(storage.closed, true);
});

imageTest("a resize is told by an event and a unit attention condition", () => {
  using bench = new ScsiBench();
  const path = bench.image("disk.img");
  bench.clearAttentions();
  bench.provideEvents(1);
  Deno.truncateSync(path, 2 ** 21);
  assertEquals(bench.device.command("lun-resize", {}), {
    capacity: 2 ** 21,
    previousCapacity: 2 ** 20,
  });
  const line = "info target 0, LUN 0: capacity changed from 1048576 to 2097152";
  assertEquals(bench.lines, [`${line} bytes`]);
  assertEquals(bench.events(), [
    { event: PARAMETER_CHANGE, lun: lunField(0, 0), reason: 0x092a },
  ]);
  const told = bench.run(CAPACITY, { room: 8 });
  assertEquals(told.sense, { key: 6, asc: 0x2a09 });
  const { data } = bench.run(CAPACITY, { room: 8 });
  assertEquals([...data], [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
  // The same size is nothing to tell.
  bench.device.command("resize", {});
  assertEquals(bench.lines.length, 1);
  assertEquals(bench.run(TUR).status, 0);
});

imageTest("logical units that are there from the start are no news", () => {
  using images = new ScsiBench();
  const luns = ["a", "b", "c"]
    .map((name, lun) => ({ lun, path: images.image(`${name}.img`) }));
  using bench = new ScsiBench({ scsi: { luns } });
  for (const { lun } of luns) {
    assertEquals(bench.run(TUR, { lun }).sense, { key: 6, asc: 0x2900 });
    assertEquals(bench.run(TUR, { lun }).status, 0);
  }
  bench.device.command("lun-add", { lun: 9, path: images.image("d.img") });
  assertEquals(bench.run(TUR).sense, { key: 6, asc: 0x3f0e });
});

imageTest("all images are looked at together", () => {
  using bench = new ScsiBench();
  const second = bench.image("second.img");
  bench.device.command("lun-add", { target: 4, path: second });
  Deno.truncateSync(second, 2 ** 22);
  assertEquals(bench.device.command("resize", {}), {
    capacity: 2 ** 20 + 2 ** 22,
    previousCapacity: 2 ** 21,
  });
  const { data } = bench.clearAttentions()
    .run(CAPACITY, { target: 4, room: 8 });
  assertEquals([...data], [0, 0, 0x1f, 0xff, 0, 0, 2, 0]);
});

imageTest("a driver that does not want to know is not told", async () => {
  using images = new ScsiBench();
  const features = featureMask(VIRTIO_F_VERSION_1);
  using bench = new ScsiBench({ features });
  bench.provideEvents(4);
  bench.device.command("lun-add", { lun: 1, path: images.image("a.img") });
  Deno.truncateSync(bench.image("disk.img"), 2 ** 21);
  bench.device.command("resize", {});
  await bench.device.command("lun-remove", { lun: 1 });
  assertEquals(bench.events(), []);
});

imageTest(
  "events wait for buffers, and too many are reported as missed",
  () => {
    using images = new ScsiBench();
    const path = images.image("a.img");
    using bench = new ScsiBench();
    const count = MOST_WAITING + 3;
    bench.turn();
    for (let i = 0; i < count; i++) {
      // The last one may stay, so that the numbers are not in use.
      if (i > 0) void bench.device.command("lun-remove", { lun: 1 });
      bench.device.command("lun-add", { lun: 1, path });
    }
    bench.provideEvents(1, 8);
    bench.provideEvents(MOST_WAITING);
    const [small, ...events] = bench.events();
    // A buffer that is too small is given back empty.
    assertEquals(small.event, 0xffff_ffff);
    assertEquals(events.length, MOST_WAITING);
    assertEquals(events[0].event, 0x8000_0000 + RESET);
    assertEquals(events[1].event, RESET);
    assert(bench.device.metrics.eventsMissed > 0);
    // The buffers that were provided too early are used when something happens.
    bench.provideEvents(2);
    assertEquals(bench.events(), []);
    bench.device.command("lun-add", { lun: 2, path: images.image("b.img") });
    assertEquals(bench.resumed.includes(1), true);
    assertEquals(bench.events().length, 1);
  },
);

imageTest("a medium is taken out and put in", async () => {
  using images = new ScsiBench();
  const cd = images.image("cd.iso", 2 ** 20);
  const larger = images.image("larger.iso", 2 ** 21);
  using bench = new ScsiBench({ scsi: { type: "cdrom", path: cd } });
  bench.clearAttentions();
  const capacity = () => bench.run(CAPACITY, { room: 8 });
  assertEquals([...capacity().data], [0, 0, 1, 255, 0, 0, 8, 0]);
  await bench.device.command("change-medium", { path: larger });
  assertEquals(capacity().sense, { key: 6, asc: 0x2800 });
  assertEquals([...capacity().data], [0, 0, 3, 255, 0, 0, 8, 0]);
  await bench.device.command("change-medium", {});
  assertEquals(capacity().sense, { key: 6, asc: 0x2800 });
  assertEquals(capacity().sense, { key: 2, asc: 0x3a00 });
  assertEquals(bench.lines, [
    `info target 0, LUN 0: the medium is ${JSON.stringify(larger)} now`,
    "info target 0, LUN 0: the medium was taken out",
  ]);
  // Without a medium from the start, too.
  using empty = new ScsiBench({ scsi: { type: "cdrom" } });
  empty.clearAttentions();
  assertEquals(empty.run(TUR).sense, { key: 2, asc: 0x3a00 });
  await empty.device.command("change-medium", { path: cd });
  empty.clearAttentions();
  assertEquals(empty.run(TUR).status, 0);
});

imageTest("commands that cannot be are refused in words", async () => {
  using bench = new ScsiBench();
  const { device } = bench;
  const path = bench.image("disk.img");
  assertThrows(
    () => device.command("explode", {}),
    Error,
    'Cannot do "explode"',
  );
  assertThrows(() => device.command("lun-add", { path }), Error, "already");
  assertThrows(
    () => device.command("lun-add", { lun: 1, path }),
    Error,
    "it is target 0, LUN 0",
  );
  assertThrows(
    () => device.command("lun-add", { lun: 1, path: "/nonexistent" }),
    Error,
    'Cannot serve "/nonexistent"',
  );
  assertThrows(() => device.command("lun-add", { lun: 1 }), Error, "missing");
  assertThrows(() => device.command("lun-resize", { lun: 7 }), Error, "LUN 7");
  await assertRejects(
    () => Promise.resolve(device.command("change-medium", { path })),
    Error,
    "not removable",
  );
  assertEquals(bench.device.status().luns instanceof Array, true);
});

imageTest("a reset of the device loses what the driver had", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  const [, , nexus] = [...bench.device.bus.entries()][0];
  assertEquals(bench.run([0x16, 0, 0, 0, 0, 0]).status, 0);
  assertEquals(nexus.unit.reservations.legacy, bench.device.bus.initiator.name);
  bench.device.reset();
  assertEquals(nexus.unit.reservations.legacy, null);
  bench.device.negotiate(6n);
  assertEquals(bench.run(TUR).sense, { key: 6, asc: 0x2900 });
  assertEquals(bench.run(TUR).status, 0);
});

ringTest("buffers without room for an event do not keep the device", () => {
  using bench = new ScsiBench();
  bench.provideEvents(60, 15);
  bench.provideEvents(1);
  const path = bench.image("second.img");
  bench.device.command("lun-add", { target: 3, lun: 2, path });
  const [, queue] = bench.queues;
  const { completed } = queue.counters;
  // Events wait, and so it is to be called again.
  assertEquals(bench.device.serve(queue, 8), true);
  const passed = queue.counters.completed - completed;
  assert(passed > 0 && passed < 60, `${passed} in one call`);
  assertEquals(bench.device.serve(queue, 8), false);
  assertEquals(queue.counters.completed - completed, 61);
  assertEquals(bench.device.metrics.events, 1);
});
