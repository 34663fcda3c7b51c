import { assert, assertEquals } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { mappingCount } from "../../sys/mapping.ts";
import { addSeals, createMemfd, F_SEAL_FUTURE_WRITE } from "../../sys/memfd.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { openStorage } from "./open.ts";
import {
  STORAGE_DISCARD,
  STORAGE_FLUSH,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "./storage.ts";
import { pattern, TestBuffers } from "./testing/buffers.ts";
import { StorageRunner, testEngine } from "./testing/engine_suite.ts";
import { forEachEngine } from "./testing/engines.ts";
import { skipRest } from "../../tests/support/skip.ts";

const EPERM = 1;
const TWO_GIB_LESS_A_PAGE = 0x7fff_f000;

forEachEngine((name, options) => {
  testEngine(name, options);
  testEngine(`${name}, 4096-byte blocks`, { ...options, blockSize: 4096 });
});

Deno.test("SyncEngine goes on after the 2 GiB that one call moves", () => {
  const length = 1024 * 2 ** 21;
  assert(length > TWO_GIB_LESS_A_PAGE);
  using memfd = createMemfd("disk", length);
  const path = `/proc/self/fd/${memfd.fd}`;
  {
    using file = Deno.openSync(path, { write: true });
    file.seekSync(TWO_GIB_LESS_A_PAGE - 8, Deno.SeekMode.Start);
    file.writeSync(pattern(4096 + 8, 7));
  }
  using buffers = new TestBuffers(2 ** 22);
  const storage = openStorage({ path });
  try {
    // All pieces but the last are the same memory: only the end is looked at.
    const pieces = Array.from(
      { length: 1024 },
      (_, i): [number, number] => [i === 1023 ? 2 ** 21 : 0, 2 ** 21],
    );
    buffers.scatter(pieces);
    const runner = new StorageRunner(storage);
    const iovecs = buffers.iovecs;
    assertEquals(runner.run(STORAGE_READ, 0, length, iovecs, 1024), length);
    const end = buffers.bytes.subarray(2 ** 22 - 4096 - 8);
    assertEquals(end, pattern(4096 + 8, 7));
    assertEquals(storage.status().shortTransfers, 1);
  } finally {
    storage.close();
  }
});

Deno.test("SyncEngine counts transfers through the bounce buffer", () => {
  using directory = TemporaryDirectory.make("bounce");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, pattern(65536, 1));
  using buffers = new TestBuffers(65536);
  const storage = openStorage({ path, direct: true });
  try {
    const runner = new StorageRunner(storage);
    const read = (offset: number) => {
      const length = buffers.scatter([[offset, 4096]]);
      return runner.run(STORAGE_READ, 4096, length, buffers.iovecs, 1);
    };
    assertEquals(read(0), 4096);
    assertEquals(storage.status().bouncedTransfers, 0);
    assertEquals(read(1), 4096);
    assertEquals(storage.status().bouncedTransfers, 1);
    assertEquals(
      buffers.bytes.slice(1, 4097),
      pattern(65536, 1).slice(4096, 8192),
    );
  } finally {
    storage.close();
  }
});

Deno.test("SyncEngine answers errors of the medium, and goes on", () => {
  using memfd = createMemfd("disk", 65536);
  const path = `/proc/self/fd/${memfd.fd}`;
  using buffers = new TestBuffers(65536);
  const storage = openStorage({ path });
  try {
    const runner = new StorageRunner(storage);
    buffers.scatter([[0, 4096]]);
    const write = () => runner.run(STORAGE_WRITE, 0, 4096, buffers.iovecs, 1);
    assertEquals(write(), 4096);
    addSeals(memfd.fd, F_SEAL_FUTURE_WRITE);
    assertEquals(write(), -EPERM);
    assertEquals(runner.run(STORAGE_DISCARD, 0, 4096), -EPERM);
    assertEquals(runner.run(STORAGE_WRITE_ZEROES_UNMAP, 0, 4096), -EPERM);
    assertEquals(runner.run(STORAGE_READ, 0, 4096, buffers.iovecs, 1), 4096);
    assertEquals(runner.run(STORAGE_FLUSH), 0);
  } finally {
    storage.close();
  }
});

Deno.test("SyncEngine gives back all that it took", () => {
  using directory = TemporaryDirectory.make("leak");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, pattern(65536, 1));
  const cycle = () => {
    const storage = openStorage({ path, direct: true });
    storage.acquire();
    storage.close();
    storage.close();
  };
  cycle();
  const fds = openFdCount(), mappings = mappingCount();
  for (let i = 0; i < 100; i++) cycle();
  assertEquals(openFdCount(), fds);
  // The runtime maps and unmaps memory of its own: 100 leaks would show.
  assert(mappingCount() < mappings + 50);
});

Deno.test("SyncEngine answers a full file system, and goes on", async (t) => {
  using directory = TemporaryDirectory.make("full");
  const child = new URL("./testing/full_disk.ts", import.meta.url).pathname;
  const script =
    `mount -t tmpfs -o size=256k none "$0" && exec "$1" run -A "$2" "$0"`;
  const deno = Deno.execPath();
  const { code, stdout, stderr } = await new Deno.Command("unshare", {
    args: ["-rm", "sh", "-c", script, directory.path, deno, child],
  }).output().catch((error) => ({
    code: 127,
    stdout: new Uint8Array(),
    stderr: new TextEncoder().encode(String(error)),
  }));
  const text = new TextDecoder();
  const error = text.decode(stderr);
  if (code !== 0 && /unshare|mount/.test(error)) {
    return await skipRest(
      t,
      "private mounts",
      `no private mounts here (${error.trim()})`,
    );
  }
  assertEquals(code, 0, error);
  assertEquals(JSON.parse(text.decode(stdout)), {
    // 200 KiB fit; of the 128 KiB that follow only a part does.
    writes: [204800, -28],
    full: -28,
    readable: 204800,
    zeroes: -28,
    discard: 0,
    again: 65536,
  });
});
