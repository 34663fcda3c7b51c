import { assert, assertEquals, assertThrows } from "@std/assert";
import { LoopDevice } from "../../tests/support/loop_device.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { Errno } from "../../sys/errno.ts";
import { StorageError } from "./error.ts";
import { openStorage } from "./open.ts";
import {
  STORAGE_DISCARD,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "./storage.ts";
import { pattern, TestBuffers } from "./testing/buffers.ts";
import { StorageRunner } from "./testing/engine_suite.ts";
import { type EngineOptions, IMAGE_ENGINES } from "./testing/engines.ts";
import { TestRing } from "./testing/test_ring.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { skipRest, skipUnless } from "../../tests/support/skip.ts";

const MEBIBYTE = 2 ** 20;

for (const engine of IMAGE_ENGINES) {
  const runnable = skipUnless(
    engine !== "io_uring" || IoUring.supported(),
    `there is no io_uring here (${IoUring.refusal()?.message})`,
  );
  for (const blockSize of [512, 4096]) {
    for (const direct of [false, true]) {
      const name = `${blockSize}-byte blocks, direct=${direct}, ${engine}`;
      runnable.test(`openStorage() serves a block device, ${name}`, (t) =>
        withLoopDevice(
          t,
          blockSize,
          (path, file) => serve(path, file, { blockSize, direct, engine }),
        ));
    }
  }
}

/** Does something with a loop device over a file of a pattern, if there is one. */
async function withLoopDevice(
  t: Deno.TestContext,
  blockSize: number,
  fn: (path: string, backing: string) => void,
  ...options: string[]
): Promise<void> {
  using directory = TemporaryDirectory.make("loop");
  const file = directory.file("backing");
  Deno.writeFileSync(file, pattern(4 * MEBIBYTE, 1));
  const made = LoopDevice.make(file, blockSize, ...options);
  if (typeof made === "string") {
    return await skipRest(t, "loop device", `no loop devices here (${made})`);
  }
  using device = made;
  fn(device.path, file);
}

function serve(
  path: string,
  backing: string,
  { blockSize, direct, engine }: EngineOptions & { blockSize: number },
): void {
  using buffers = new TestBuffers(MEBIBYTE);
  using ring = new TestRing();
  if (direct && blockSize === 4096) {
    const error = assertThrows(
      () => openStorage({ path, direct, blockSize: 512 }),
      StorageError,
    );
    assertEquals(error.kind, "block-size");
    assertEquals(
      error.message,
      `Cannot serve "${path}": direct I/O on it needs blocks of 4096 bytes, ` +
        "not 512; use block-size=4096 or direct=off",
    );
  }
  const storage = openStorage({ path, direct, engine }, ring.get);
  try {
    assertEquals(storage.capacity, 4 * MEBIBYTE);
    assertEquals(storage.blockSize, blockSize);
    assert(storage.optimalSize >= blockSize);
    assert(storage.canDiscard);
    assertEquals(storage.status().kind, "block");
    assertEquals(storage.status().filesystem, "block");
    assertEquals(storage.status().engine, engine);
    storage.acquire();
    const runner = new StorageRunner(storage, ring);
    const transfer = (operation: 0 | 1, at: number, start: number) => {
      const length = buffers.scatter([[start, 8 * blockSize]]);
      return runner.run(operation, at, length, buffers.iovecs, 1);
    };
    for (const start of [0, 1]) {
      buffers.bytes.set(pattern(8 * blockSize, 2 + start), start);
      assertEquals(transfer(STORAGE_WRITE, blockSize, start), 8 * blockSize);
      buffers.bytes.fill(0);
      assertEquals(transfer(STORAGE_READ, blockSize, start), 8 * blockSize);
      assertEquals(
        buffers.bytes.slice(start, start + 8 * blockSize),
        pattern(8 * blockSize, 2 + start),
      );
    }
    assertEquals(runner.run(STORAGE_FLUSH), 0);
    if (engine === "io_uring") {
      assertEquals(storage.status().asynchronousOperations, 5);
    }
    const before = Deno.statSync(backing).blocks!;
    // The first and the last block are not whole ones: they stay.
    const [from, to] = [MEBIBYTE - 512, 2 * MEBIBYTE + 512];
    const around = (at: number): Uint8Array => {
      assertEquals(transfer(STORAGE_READ, at, 0), 8 * blockSize);
      return buffers.bytes.slice(0, 8 * blockSize);
    };
    const outside = [MEBIBYTE - 8 * blockSize, 2 * MEBIBYTE];
    const contents = outside.map(around);
    around(MEBIBYTE);
    assertEquals(runner.run(STORAGE_DISCARD, from, to - from), 0);
    // The file system of the backing file may keep what was beside the hole.
    assert(Deno.statSync(backing).blocks! <= before - (MEBIBYTE - 65536) / 512);
    for (const at of [MEBIBYTE, 1.5 * MEBIBYTE]) {
      assert(around(at).every((byte) => byte === 0));
    }
    const kept = blockSize === 512 ? 512 : 0;
    const expected = contents.map((bytes, i) => {
      if (i === 0) bytes.fill(0, bytes.length - kept);
      else bytes.fill(0, 0, kept);
      return bytes;
    });
    assertEquals(outside.map(around), expected);
    assertEquals(storage.status().ignoredDiscards, 0);
    // No whole block at all.
    if (blockSize > 512) {
      assertEquals(runner.run(STORAGE_DISCARD, 512, 2048), 0);
      assertEquals(storage.status().ignoredDiscards, 1);
      assert(storage.canDiscard);
    }
    for (
      const operation of [
        STORAGE_WRITE_ZEROES,
        STORAGE_WRITE_ZEROES_UNMAP,
      ] as const
    ) {
      const at = operation * 512 * 1024;
      assertEquals(runner.run(operation, at, 65536), 0);
      assertEquals(transfer(STORAGE_READ, at, 0), 8 * blockSize);
      assert(buffers.bytes.slice(0, 8 * blockSize).every((b) => b === 0));
    }
  } finally {
    storage.close();
  }
}

Deno.test("openStorage() discards nothing of a read-only block device", (t) =>
  withLoopDevice(t, 512, (path) => {
    using buffers = new TestBuffers(MEBIBYTE);
    for (const readOnly of [true, false]) {
      // The kernel lets such a device be opened for writing, and refuses then.
      const storage = openStorage({ path, readOnly });
      try {
        assertEquals(storage.canDiscard, !readOnly);
        assertEquals(storage.canUnmap, !readOnly);
        const runner = new StorageRunner(storage);
        const result = runner.run(STORAGE_DISCARD, 0, MEBIBYTE);
        assertEquals(result, readOnly ? 0 : -Errno.EPERM);
        assertEquals(storage.status().ignoredDiscards, readOnly ? 1 : 0);
        const length = buffers.scatter([[0, MEBIBYTE]]);
        assertEquals(
          runner.run(STORAGE_READ, 0, length, buffers.iovecs, 1),
          MEBIBYTE,
        );
        assertEquals(
          buffers.bytes.slice(0, MEBIBYTE),
          pattern(4 * MEBIBYTE, 1).subarray(0, MEBIBYTE),
        );
      } finally {
        storage.close();
      }
    }
  }, "--read-only"));

Deno.test("openStorage() refuses a block device that the host uses", async (t) => {
  using directory = TemporaryDirectory.make("loop");
  const file = directory.file("backing");
  Deno.writeFileSync(file, new Uint8Array(4 * MEBIBYTE));
  const made = LoopDevice.make(file, 512);
  if (typeof made === "string") {
    return await skipRest(t, "loop device", `no loop devices here (${made})`);
  }
  using device = made;
  const { path } = device;
  const run = (command: string, ...args: string[]) =>
    new Deno.Command(command, { args }).outputSync().success;
  const folder = directory.file("mounted");
  Deno.mkdirSync(folder);
  if (!run("mkfs.ext4", "-q", path) || !run("mount", path, folder)) {
    return await skipRest(t, "mounted device", "nothing can be mounted here");
  }
  try {
    const error = assertThrows(() => openStorage({ path }), StorageError);
    assertEquals(error.kind, "locked");
    assert(error.message.includes("this host uses it"));
    openStorage({ path, readOnly: true }).close();
    openStorage({ path, share: true }).close();
  } finally {
    run("umount", folder);
  }
  openStorage({ path }).close();
});
