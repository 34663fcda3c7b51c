import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { mappingCount } from "../../sys/mapping.ts";
import type { CreateDevice } from "../../virtqueue/device.ts";
import { featureMask } from "../../virtqueue/constants.ts";
import { StorageError } from "../storage/error.ts";
import createBlk from "./mod.ts";
import { OptionError } from "../option_reader.ts";
import {
  CONFIG_SIZE,
  decodeConfig,
  MAX_DISCARD_SECTORS,
  MAX_DISCARD_SEGMENTS,
  MAX_WRITE_ZEROES_SECTORS,
  MAX_WRITE_ZEROES_SEGMENTS,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import {
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "../storage/storage.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import {
  BlkBench,
  header,
  LEGACY,
  MODERN_WCE,
  pattern,
  ranges,
} from "./testing/bench.ts";

const MEBIBYTE = 2 ** 20;
/** SEG_MAX, GEOMETRY, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE: always offered. */
const ALWAYS = featureMask(2, 4, 6, 9, 10, 11);

Deno.test("BlkDevice offers what it serves", () => {
  const rw = featureMask(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES);
  for (
    const [blk, more] of [
      [{}, rw],
      [{ queues: 4 }, rw | featureMask(VIRTIO_BLK_F_MQ)],
      [{ readonly: true }, featureMask(VIRTIO_BLK_F_RO)],
      [{ discard: false }, featureMask(VIRTIO_BLK_F_WRITE_ZEROES)],
      [{ writeZeroes: false }, featureMask(VIRTIO_BLK_F_DISCARD)],
      [{ wce: false }, rw],
    ] as const
  ) {
    using bench = new BlkBench({ blk });
    assertEquals(bench.device.features, ALWAYS | more);
    assertEquals(bench.device.deviceId, 2);
  }
});

Deno.test("BlkDevice offers to give space back as its storage can", () => {
  const offered = (canDiscard: boolean, canUnmap: boolean, discard = true) => {
    const storage = new FakeStorage(MEBIBYTE);
    Object.defineProperty(storage, "canDiscard", { value: canDiscard });
    Object.defineProperty(storage, "canUnmap", { value: canUnmap });
    storage.immediate = true;
    using bench = new BlkBench({ storage, blk: { discard } });
    const answer = bench.request(VIRTIO_BLK_T_WRITE_ZEROES, ranges([0, 8, 1]));
    assertEquals(answer.status, VIRTIO_BLK_S_OK);
    return {
      discards: (bench.device.features >> BigInt(VIRTIO_BLK_F_DISCARD)) & 1n,
      mayUnmap: decodeConfig(bench.device.config).writeZeroesMayUnmap,
      operation: storage.log[0].operation,
    };
  };
  const writes = { mayUnmap: 0, operation: STORAGE_WRITE_ZEROES };
  const unmaps = { mayUnmap: 1, operation: STORAGE_WRITE_ZEROES_UNMAP };
  assertEquals(offered(true, true), { discards: 1n, ...unmaps });
  assertEquals(offered(true, false), { discards: 1n, ...writes });
  assertEquals(offered(false, true), { discards: 0n, ...unmaps });
  assertEquals(offered(false, false), { discards: 0n, ...writes });
  assertEquals(offered(true, true, false), { discards: 0n, ...writes });
});

Deno.test("BlkDevice fills every field of its configuration", () => {
  using bench = new BlkBench({ blk: { queues: 3, segMax: 77 } });
  assertEquals(bench.device.config.length, CONFIG_SIZE);
  assertEquals(bench.device.queueCount, 3);
  const expected = {
    capacity: 2048,
    segMax: 77,
    geometry: { cylinders: 2, heads: 16, sectors: 63 },
    blkSize: 512,
    physicalBlockExp: 3,
    alignmentOffset: 0,
    minIoSize: 8,
    optIoSize: 8,
    writeback: 1,
    numQueues: 3,
    maxDiscardSectors: MAX_DISCARD_SECTORS,
    maxDiscardSeg: MAX_DISCARD_SEGMENTS,
    discardSectorAlignment: 8,
    maxWriteZeroesSectors: MAX_WRITE_ZEROES_SECTORS,
    maxWriteZeroesSeg: MAX_WRITE_ZEROES_SEGMENTS,
    writeZeroesMayUnmap: 1,
  };
  assertEquals(decodeConfig(bench.device.config), expected);

  using large = new BlkBench({ blk: { blockSize: 4096, wce: false } });
  assertEquals(decodeConfig(large.device.config), {
    ...expected,
    segMax: 126,
    geometry: { cylinders: 2, heads: 16, sectors: 56 },
    blkSize: 4096,
    physicalBlockExp: 0,
    minIoSize: 1,
    optIoSize: 1,
    writeback: 0,
    numQueues: 1,
  });
});

Deno.test("BlkDevice never shows a limit of zero", () => {
  for (
    const blk of [{ discard: false, writeZeroes: false }, { readonly: true }]
  ) {
    using bench = new BlkBench({ blk });
    const config = decodeConfig(bench.device.config);
    assert(config.maxDiscardSectors > 0);
    assert(config.maxDiscardSeg > 0);
    assert(config.discardSectorAlignment > 0);
    assert(config.maxWriteZeroesSectors > 0);
    assert(config.maxWriteZeroesSeg > 0);
    assertEquals(config.writeZeroesMayUnmap, 0);
  }
});

Deno.test("BlkDevice resizes when it is told to", () => {
  using bench = new BlkBench();
  const { device } = bench;
  const capacity = () => decodeConfig(device.config).capacity * 512;
  assertEquals(device.command("resize"), {
    capacity: MEBIBYTE,
    previousCapacity: MEBIBYTE,
  });
  assertEquals(bench.configChanges, 0);

  Deno.truncateSync(bench.path, 4 * MEBIBYTE);
  assertEquals(bench.read(2048, 512).status, VIRTIO_BLK_S_IOERR);
  assertEquals(device.command("resize"), {
    capacity: 4 * MEBIBYTE,
    previousCapacity: MEBIBYTE,
  });
  assertEquals(bench.configChanges, 1);
  assertEquals(capacity(), 4 * MEBIBYTE);
  assertEquals(decodeConfig(device.config).geometry.cylinders, 8);
  assertEquals(bench.read(2048, 512).data, new Uint8Array(512));

  Deno.truncateSync(bench.path, MEBIBYTE / 2);
  device.command("resize");
  assertEquals(bench.configChanges, 2);
  assertEquals(capacity(), MEBIBYTE / 2);
  assertEquals(bench.read(1024, 512).status, VIRTIO_BLK_S_IOERR);
  assertEquals(bench.write(1024, new Uint8Array(512)).status, 1);
  assertEquals(bench.read(1023, 512).status, VIRTIO_BLK_S_OK);
  assertEquals(bench.lines, [
    `info capacity changed from ${MEBIBYTE} to ${4 * MEBIBYTE} bytes`,
    `warn capacity changed from ${4 * MEBIBYTE} to ${MEBIBYTE / 2} bytes`,
  ]);
  // A reset keeps the size.
  device.reset();
  assertEquals(capacity(), MEBIBYTE / 2);
  // What start-up would refuse is refused, and the guest is told nothing.
  for (const size of [0, 1000, MEBIBYTE + 100]) {
    Deno.truncateSync(bench.path, size);
    const error = assertThrows(() => device.command("resize"), StorageError);
    assertEquals(error.kind, "size");
  }
  assertEquals([capacity(), bench.configChanges], [MEBIBYTE / 2, 2]);
  assertEquals(bench.lines.length, 2);
  // A truncated image answers errors, not less than was asked for.
  Deno.truncateSync(bench.path, 0);
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_IOERR);
  assertThrows(
    () => device.command("explode"),
    Error,
    'Cannot do "explode": a block device has the commands resize and resume',
  );
});

Deno.test("BlkDevice tells what people want to know", () => {
  using bench = new BlkBench({ blk: { serial: "A1" }, features: MODERN_WCE });
  bench.read(0, 4096);
  bench.read(5000, 4096);
  const { storage, ...status } = bench.device.status();
  assertEquals(status, {
    capacity: MEBIBYTE,
    blockSize: 512,
    readOnly: false,
    serial: "A1",
    segMax: 126,
    discard: true,
    writeZeroes: true,
    heldRequests: 0,
    cache: "writeback",
    requests: {
      reads: 1,
      writes: 0,
      flushes: 0,
      discards: 0,
      writeZeroes: 0,
      getIds: 0,
      bytesRead: 4096,
      bytesWritten: 0,
      bytesDiscarded: 0,
      bytesZeroed: 0,
      durableWrites: 0,
      completed: 2,
      refused: { outOfRange: 1 },
      errors: {},
    },
  });
  assertEquals((storage as Record<string, unknown>).locked, true);
  assertEquals(JSON.parse(JSON.stringify(status)), status);
});

Deno.test("BlkDevice locks its storage while rings run", () => {
  const storage = new FakeStorage(MEBIBYTE);
  {
    using bench = new BlkBench({ storage });
    assert(storage.locked);
    bench.device.deactivate();
    assert(!storage.locked);
    bench.device.activate();
    assert(storage.locked);
  }
  assert(!storage.locked);
  assert(storage.closed);
});

Deno.test("BlkDevice is refused an image that another one writes", () => {
  using bench = new BlkBench();
  const error = assertThrows(
    () => new BlkBench({ path: bench.path }),
    StorageError,
  );
  assertEquals(error.kind, "locked");
  using shared = new BlkBench({ path: bench.path, blk: { share: true } });
  assertEquals(shared.read(0, 512).status, VIRTIO_BLK_S_OK);
});

Deno.test("BlkDevice starts again after a reset, as another kind of driver", () => {
  using bench = new BlkBench();
  const { device } = bench;
  const config = device.config.slice();
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
  device.deactivate();
  device.reset();
  assertEquals(device.config, config);
  device.negotiate(LEGACY);
  device.activate();
  const flush = bench.submit([
    { readable: header(0x8000_0005, 0) },
    { writable: 1 },
  ]);
  assertEquals(flush.status, VIRTIO_BLK_S_OK);
});

Deno.test("BlkDevice goes on when its image is removed", () => {
  using bench = new BlkBench();
  Deno.removeSync(bench.path);
  assertEquals(bench.write(8, pattern(4096, 5)).status, VIRTIO_BLK_S_OK);
  assertEquals(bench.read(8, 4096).data, pattern(4096, 5));
  assertEquals(bench.device.command("resize").capacity, MEBIBYTE);
});

Deno.test("createBlk() is what the host takes for a device module", () => {
  const create: CreateDevice = createBlk;
  assertEquals(create.length, 2);
});

Deno.test("createBlk() refuses what is wrong and leaks nothing", () => {
  assertThrows(() => new BlkBench({ blk: { queues: 0 } }), OptionError);
  const fds = openFdCount(), mappings = mappingCount();
  for (let i = 0; i < 50; i++) {
    assertThrows(() => new BlkBench({ size: 1000 }), StorageError);
    new BlkBench({ size: 512 })[Symbol.dispose]();
  }
  assertEquals(openFdCount(), fds);
  // The runtime maps and unmaps memory of its own: 50 leaks would show.
  assert(mappingCount() < mappings + 25);
});
