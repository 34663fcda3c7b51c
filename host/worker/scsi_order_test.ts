/** The order in which a SCSI host's answers become visible. */

import { assertEquals } from "@std/assert";
import type { ScsiDevice } from "../../backends/scsi/device.ts";
import createScsi from "../../backends/scsi/mod.ts";
import {
  ALL_FEATURES,
  lunField,
  requestHead,
  taskManagement,
} from "../../backends/scsi/testing/bench.ts";
import { FakeStorage } from "../../backends/storage/testing/fake_storage.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

const SLOTS = 64, REQUESTS = 2;

Deno.test("a driver sees the end of a command before that of its abort", () => {
  using directory = TemporaryDirectory.make("order");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(2 ** 20));
  using bench = new Bench(new EpollWaiter(), SLOTS);
  const { hosted } = bench;
  const device = createScsi({ path, engine: "sync" }, {
    memory: hosted.memory,
    slotsPerQueue: SLOTS,
    worker: 0,
    ring: () => null,
    configChanged: () => {},
    resume: (queue) => hosted.resume(queue),
    watch: (fd, ready) => hosted.watch(fd, ready),
    log: () => {},
  }) as ScsiDevice;
  hosted.device = device;
  hosted.negotiate(ALL_FEATURES);
  device.activate();
  const nexus = device.bus.target(0)!.luns.get(0)!;
  nexus.clearAttention();
  const image = nexus.storage!;
  const storage = new FakeStorage(2 ** 20);
  storage.attach(nexus.table!);
  storage.onComplete = image.onComplete;
  nexus.storage = storage;
  // Commands end where those of asynchronous engines do.
  let due = 0;
  image.poll = () => {
    const count = due;
    for (; due > 0; due--) storage.complete(0);
    return count;
  };
  const { memory } = bench.driver;
  const drivers = [0, 1, 2].map(() =>
    new FakeDriver(memory, { size: SLOTS, copy: true })
  );
  const read = requestHead([0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], { tag: 7 });
  drivers[REQUESTS]
    .submit([{ readable: read }, { writable: 108 }, { writable: 512 }]);
  drivers[0].submit([
    { readable: taskManagement(0, lunField(0, 0), 7) },
    { writable: 1 },
  ]);
  // The ring of control is the first of those that are published.
  for (const [index, driver] of drivers.entries()) {
    bench.start({ index, kickFd: -1 }, driver);
  }
  bench.turns(3);
  assertEquals(storage.pending.length, 1);
  const seen: [number, number][] = [];
  for (const ring of hosted.rings) {
    const publish = ring.publish.bind(ring);
    ring.publish = () => {
      publish();
      seen.push([drivers[REQUESTS].usedIndex, drivers[0].usedIndex]);
    };
  }
  due = 1;
  bench.turns(4);
  assertEquals(seen.filter(([ended, aborted]) => aborted > ended), []);
  assertEquals(seen.at(-1), [1, 1]);
  hosted.stopRings();
  device.deactivate();
  device.close();
});
