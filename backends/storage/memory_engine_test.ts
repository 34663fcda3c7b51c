import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { StorageError } from "./error.ts";
import { MemoryEngine, NullEngine } from "./memory_engine.ts";
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

const MEBIBYTE = 2 ** 20;
/** Memory may come in pages of this size. */
const HUGE_PAGE = 2 * MEBIBYTE;
const OPTIONS = { size: 4 * MEBIBYTE, blockSize: 512, readOnly: false };

Deno.test("MemoryEngine keeps what is written and gives space back", () => {
  const fds = openFdCount();
  const engine = new MemoryEngine(OPTIONS);
  using buffers = new TestBuffers(MEBIBYTE);
  const runner = new StorageRunner(engine);
  const allocated = () => Number(engine.status().allocatedBytes);
  assertEquals(allocated(), 0);
  const data = pattern(64 * 1024, 5);
  buffers.bytes.set(data, 0);
  buffers.scatter([[0, data.length]]);
  const whole = buffers.iovecs;
  assertEquals(
    runner.run(STORAGE_WRITE, HUGE_PAGE, data.length, whole, 1),
    data.length,
  );
  assert(allocated() >= data.length);
  buffers.bytes.fill(0);
  assertEquals(
    runner.run(STORAGE_READ, HUGE_PAGE, data.length, whole, 1),
    data.length,
  );
  assertEquals(buffers.bytes.subarray(0, data.length), data);
  assertEquals(runner.run(STORAGE_FLUSH), 0);
  assertEquals(engine.extent(0), { length: HUGE_PAGE, mapped: false });
  const extent = engine.extent(HUGE_PAGE);
  assert(extent.mapped && extent.length >= data.length);
  assertEquals(runner.run(STORAGE_WRITE_ZEROES, HUGE_PAGE, 4096), 0);
  assertEquals(
    runner.run(STORAGE_WRITE_ZEROES_UNMAP, HUGE_PAGE + 4096, 4096),
    0,
  );
  runner.run(STORAGE_READ, HUGE_PAGE, data.length, whole, 1);
  assert(buffers.bytes.subarray(0, 8192).every((byte) => byte === 0));
  assertEquals(
    buffers.bytes.subarray(8192, data.length),
    data.subarray(8192),
  );
  assertEquals(runner.run(STORAGE_DISCARD, 0, 4 * MEBIBYTE), 0);
  assertEquals(allocated(), 0);
  engine.close();
  assertEquals(openFdCount(), fds);
});

Deno.test("NullEngine answers everything and touches nothing", () => {
  const engine = new NullEngine(OPTIONS);
  using buffers = new TestBuffers(4096);
  const runner = new StorageRunner(engine);
  buffers.bytes.fill(3, 0, 512);
  buffers.scatter([[0, 512]]);
  const list = buffers.iovecs;
  assertEquals(runner.run(STORAGE_READ, 0, 512, list, 1), 512);
  assertEquals(buffers.bytes[100], 3);
  assertEquals(engine.extent(4096), {
    length: 4 * MEBIBYTE - 4096,
    mapped: false,
  });
  assertEquals(runner.run(STORAGE_FLUSH), 0);
  engine.close();
});

Deno.test("MemoryEngine says that a disk is too large", () => {
  const fds = openFdCount();
  const size = 2 ** 50;
  const error = assertThrows(
    () => new MemoryEngine({ size, blockSize: 512, readOnly: false }),
    StorageError,
  );
  assertEquals(error.kind, "size");
  assertEquals(
    error.message,
    `Cannot serve "storage=memory": there is no room here for ${size} bytes ` +
      "(ENOMEM); use a smaller size",
  );
  assertEquals(openFdCount(), fds);
});
