/** Commands that zero much, on storage that does what it is asked at once. */

import { assert, assertEquals } from "@std/assert";
import {
  STORAGE_FLUSH,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
  STORAGE_WRITE_ZEROES_UNMAP,
} from "../storage/storage.ts";
import type { FakeStorage } from "../storage/testing/fake_storage.ts";
import { Response, TaskManagement } from "./protocol.ts";
import { be } from "./target/testing/cases.ts";
import { STEP_BYTES } from "./target/limits.ts";
import { lunField, ScsiBench, taskManagement } from "./testing/bench.ts";

const MIB = 2 ** 20, BLOCK = 512;
const TUR = [0, 0, 0, 0, 0, 0];
const NDOB = 1;

/** A SCSI host with a large disk. */
class Bench extends ScsiBench {
  readonly storage: FakeStorage;

  constructor(size = 128 * MIB) {
    const images = new ScsiBench();
    const path = images.directory.file("large.img");
    Deno.writeFileSync(path, new Uint8Array());
    Deno.truncateSync(path, size);
    super({ scsi: { path } });
    images[Symbol.dispose]();
    this.storage = this.clearAttentions().fake();
    this.storage.immediate = true;
  }

  /** Hands a WRITE SAME of zeroes in; its token. */
  writeSame(lba: number, bytes: number, tag = 7): number {
    const blocks = be(bytes / BLOCK, 4);
    return this.send([0x93, NDOB, ...be(lba, 8), ...blocks, 0, 0], { tag });
  }

  /** Operations and their ranges. */
  get pieces(): [number, number, number][] {
    return this.storage.log
      .map(({ operation, offset, length }) => [operation, offset, length]);
  }

  /** Turns until so many commands were answered; the turns. */
  finish(count: number): number {
    let turns = 0;
    for (let left = count; left > 0; turns++) {
      assert(turns < 1000, "a command does not end");
      const before = this.storage.log.length;
      this.turn();
      const done = this.storage.log.slice(before);
      const bytes = done.reduce((sum, { length }) => sum + length, 0);
      // One piece when it is taken, and one in the poll.
      assert(bytes <= 2 * STEP_BYTES, `${bytes} bytes in a turn`);
      left -= this.reap().size;
    }
    return turns;
  }
}

Deno.test("other commands are answered while WRITE SAME zeroes much", () => {
  using bench = new Bench();
  const { storage } = bench;
  storage.disk.fill(0xff);
  const same = bench.writeSame(3, 96 * MIB), ready = bench.send(TUR);
  bench.turn();
  assertEquals([...bench.reap().keys()], [ready]);
  assert(storage.log.length <= 2);
  const write = bench.send([0x2a, 0, ...be(0, 4), 0, 0, 1, 0], {
    out: new Uint8Array(BLOCK).fill(7),
  });
  bench.turn();
  assertEquals([...bench.reap().keys()], [write]);
  while (bench.queues[2].inFlight > 0) bench.turn();
  assertEquals(bench.reap().get(same)!.status, 0);
  const start = 3 * BLOCK;
  assertEquals(
    bench.pieces.filter(([operation]) => operation === STORAGE_WRITE_ZEROES),
    [
      [STORAGE_WRITE_ZEROES, start, STEP_BYTES - start],
      [STORAGE_WRITE_ZEROES, STEP_BYTES, STEP_BYTES],
      [STORAGE_WRITE_ZEROES, 2 * STEP_BYTES, STEP_BYTES],
      [STORAGE_WRITE_ZEROES, 3 * STEP_BYTES, start],
    ],
  );
  const { disk } = storage, end = start + 96 * MIB;
  assertEquals([disk[start - 1], disk[start]], [0xff, 0]);
  assertEquals([disk[end - 1], disk[end]], [0, 0xff]);
});

Deno.test("commands that zero much take turns, one piece in each", () => {
  using bench = new Bench();
  for (let i = 0; i < 3; i++) bench.writeSame(0, 64 * MIB, i);
  bench.device.serve(bench.queues[2], 8);
  assertEquals(bench.finish(3), 3);
  // A pattern is written, in pieces that are not much each.
  const pattern = [0x93, 0, ...be(0, 8), ...be(80 * MIB / BLOCK, 4), 0, 0];
  bench.storage.log.length = 0;
  bench.send(pattern, { out: new Uint8Array(BLOCK).fill(9) });
  assert(bench.finish(1) >= 2);
  assert(bench.pieces.every(([operation]) => operation === STORAGE_WRITE));
});

Deno.test("UNMAP is done in pieces, and is durable in the end", () => {
  using bench = new Bench();
  bench.device.bus.target(0)!.luns.get(0)!.unit.mode.writeCache = false;
  const out = new Uint8Array(8 + 3 * 16);
  out.set(be(out.length - 2, 2));
  out.set(be(3 * 16, 2), 2);
  const ranges = [[0, 20 * MIB], [20 * MIB, 20 * MIB], [64 * MIB, 40 * MIB]];
  ranges.forEach(([offset, length], i) =>
    out.set([...be(offset / BLOCK, 8), ...be(length / BLOCK, 4)], 8 + 16 * i)
  );
  bench.send([0x42, 0, 0, 0, 0, 0, 0, ...be(out.length, 2), 0], { out });
  bench.finish(1);
  const UNMAP = STORAGE_WRITE_ZEROES_UNMAP;
  assertEquals(bench.pieces, [
    [UNMAP, 0, 20 * MIB],
    [UNMAP, 20 * MIB, 12 * MIB],
    [UNMAP, 32 * MIB, 8 * MIB],
    [UNMAP, 64 * MIB, 32 * MIB],
    [UNMAP, 96 * MIB, 8 * MIB],
    [STORAGE_FLUSH, 0, 0],
  ]);
});

Deno.test("a command that zeroes much is aborted between two pieces", () => {
  using bench = new Bench();
  const same = bench.writeSame(0, 128 * MIB);
  bench.turn();
  const before = bench.storage.log.length;
  assert(before <= 2);
  const request = taskManagement(TaskManagement.ABORT_TASK, lunField(0, 0), 7);
  assertEquals([...bench.control(request)], [0]);
  assertEquals(bench.reap().get(same)!.response, Response.ABORTED);
  assertEquals(bench.storage.log.length, before);
});

Deno.test("a command that zeroes much fails with the piece that does", () => {
  using bench = new Bench();
  const same = bench.writeSame(0, 128 * MIB);
  bench.storage.errors.push(0, 28);
  bench.turn();
  while (bench.queues[2].inFlight > 0) bench.turn();
  assertEquals(bench.storage.log.length, 2);
  assertEquals(bench.reap().get(same)!.sense, { key: 7, asc: 0x2707 });
});

Deno.test("a ring stops when a command that zeroes much has ended", () => {
  using bench = new Bench();
  bench.writeSame(0, 128 * MIB);
  const { device, queues } = bench;
  device.serve(queues[2], 8);
  device.quiesce(queues[2]);
  let polls = 0;
  for (; queues[2].inFlight > 0; polls++) {
    assertEquals(device.poll(), polls === 2 ? 2 : 1);
  }
  assertEquals(polls, 3);
});
