/**
 * What every storage engine must do, as tests that run over any of them.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { createMemfd } from "../../../sys/memfd.ts";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import { StorageError } from "../error.ts";
import { openStorage, type StorageOptions } from "../open.ts";
import {
  type Storage,
  STORAGE_DISCARD,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
  type StorageOperation,
} from "../storage.ts";
import { pattern, TestBuffers } from "./buffers.ts";
import { TestRing } from "./test_ring.ts";
import { IoTable } from "../../../sys/io_table.ts";
import { IOV_MAX } from "../../../sys/iovec.ts";
import { detachMemory, viewMemory } from "../../../sys/mapping.ts";

const EIO = 5, EBADF = 9, EFAULT = 14;
const MEBIBYTE = 2 ** 20;
/** The slot that all operations use. */
const SLOT = 3;
/** Turns that a test waits for a completion; a turn of a slow engine may block. */
const MOST_TURNS = 100_000;

/** Runs operations one at a time, whether the engine is synchronous or not. */
export class StorageRunner {
  readonly #storage: Storage;
  readonly #ring: TestRing | null;
  readonly #table = new IoTable(SLOT + 1, IOV_MAX);
  #result: number | null = null;

  /** Takes over the completions of a storage. */
  constructor(storage: Storage, ring?: TestRing) {
    this.#storage = storage;
    this.#ring = ring ?? null;
    storage.attach(this.#table);
    storage.onComplete = (slot, result) => {
      assertEquals(slot, SLOT);
      assertEquals(this.#result, null, "an operation completed twice");
      this.#result = result;
    };
  }

  /** Submits an operation and waits for its result. */
  run(
    operation: StorageOperation,
    offset = 0,
    length = 0,
    iovecs = 0,
    count = 0,
  ): number {
    this.#result = null;
    const table = this.#table;
    table.offsets[SLOT] = offset;
    table.lengths[SLOT] = length;
    table.counts[SLOT] = count;
    if (count > 0) {
      const list = viewMemory(iovecs, 16 * count);
      table.iovecs.words.set(
        new Uint32Array(list),
        table.iovecs.wordOffset(SLOT),
      );
      detachMemory(list);
    }
    this.#storage.submit(SLOT, operation);
    for (let turn = 0; this.#result === null; turn++) {
      assert(turn < MOST_TURNS, "an operation never completed");
      this.#storage.poll();
      if (this.#result === null) this.#ring?.wait();
    }
    return this.#result;
  }
}

/** An image, storage over it and buffers, for one test. */
class Bench implements Disposable {
  readonly directory = TemporaryDirectory.make("storage");
  readonly path: string = this.directory.file("disk.img");
  readonly buffers = new TestBuffers(4 * MEBIBYTE);
  readonly #ring = new TestRing();
  readonly storage: Storage;
  readonly runner: StorageRunner;

  constructor(options: Partial<StorageOptions>, size = 2 * MEBIBYTE) {
    Deno.writeFileSync(this.path, pattern(size, 1));
    this.storage = openStorage({ path: this.path, ...options }, this.#ring.get);
    this.runner = new StorageRunner(this.storage, this.#ring);
  }

  read(offset: number, pieces: readonly (readonly [number, number])[]): number {
    const length = this.buffers.scatter(pieces);
    const iovecs = this.buffers.iovecs;
    return this.runner.run(STORAGE_READ, offset, length, iovecs, pieces.length);
  }

  write(
    offset: number,
    pieces: readonly (readonly [number, number])[],
  ): number {
    const length = this.buffers.scatter(pieces);
    const iovecs = this.buffers.iovecs;
    return this.runner
      .run(STORAGE_WRITE, offset, length, iovecs, pieces.length);
  }

  file(offset: number, length: number): Uint8Array {
    return Deno.readFileSync(this.path).subarray(offset, offset + length);
  }

  [Symbol.dispose](): void {
    this.storage.close();
    this.#ring[Symbol.dispose]();
    this.buffers[Symbol.dispose]();
    this.directory[Symbol.dispose]();
  }
}

/** Cuts `length` bytes into pieces that lie apart from each other. */
function cut(length: number, size: number): [number, number][] {
  const pieces: [number, number][] = [];
  for (let at = 0, done = 0; done < length; at += 2 * size, done += size) {
    pieces.push([at, Math.min(size, length - done)]);
  }
  return pieces;
}

/**
 * Registers the tests for one way to open a storage.
 *
 * @param name of the engine, for the names of the tests
 * @param options added to those of every test
 */
export function testEngine(
  name: string,
  options: Partial<StorageOptions>,
): void {
  const block = options.blockSize ?? 512;

  Deno.test(`${name}: reads and writes scatter lists`, () => {
    using bench = new Bench(options);
    for (const size of [block, 4096, 65536]) {
      const length = 16 * size;
      const pieces = cut(length, size);
      const data = pattern(2 * length, size);
      bench.buffers.bytes.set(data);
      const expected = bench.buffers.gather(pieces);
      assertEquals(bench.write(3 * block, pieces), length);
      assertEquals(bench.file(3 * block, length), expected);
      bench.buffers.bytes.fill(0);
      assertEquals(bench.read(3 * block, pieces), length);
      assertEquals(bench.buffers.gather(pieces), expected);
    }
    // Nothing beside what was written changed.
    const whole = pattern(2 * MEBIBYTE, 1);
    assertEquals(bench.file(0, 3 * block), whole.subarray(0, 3 * block));
    assertEquals(
      bench.file(MEBIBYTE + 3 * block, 4096),
      whole
        .subarray(MEBIBYTE + 3 * block, MEBIBYTE + 3 * block + 4096),
    );
  });

  Deno.test(`${name}: takes buffers at any address and of any length`, () => {
    using bench = new Bench(options);
    const shapes: [number, number][][] = [
      [[1, block]],
      [[3, 1], [100, block - 1]],
      [[0, block], [8191, block]],
      [[7, 3 * block + 11], [50001, block - 11]],
      [[5, 700_000], [800_003, MEBIBYTE - 700_000]],
    ];
    for (const [i, pieces] of shapes.entries()) {
      bench.buffers.bytes.set(pattern(2 * MEBIBYTE, 10 + i));
      const expected = bench.buffers.gather(pieces);
      const length = expected.length;
      assertEquals(length % block, 0);
      assertEquals(bench.write(block, pieces), length);
      assertEquals(bench.file(block, length), expected);
      assertEquals(
        bench.file(block + length, block),
        pattern(2 * MEBIBYTE, 1).subarray(block + length, 2 * block + length),
      );
      bench.buffers.bytes.fill(0);
      assertEquals(bench.read(block, pieces), length);
      assertEquals(bench.buffers.gather(pieces), expected);
      Deno.writeFileSync(bench.path, pattern(2 * MEBIBYTE, 1));
    }
  });

  Deno.test(`${name}: takes 1024 iovecs, and none`, () => {
    using bench = new Bench(options);
    const pieces = cut(1024 * block, block);
    bench.buffers.bytes.set(pattern(1024 * block, 5));
    // The pieces overlap the end of the pattern: zeroes.
    const expected = bench.buffers.gather(pieces);
    if (block === 512) {
      assertEquals(bench.write(0, pieces), 1024 * block);
      assertEquals(bench.file(0, 1024 * block), expected);
    }
    assertEquals(bench.runner.run(STORAGE_READ, 0, 0, 0, 0), 0);
    assertEquals(bench.runner.run(STORAGE_WRITE, 0, 0, 0, 0), 0);
  });

  Deno.test(`${name}: flushes`, () => {
    using bench = new Bench(options);
    assertEquals(bench.runner.run(STORAGE_FLUSH), 0);
    assertEquals(bench.storage.datasync(), 0);
  });

  Deno.test(`${name}: discards, and zeroes with and without space`, () => {
    using bench = new Bench(options);
    const blocks = () => bench.storage.status().allocatedBytes as number;
    assert(bench.storage.canDiscard);
    assertEquals(bench.runner.run(STORAGE_FLUSH), 0);
    const before = blocks();
    assertEquals(bench.runner.run(STORAGE_DISCARD, 0, MEBIBYTE), 0);
    const discarded = blocks();
    assert(discarded <= before - MEBIBYTE, `${before} to ${discarded}`);
    assertEquals(bench.file(0, MEBIBYTE), new Uint8Array(MEBIBYTE));

    const at = MEBIBYTE + block, length = 64 * 1024;
    assertEquals(bench.runner.run(STORAGE_WRITE_ZEROES, at, length), 0);
    assert(blocks() >= discarded);
    assertEquals(bench.file(at, length), new Uint8Array(length));

    const next = at + length;
    assertEquals(
      bench.runner.run(STORAGE_WRITE_ZEROES_UNMAP, next, 4 * length),
      0,
    );
    assert(blocks() < discarded);
    assertEquals(bench.file(next, 4 * length), new Uint8Array(4 * length));
    // The neighbours kept their contents.
    const whole = pattern(2 * MEBIBYTE, 1);
    assertEquals(
      bench.file(MEBIBYTE, block),
      whole
        .subarray(MEBIBYTE, MEBIBYTE + block),
    );
    const end = next + 4 * length;
    assertEquals(bench.file(end, block), whole.subarray(end, end + block));
    assertEquals(Deno.statSync(bench.path).size, 2 * MEBIBYTE);
  });

  Deno.test(`${name}: tells what is allocated`, () => {
    using bench = new Bench(options);
    const { storage, runner } = bench;
    assertEquals(runner.run(STORAGE_FLUSH), 0);
    assertEquals(storage.extent(0), { length: 2 * MEBIBYTE, mapped: true });
    const at = 65536, length = 262144;
    assertEquals(runner.run(STORAGE_DISCARD, at, length), 0);
    assertEquals(storage.extent(0), { length: at, mapped: true });
    assertEquals(storage.extent(at - block), { length: block, mapped: true });
    assertEquals(storage.extent(at), { length, mapped: false });
    assertEquals(storage.extent(at + block), {
      length: length - block,
      mapped: false,
    });
    assertEquals(storage.extent(at + length).mapped, true);
    const tail = 2 * MEBIBYTE - 65536;
    assertEquals(runner.run(STORAGE_DISCARD, tail, 65536), 0);
    assertEquals(storage.extent(tail), { length: 65536, mapped: false });
    // Nor is what a truncated image lacks.
    Deno.truncateSync(bench.path, MEBIBYTE);
    assertEquals(storage.extent(MEBIBYTE + 65536), {
      length: MEBIBYTE - 65536,
      mapped: false,
    });
  });

  Deno.test(`${name}: answers reads of a truncated image, and goes on`, () => {
    using bench = new Bench(options);
    Deno.truncateSync(bench.path, MEBIBYTE);
    const pieces: [number, number][] = [[0, 8192]];
    assertEquals(bench.read(MEBIBYTE + 65536, pieces), -EIO);
    // Half of it is there.
    assertEquals(bench.read(MEBIBYTE - 4096, pieces), -EIO);
    assertEquals(bench.read(MEBIBYTE - 8192, pieces), 8192);
    // Writing makes the image whole again, up to there.
    bench.buffers.bytes.set(pattern(8192, 9));
    assertEquals(bench.write(MEBIBYTE + 65536, pieces), 8192);
    bench.buffers.bytes.fill(0);
    assertEquals(bench.read(MEBIBYTE + 65536, pieces), 8192);
    assertEquals(bench.buffers.gather(pieces), pattern(8192, 9));
    const zeroes = 2 * MEBIBYTE - 65536;
    assertEquals(bench.runner.run(STORAGE_WRITE_ZEROES, zeroes, 65536), 0);
    assertEquals(bench.read(zeroes, pieces), 8192);
    assertEquals(bench.buffers.gather(pieces), new Uint8Array(8192));
  });

  Deno.test(`${name}: answers memory that is not there, and goes on`, () => {
    using bench = new Bench(options);
    const beyond = 2 ** 45;
    assertEquals(bench.read(0, [[beyond, block]]), -EFAULT);
    assertEquals(bench.read(0, [[0, 4096], [beyond, 4096]]), -EFAULT);
    assertEquals(bench.read(0, [[1, 4096], [beyond, 4096]]), -EFAULT);
    assertEquals(bench.write(0, [[1, 4096], [beyond, 4096]]), -EFAULT);
    assertEquals(bench.read(0, [[0, 4096]]), 4096);
  });

  Deno.test(`${name}: refuses writes of a read-only image`, () => {
    using bench = new Bench({ ...options, readOnly: true });
    assert(bench.storage.readOnly);
    assert(!bench.storage.canDiscard);
    assertEquals(bench.write(0, [[0, 4096]]), -EBADF);
    assertEquals(bench.runner.run(STORAGE_WRITE_ZEROES, 0, 4096), -EBADF);
    assertEquals(
      bench.file(0, 4096),
      pattern(2 * MEBIBYTE, 1)
        .subarray(0, 4096),
    );
    assertEquals(bench.read(0, [[0, 4096]]), 4096);
  });

  Deno.test(`${name}: sees the size change when asked`, () => {
    using bench = new Bench(options);
    assertEquals(bench.storage.capacity, 2 * MEBIBYTE);
    Deno.truncateSync(bench.path, 3 * MEBIBYTE);
    assertEquals(bench.storage.capacity, 2 * MEBIBYTE);
    assertEquals(bench.storage.refresh(), 3 * MEBIBYTE);
    assertEquals(bench.storage.capacity, 3 * MEBIBYTE);
    Deno.truncateSync(bench.path, MEBIBYTE + block);
    assertEquals(bench.storage.refresh(), MEBIBYTE + block);
    // What would not be opened is refused, and nothing changes.
    const still = `; the guest still sees ${MEBIBYTE + block} bytes`;
    const cases: [size: number, problem: string][] = [
      [1000, `file size 1000 is not a multiple of ${block}`],
      [
        4 * MEBIBYTE + 100,
        `file size ${4 * MEBIBYTE + 100} is not a multiple of ${block}`,
      ],
      [0, "file size is 0; give it one with: truncate -s 1G "],
    ];
    for (const [size, problem] of cases) {
      Deno.truncateSync(bench.path, size);
      const error = assertThrows(() => bench.storage.refresh(), StorageError);
      assertEquals(error.kind, "size");
      assertStringIncludes(
        error.message,
        `Cannot serve "${bench.path}": ${problem}`,
      );
      assertStringIncludes(error.message, still);
      assertEquals(bench.storage.capacity, MEBIBYTE + block);
    }
    Deno.truncateSync(bench.path, MEBIBYTE);
    assertEquals(bench.storage.refresh(), MEBIBYTE);
  });

  Deno.test(`${name}: zeroes where the file system cannot`, () => {
    // The file system of memfds punches holes and zeroes no ranges.
    using memfd = createMemfd("disk", 24 * MEBIBYTE);
    const path = `/proc/self/fd/${memfd.fd}`;
    using memory = Deno.openSync(path, { read: true, write: true });
    for (let i = 0; i < 24; i++) memory.writeSync(pattern(MEBIBYTE, i));
    using ring = new TestRing();
    const storage = openStorage({ path, ...options, direct: false }, ring.get);
    try {
      const runner = new StorageRunner(storage, ring);
      const at = 3 * block, length = 20 * MEBIBYTE + 5 * block;
      assertEquals(runner.run(STORAGE_WRITE_ZEROES, at, length), 0);
      const after = Deno.readFileSync(path);
      assertEquals(after.length, 24 * MEBIBYTE);
      assertEquals(
        after.subarray(0, at),
        pattern(MEBIBYTE, 0).subarray(0, at),
      );
      assert(after.subarray(at, at + length).every((byte) => byte === 0));
      const rest = at + length - 20 * MEBIBYTE;
      assertEquals(
        after.subarray(at + length, at + length + block),
        pattern(MEBIBYTE, 20).subarray(rest, rest + block),
      );
      assertEquals(storage.status().writtenZeroes, 1);
      // A hole is as good, and needs no writing.
      assertEquals(
        runner.run(STORAGE_WRITE_ZEROES_UNMAP, 22 * MEBIBYTE, MEBIBYTE),
        0,
      );
      assertEquals(storage.status().writtenZeroes, 1);
    } finally {
      storage.close();
    }
  });
}
