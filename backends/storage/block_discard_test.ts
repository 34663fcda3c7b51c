import { assert, assertEquals } from "@std/assert";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { DataFile } from "../../sys/file.ts";
import {
  LoopDevice,
  withPlainDevice,
} from "../../tests/support/loop_device.ts";
import { skipRest, skipUnless } from "../../tests/support/skip.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { type QueueLimits, queueLimits } from "./block_device.ts";
import { openStorage } from "./open.ts";
import {
  STORAGE_DISCARD,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE_ZEROES_UNMAP,
  type StorageOperation,
} from "./storage.ts";
import { SyncEngine } from "./sync_engine.ts";
import { pattern, TestBuffers } from "./testing/buffers.ts";
import { StorageRunner } from "./testing/engine_suite.ts";
import { IMAGE_ENGINES } from "./testing/engines.ts";
import { TestRing } from "./testing/test_ring.ts";
import { UringEngine } from "./uring_engine.ts";

const MEBIBYTE = 2 ** 20;
const SIZE = 4 * MEBIBYTE;
/** Where ranges are freed, in turn. */
const FIRST = MEBIBYTE, SECOND = 2 * MEBIBYTE;

/** A queue that frees and zeroes, or not. */
function limitsOf(discards: boolean, zeroes: boolean): QueueLimits {
  return {
    physicalBlockSize: 512,
    discardGranularity: 4096,
    discardMaxBytes: discards ? 2 ** 31 : 0,
    writeZeroesMaxBytes: zeroes ? 2 ** 31 : 0,
  };
}

/** An engine over a block device whose queue is said to have some limits. */
class Bench implements Disposable {
  readonly engine: SyncEngine;
  readonly #runner: StorageRunner;
  readonly #ring = new TestRing();
  readonly #buffers = new TestBuffers(MEBIBYTE);

  constructor(path: string, engine: string, limits: QueueLimits) {
    const file = DataFile.open(path);
    const options = { blockSize: 512, share: false, limits };
    const nowait = { read: true, write: true };
    this.engine = engine === "io_uring"
      ? new UringEngine(file, this.#ring.get()!, { ...options, nowait })
      : new SyncEngine(file, options);
    this.#runner = new StorageRunner(this.engine, this.#ring);
  }

  run(operation: StorageOperation, offset = 0): number {
    return this.#runner.run(operation, offset, MEBIBYTE);
  }

  read(offset: number): Uint8Array {
    const length = this.#buffers.scatter([[0, MEBIBYTE]]);
    const { iovecs, bytes } = this.#buffers;
    const moved = this.#runner.run(STORAGE_READ, offset, length, iovecs, 1);
    assertEquals(moved, MEBIBYTE);
    return bytes.slice(0, MEBIBYTE);
  }

  [Symbol.dispose](): void {
    this.engine.close();
    this.#buffers[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
  }
}

const BEFORE = pattern(SIZE, 1);
const ZEROES = new Uint8Array(MEBIBYTE);

/** What a range had in the beginning. */
function before(offset: number): Uint8Array {
  return BEFORE.subarray(offset, offset + MEBIBYTE);
}

/** Discards that a device was sent, by the twelfth field of its statistics. */
function discardsOf(path: string): number {
  const name = path.slice("/dev/".length);
  const text = Deno.readTextFileSync(`/sys/block/${name}/stat`);
  return Number(text.trim().split(/\s+/)[11]);
}

for (const engine of IMAGE_ENGINES) {
  const runnable = skipUnless(
    engine !== "io_uring" || IoUring.supported(),
    `there is no io_uring here (${IoUring.refusal()?.message})`,
  );
  for (const [discards, zeroes] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
    const name = `discards=${discards}, zeroes=${zeroes}, ${engine}`;
    runnable.test(`a device frees space as its queue says, ${name}`, async (t) => {
      using directory = TemporaryDirectory.make("loop");
      const file = directory.file("backing");
      Deno.writeFileSync(file, BEFORE);
      const made = LoopDevice.make(file, 512);
      if (typeof made === "string") {
        const reason = `no loop devices here (${made})`;
        return await skipRest(t, "loop device", reason);
      }
      using device = made;
      const limits = limitsOf(discards === 1, zeroes === 1);
      using bench = new Bench(device.path, engine, limits);
      assertEquals(bench.engine.canDiscard, discards === 1);
      assertEquals(bench.engine.canUnmap, zeroes === 1);
      const blocks = () => {
        assertEquals(bench.run(STORAGE_FLUSH), 0);
        return Deno.statSync(file).blocks!;
      };
      let space = blocks();
      /** Whether an operation freed the space of its range. */
      const frees = (operation: StorageOperation, offset: number): boolean => {
        assertEquals(bench.run(operation, offset), 0);
        const freed = space - blocks();
        space -= freed;
        return freed >= MEBIBYTE / 512;
      };
      assertEquals(bench.read(FIRST), before(FIRST));
      const sent = discardsOf(device.path);
      assertEquals(frees(STORAGE_DISCARD, FIRST), discards === 1);
      assertEquals(bench.read(FIRST), discards === 1 ? ZEROES : before(FIRST));
      assertEquals(bench.engine.status().ignoredDiscards, 1 - discards);
      assertEquals(discardsOf(device.path), sent + discards);
      // Zeroes are promised, whatever the device has.
      assertEquals(frees(STORAGE_WRITE_ZEROES_UNMAP, SECOND), zeroes === 1);
      assertEquals(discardsOf(device.path), sent + discards);
      assertEquals(bench.read(SECOND), ZEROES);
      assertEquals(bench.read(0), before(0));
      assertEquals(bench.read(3 * MEBIBYTE), before(3 * MEBIBYTE));
      // What was offered stays.
      assertEquals(bench.engine.canDiscard, discards === 1);
      assertEquals(bench.engine.canUnmap, zeroes === 1);
    });
  }

  runnable.test(`a device that frees nothing is believed, ${engine}`, async (t) => {
    using directory = TemporaryDirectory.make("plain");
    const obstacle = withPlainDevice(directory.path, SIZE, (path) => {
      const storage = openStorage({ path });
      assert(!storage.canDiscard);
      assert(!storage.canUnmap);
      storage.close();
      Deno.writeFileSync(path, BEFORE);
      // Its queue is said to do both.
      using bench = new Bench(path, engine, limitsOf(true, true));
      for (const ignored of [1, 2]) {
        assertEquals(bench.run(STORAGE_DISCARD, FIRST), 0);
        assert(!bench.engine.canDiscard);
        assertEquals(bench.engine.status().ignoredDiscards, ignored);
      }
      assertEquals(bench.read(FIRST), before(FIRST));
      assert(bench.engine.canUnmap);
      assertEquals(bench.run(STORAGE_WRITE_ZEROES_UNMAP, SECOND), 0);
      assert(!bench.engine.canUnmap);
      assertEquals(bench.read(SECOND), ZEROES);
    });
    if (obstacle !== null) await skipRest(t, "plain device", obstacle);
  });
}

Deno.test("queueLimits() reads the queue of a disk and of a partition", () => {
  using directory = TemporaryDirectory.make("sysfs");
  using file = DataFile.open(directory.file("device"), { create: true });
  const { dev } = file.identity();
  const number = `${dev >> 32n}:${dev & 0xffff_ffffn}`;
  const write = (queue: string, name: string, text: string): void => {
    Deno.mkdirSync(directory.file(queue), { recursive: true });
    Deno.writeTextFileSync(directory.file(`${queue}/${name}`), text);
  };
  const limits = () => queueLimits(file, directory.path);
  const none = {
    physicalBlockSize: 0,
    discardGranularity: 0,
    discardMaxBytes: 0,
    writeZeroesMaxBytes: 0,
  };
  assertEquals(limits(), none);
  // A partition has no queue of its own: that of the directory above.
  Deno.mkdirSync(directory.file(number));
  write("queue", "discard_max_bytes", "65536\n");
  assertEquals(limits(), { ...none, discardMaxBytes: 65536 });
  const queue = `${number}/queue`;
  write(queue, "physical_block_size", "4096\n");
  write(queue, "discard_granularity", "8192\n");
  write(queue, "discard_max_bytes", "4294966784\n");
  write(queue, "write_zeroes_max_bytes", "0\n");
  assertEquals(limits(), {
    physicalBlockSize: 4096,
    discardGranularity: 8192,
    discardMaxBytes: 4294966784,
    writeZeroesMaxBytes: 0,
  });
});
