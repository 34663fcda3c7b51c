import { assertEquals, assertThrows } from "@std/assert";
import { ConfigRefusal } from "../../virtqueue/config_refusal.ts";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import {
  type Storage,
  STORAGE_FLUSH,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
} from "../storage/storage.ts";
import { CacheMode } from "./cache_mode.ts";
import { BlkDevice } from "./device.ts";
import { resolveBlkOptions } from "./options.ts";
import {
  CONFIG_WRITEBACK,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_BARRIER,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_FLUSH_OUT,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import {
  BlkBench,
  header,
  LEGACY,
  MODERN,
  MODERN_WCE,
  pattern,
  ranges,
} from "./testing/bench.ts";
import { GuestMemory } from "../../virtqueue/memory.ts";
import { ringProfile, ringTest } from "../../virtqueue/testing/ring_profile.ts";

const SIMPLE = featureMask(VIRTIO_F_VERSION_1);
const WCE_ALONE = SIMPLE | featureMask(VIRTIO_BLK_F_CONFIG_WCE);
const settle = (): number => 0;
const LEGACY_WCE = LEGACY | featureMask(VIRTIO_BLK_F_CONFIG_WCE);

Deno.test("CacheMode follows what the driver negotiated", () => {
  // features, option wce: the field, and whether writes are durable
  const cases: [bigint, boolean, number, boolean][] = [
    [SIMPLE, true, 1, true],
    [SIMPLE, false, 0, true],
    [0n, true, 1, true],
    [MODERN, true, 1, false],
    [MODERN, false, 0, true],
    [LEGACY, true, 1, false],
    [LEGACY, false, 0, true],
    [MODERN_WCE, true, 1, false],
    [MODERN_WCE, false, 0, true],
    // A driver that cannot flush gets a field of 0 (section 5.2.5.2).
    [WCE_ALONE, true, 0, true],
    [WCE_ALONE, false, 0, true],
  ];
  for (const [features, wce, field, durable] of cases) {
    const cache = new CacheMode(wce);
    assertEquals(cache.writethrough, true, "before negotiation");
    assertEquals(cache.mode, null);
    cache.negotiate(features);
    assertEquals(cache.mode, durable ? "writethrough" : "writeback");
    assertEquals(cache.writeback, field);
    assertEquals(cache.writethrough, durable);
  }
});

Deno.test("CacheMode follows the field when CONFIG_WCE was negotiated", () => {
  for (const features of [MODERN_WCE, WCE_ALONE, LEGACY_WCE]) {
    const cache = new CacheMode(true);
    cache.negotiate(features);
    cache.write(0, settle);
    assertEquals([cache.writeback, cache.writethrough], [0, true]);
    cache.write(1, settle);
    assertEquals([cache.writeback, cache.writethrough], [1, false]);
    cache.write(0xff, settle);
    assertEquals([cache.writeback, cache.writethrough], [1, false]);
    // The same features again change nothing: front-ends repeat them.
    cache.negotiate(features);
    assertEquals([cache.writeback, cache.writethrough], [1, false]);
  }
  const cache = new CacheMode(true);
  cache.negotiate(MODERN);
  cache.write(0, settle);
  assertEquals([cache.writeback, cache.writethrough], [1, false]);
});

Deno.test("CacheMode takes what a legacy driver writes before it negotiates", () => {
  const cache = new CacheMode(true);
  cache.write(0, settle);
  cache.negotiate(LEGACY_WCE);
  assertEquals([cache.writeback, cache.writethrough], [0, true]);
});

Deno.test("CacheMode is never weaker after a reset than a driver was told", () => {
  const cache = new CacheMode(true);
  cache.negotiate(MODERN_WCE);
  cache.write(0, settle);
  cache.reset();
  assertEquals([cache.writeback, cache.writethrough], [0, true]);
  assertEquals(cache.mode, null);
  cache.negotiate(MODERN_WCE);
  assertEquals([cache.writeback, cache.writethrough], [0, true]);

  const strict = new CacheMode(false);
  strict.negotiate(MODERN_WCE);
  strict.write(1, settle);
  assertEquals(strict.writethrough, false);
  strict.reset();
  strict.negotiate(MODERN_WCE);
  assertEquals([strict.writeback, strict.writethrough], [0, true]);
});

Deno.test("CacheMode settles what was written when writes become durable", () => {
  const cache = new CacheMode(true);
  const results: number[] = [];
  let settled = 0;
  const write = (value: number): void =>
    cache.write(value, () => {
      settled++;
      // Whatever ends from now on is durable by itself.
      assertEquals(cache.writethrough, true);
      return results.shift() ?? 0;
    });
  // Nothing was written that is not durable: no driver has come.
  write(0);
  write(1);
  assertEquals(settled, 0);
  cache.negotiate(MODERN_WCE);
  write(1);
  assertEquals(settled, 0);
  write(0);
  write(0);
  write(1);
  assertEquals(settled, 1);
  results.push(-5);
  const refusal = assertThrows(() => write(0), ConfigRefusal);
  assertEquals(
    refusal.message,
    "writeback stays 1, since what was written cannot be made durable: " +
      "Input/output error (EIO)",
  );
  assertEquals([cache.writeback, cache.writethrough], [1, false]);
  write(0);
  assertEquals([cache.writeback, cache.writethrough], [0, true]);
  assertEquals(settled, 3);
});

/** Operations that a storage was asked for, and what was used before each. */
function trace(
  features: bigint,
  act: (bench: BlkBench) => void,
): [operation: number, used: number][] {
  const storage = new FakeStorage(2 ** 20);
  storage.immediate = true;
  const seen: [number, number][] = [];
  using bench = new BlkBench({ storage, features });
  const submit = storage.submit.bind(storage);
  (storage as Storage).submit = (...args) => {
    bench.publish();
    seen.push([args[1], bench.queues[0].counters.completed]);
    submit(...args);
  };
  act(bench);
  return seen;
}

ringTest("BlkDevice makes writes durable before it answers them", () => {
  // Without VERSION_1 a driver that has CONFIG_WCE alone says when it wants it.
  const others = ringProfile().legacy ? [] : [WCE_ALONE];
  for (const features of [SIMPLE, 0n, ...others]) {
    const seen = trace(features, (bench) => {
      assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_OK);
      assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
      assertEquals(
        bench.request(VIRTIO_BLK_T_WRITE_ZEROES, ranges([0, 1], [2, 1]))
          .status,
        VIRTIO_BLK_S_OK,
      );
      assertEquals(bench.requests.durableWrites, 2);
      assertEquals(bench.requests.flushes, 0);
    });
    assertEquals(seen, [
      [STORAGE_WRITE, 0],
      [STORAGE_FLUSH, 0],
      [0, 1],
      [STORAGE_WRITE_ZEROES, 2],
      [STORAGE_WRITE_ZEROES, 2],
      [STORAGE_FLUSH, 2],
    ]);
  }
});

ringTest("BlkDevice leaves flushing to a driver that can", () => {
  for (const features of [MODERN, LEGACY, MODERN_WCE]) {
    const seen = trace(features, (bench) => {
      bench.write(0, pattern(512, 1));
      bench.request(VIRTIO_BLK_T_FLUSH);
      assertEquals(bench.requests.durableWrites, 0);
      assertEquals(bench.requests.flushes, 1);
    });
    assertEquals(seen, [[STORAGE_WRITE, 0], [STORAGE_FLUSH, 1]]);
  }
});

ringTest("BlkDevice switches the cache mode when the driver does", () => {
  const seen = trace(MODERN_WCE, (bench) => {
    const { device } = bench;
    assertEquals(device.config[CONFIG_WRITEBACK], 1);
    bench.write(0, pattern(512, 1));
    device.writeConfig(CONFIG_WRITEBACK, Uint8Array.of(0));
    assertEquals(device.config[CONFIG_WRITEBACK], 0);
    assertEquals(device.status().cache, "writethrough");
    bench.write(0, pattern(512, 1));
    // The whole configuration space, as some front-ends write it.
    const whole = device.config.slice().fill(0xee);
    whole[CONFIG_WRITEBACK] = 1;
    const before = device.config.slice();
    device.writeConfig(0, whole);
    before[CONFIG_WRITEBACK] = 1;
    assertEquals(device.config, before);
    // Writes beside the field.
    device.writeConfig(CONFIG_WRITEBACK + 1, Uint8Array.of(0, 0));
    device.writeConfig(0, new Uint8Array(CONFIG_WRITEBACK));
    device.writeConfig(1000, Uint8Array.of(0));
    device.writeConfig(CONFIG_WRITEBACK, new Uint8Array());
    assertEquals(device.config, before);
    bench.write(0, pattern(512, 1));
  });
  assertEquals(seen.map(([operation]) => operation), [
    STORAGE_WRITE,
    STORAGE_WRITE,
    STORAGE_FLUSH,
    STORAGE_WRITE,
  ]);
});

ringTest(
  "BlkDevice makes durable what is cached when its cache goes off",
  () => {
    const storage = new FakeStorage(2 ** 20);
    storage.immediate = true;
    using bench = new BlkBench({ storage, features: MODERN_WCE });
    const { device } = bench;
    const write = (value: number): void =>
      device.writeConfig(CONFIG_WRITEBACK, Uint8Array.of(value));
    assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_OK);
    storage.errors.push(5);
    assertThrows(() => write(0), ConfigRefusal, "EIO");
    assertEquals(device.config[CONFIG_WRITEBACK], 1);
    assertEquals(device.status().cache, "writeback");
    write(0);
    assertEquals(storage.datasyncs, 2);
    assertEquals(device.config[CONFIG_WRITEBACK], 0);
    // On again: nothing to make durable.
    write(1);
    assertEquals(storage.datasyncs, 2);
  },
);

Deno.test("BlkDevice keeps for a successor what is true after a reset", () => {
  // the option wce, what the driver wrote, the mode of the next driver
  const cases: [boolean, number, number][] = [
    [false, 1, 0],
    [false, 0, 0],
    [true, 0, 0],
    [true, 1, 1],
  ];
  for (const [wce, written, after] of cases) {
    let kept: unknown;
    const make = (): BlkDevice => {
      const nothing = (): void => {};
      const device = new BlkDevice(
        resolveBlkOptions({ path: "/nowhere", wce }),
        new FakeStorage(2 ** 20),
        {
          memory: new GuestMemory(),
          slotsPerQueue: 1,
          worker: 0,
          ring: () => null,
          configChanged: nothing,
          resume: nothing,
          watch: nothing,
          log: nothing,
          kept,
          keep: (value) => kept = value,
        },
      );
      device.negotiate(MODERN_WCE);
      return device;
    };
    const modeOf = (device: BlkDevice): unknown[] => [
      device.config[CONFIG_WRITEBACK],
      device.status().cache,
    ];
    const mode = (field: number): unknown[] => [
      field,
      field === 1 ? "writeback" : "writethrough",
    ];
    const first = make();
    first.writeConfig(CONFIG_WRITEBACK, Uint8Array.of(written));
    assertEquals(modeOf(first), mode(written));
    const second = make();
    assertEquals(modeOf(second), mode(written));
    second.reset();
    second.negotiate(MODERN_WCE);
    assertEquals(modeOf(second), mode(after));
    const third = make();
    assertEquals(modeOf(third), mode(after));
    for (const device of [first, second, third]) device.close();
  }
});

ringTest("BlkDevice fails a write that it could not make durable", () => {
  const storage = new FakeStorage(2 ** 20);
  storage.immediate = true;
  using bench = new BlkBench({ storage, features: SIMPLE });
  storage.errors.push(0, 5);
  assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_IOERR);
  assertEquals(bench.requests.errors, { EIO: 1 });
  assertEquals(bench.requests.durableWrites, 0);
  assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_OK);
});

ringTest("BlkDevice knows the barriers and flushes of legacy drivers", () => {
  using bench = new BlkBench({ features: LEGACY });
  const barrier = VIRTIO_BLK_T_BARRIER;
  const data = pattern(512, 8);
  const write = bench.submit([
    { readable: header(barrier + VIRTIO_BLK_T_OUT, 3) },
    { readable: data },
    { writable: 1 },
  ]);
  assertEquals(write.status, VIRTIO_BLK_S_OK);
  const read = bench.submit([
    { readable: header(barrier + VIRTIO_BLK_T_IN, 3) },
    { writable: 513 },
  ]);
  assertEquals(read.status, VIRTIO_BLK_S_OK);
  assertEquals(read.data, data);
  for (const type of [VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_FLUSH_OUT]) {
    assertEquals(bench.request(type).status, VIRTIO_BLK_S_OK);
    assertEquals(bench.request(barrier + type).status, VIRTIO_BLK_S_OK);
  }
  assertEquals(bench.requests.flushes, 4);
});
