import { assertEquals } from "@std/assert";
import { DataFile } from "../../sys/file.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { BOUNCE_SIZE, BounceBuffer } from "./bounce.ts";
import { ScatterList } from "./scatter.ts";
import { pattern, TestBuffers } from "./testing/buffers.ts";

const EFAULT = 14;
/** An offset where no memory is. */
const NOWHERE = 2 ** 45;

Deno.test("BounceBuffer moves what it can at a time, and says how much", () => {
  using memfd = createMemfd("disk", 2 * BOUNCE_SIZE);
  using file = DataFile.open(`/proc/self/fd/${memfd.fd}`);
  using scatter = new ScatterList();
  using bounce = new BounceBuffer(file, scatter);
  using buffers = new TestBuffers(4 * BOUNCE_SIZE);
  const data = pattern(2 * BOUNCE_SIZE, 3);
  const pieces: [number, number][] = [
    [1, 1000],
    [5001, BOUNCE_SIZE],
    [3 * BOUNCE_SIZE, BOUNCE_SIZE - 1000],
  ];
  let at = 0;
  for (const [offset, length] of pieces) {
    buffers.bytes.set(data.subarray(at, at += length), offset);
  }
  const length = buffers.scatter(pieces);
  const iovecs = buffers.iovecs;
  const move = (writing: boolean, done: number, most: number) =>
    bounce.transfer(writing, iovecs, 3, done, most, done);
  assertEquals(move(true, 0, length), BOUNCE_SIZE);
  assertEquals(move(true, BOUNCE_SIZE, BOUNCE_SIZE), BOUNCE_SIZE);
  const written = new Uint8Array(2 * BOUNCE_SIZE);
  file.read(written, 0);
  assertEquals(written, data);
  buffers.bytes.fill(0);
  assertEquals(move(false, 0, length), BOUNCE_SIZE);
  assertEquals(move(false, BOUNCE_SIZE, 512), 512);
  const there = buffers.gather(pieces).subarray(0, BOUNCE_SIZE + 512);
  assertEquals(there, data.subarray(0, BOUNCE_SIZE + 512));
});

Deno.test("BounceBuffer writes nothing when memory is not there", () => {
  using memfd = createMemfd("disk", 8192);
  using file = DataFile.open(`/proc/self/fd/${memfd.fd}`);
  using scatter = new ScatterList();
  using bounce = new BounceBuffer(file, scatter);
  using buffers = new TestBuffers(8192);
  file.write(pattern(8192, 1), 0);
  for (
    const pieces of [
      [[0, 4096], [NOWHERE, 4096]],
      [[NOWHERE, 8192]],
    ] as [number, number][][]
  ) {
    buffers.scatter(pieces);
    const { iovecs } = buffers;
    const count = pieces.length;
    assertEquals(bounce.transfer(true, iovecs, count, 0, 8192, 0), -EFAULT);
    assertEquals(bounce.transfer(false, iovecs, count, 0, 8192, 0), -EFAULT);
  }
  const after = new Uint8Array(8192);
  file.read(after, 0);
  assertEquals(after, pattern(8192, 1));
});

Deno.test("BounceBuffer reads nothing beyond the end", () => {
  using memfd = createMemfd("disk", 4096);
  using file = DataFile.open(`/proc/self/fd/${memfd.fd}`);
  using scatter = new ScatterList();
  using bounce = new BounceBuffer(file, scatter);
  using buffers = new TestBuffers(8192);
  buffers.scatter([[0, 8192]]);
  assertEquals(bounce.transfer(false, buffers.iovecs, 1, 0, 8192, 0), 4096);
  assertEquals(bounce.transfer(false, buffers.iovecs, 1, 0, 8192, 4096), 0);
});
