import { assertEquals } from "@std/assert";
import { FakeStorage } from "../../storage/testing/fake_storage.ts";
import { OUTCOME_ABORTED, OUTCOME_RESET } from "./task.ts";
import { TaskAttribute } from "./constants.ts";
import { TargetBench, type TestTask } from "./testing/bench.ts";
import { be } from "./testing/cases.ts";

const ORDERED = 1, HEAD_OF_QUEUE = 2;
const EIO = 5;

/** A disk whose operations complete when the test says so. */
class Bench implements Disposable {
  /** The storage of each initiator. */
  readonly storages: FakeStorage[] = [];
  readonly target = new TargetBench({
    storage: () => {
      this.storages.push(new FakeStorage(2 ** 20));
      return this.storages.at(-1)!;
    },
  });

  get storage(): FakeStorage {
    return this.storages[0];
  }

  read(lba: number, attribute = 0, tag = lba): TestTask {
    const cdb = [0x28, 0, ...be(lba, 4), 0, 0, 1, 0];
    return this.target.first.send(cdb, { room: 512, attribute, tag });
  }

  compareAndWrite(lba: number): TestTask {
    return this.target.first.send(
      [0x89, 0, ...be(lba, 8), 0, 0, 0, 1, 0, 0],
      { out: new Uint8Array(1024) },
    );
  }

  /** First blocks of the operations in flight. */
  get pending(): number[] {
    return this.storage.pending.map(({ offset }) => offset / 512);
  }

  /** Completes all that is in flight, oldest first. */
  drain(): void {
    while (this.storage.pending.length > 0) this.storage.complete(0);
  }

  [Symbol.dispose](): void {
    this.target[Symbol.dispose]();
  }
}

Deno.test("simple commands run side by side and end in any order", () => {
  using bench = new Bench();
  const tasks = [1, 2, 3].map((lba) => bench.read(lba));
  assertEquals(bench.pending, [1, 2, 3]);
  bench.storage.complete(1);
  assertEquals(tasks.map(({ ends }) => ends), [0, 1, 0]);
  bench.drain();
  assertEquals(tasks.map(({ ends }) => ends), [1, 1, 1]);
  assertEquals(bench.target.unit.tasks.count, 0);
});

Deno.test("an ordered command waits for older ones, and newer ones for it", () => {
  using bench = new Bench();
  bench.read(1);
  bench.read(2);
  const ordered = bench.read(3, ORDERED);
  bench.read(4);
  assertEquals(bench.pending, [1, 2]);
  bench.storage.complete(0);
  assertEquals(bench.pending, [2]);
  bench.storage.complete(0);
  assertEquals(bench.pending, [3]);
  // Head of queue goes before what waits.
  bench.read(5, HEAD_OF_QUEUE);
  bench.storage.complete(0);
  assertEquals(ordered.ends, 1);
  assertEquals(bench.pending, [5, 4]);
  bench.drain();
});

Deno.test("a head of queue command overtakes those that wait", () => {
  using bench = new Bench();
  bench.read(1);
  bench.read(2, ORDERED);
  bench.read(3);
  bench.read(4, HEAD_OF_QUEUE);
  assertEquals(bench.pending, [1, 4]);
  bench.drain();
  assertEquals(bench.target.unit.tasks.count, 0);
});

Deno.test("nothing runs between the comparison and the write", () => {
  using bench = new Bench();
  bench.read(1);
  const atomic = bench.compareAndWrite(7);
  const other = bench.target.join("second");
  other.send([0x28, 0, ...be(9, 4), 0, 0, 1, 0], { room: 512 });
  assertEquals(bench.pending, [1]);
  bench.storage.complete(0);
  // The comparison, then the write, then the read of the other initiator.
  assertEquals(bench.pending, [7]);
  bench.storage.complete(0);
  assertEquals(bench.storage.pending[0].operation, 1);
  assertEquals(bench.pending, [7]);
  assertEquals(atomic.ends, 0);
  assertEquals(bench.storages[1].pending.length, 0);
  bench.storage.complete(0);
  assertEquals(atomic.answer?.status, 0);
  assertEquals(bench.storages[1].pending.length, 1);
});

Deno.test("ABORT TASK: a running command ends once, with its storage", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const task = bench.read(1, 0, 77), other = bench.read(2, 0, 78);
  let done = 0;
  unit.abortTask(first.nexus, 77, 0, () => done++);
  assertEquals([task.ends, done], [0, 0]);
  bench.storage.complete(0);
  assertEquals([task.ends, done, task.answer?.outcome], [
    1,
    1,
    OUTCOME_ABORTED,
  ]);
  assertEquals(task.answer?.transferred, 0);
  bench.storage.complete(0);
  assertEquals([other.ends, other.answer?.outcome], [1, 0]);
  // One that is not there is done at once.
  unit.abortTask(first.nexus, 99, 0, () => done++);
  assertEquals(done, 2);
});

Deno.test("ABORT TASK: a command that waits ends at once", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  bench.read(1);
  const waiting = bench.read(2, ORDERED, 5), last = bench.read(3);
  let done = 0;
  unit.abortTask(first.nexus, 5, 0, () => done++);
  assertEquals([waiting.ends, done], [1, 1]);
  assertEquals(waiting.answer?.outcome, OUTCOME_ABORTED);
  // What waited for it runs.
  assertEquals(bench.pending, [1, 3]);
  bench.drain();
  assertEquals(last.answer?.outcome, 0);
});

Deno.test("ABORT TASK: a command of several operations stops after one", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const atomic = bench.compareAndWrite(7);
  let done = 0;
  unit.abortTask(first.nexus, atomic.tagLow, 0, () => done++);
  unit.abortTaskSet(first.nexus, () => done++);
  bench.storage.complete(0);
  assertEquals([atomic.ends, done], [1, 2]);
  assertEquals(atomic.answer?.outcome, OUTCOME_ABORTED);
  assertEquals(bench.pending, []);
  assertEquals(bench.storage.disk.every((byte) => byte === 0), true);
});

Deno.test("ABORT TASK SET leaves the commands of others alone", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const other = bench.target.join("second");
  const read = [0x28, 0, ...be(9, 4), 0, 0, 1, 0];
  const own = bench.read(1);
  const theirs = other.send(read, { room: 512 });
  let done = 0;
  unit.abortTaskSet(first.nexus, () => done++);
  assertEquals(own.cancelled, OUTCOME_ABORTED);
  assertEquals(theirs.cancelled, 0);
  assertEquals(done, 0);
  bench.drain();
  assertEquals([own.ends, theirs.ends, done], [1, 0, 1]);
  bench.storages[1].complete(0);
  assertEquals(theirs.answer?.outcome, 0);
});

Deno.test("CLEAR TASK SET ends all, and tells other initiators", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const other = bench.target.join("second");
  const mine = bench.target.first.send([0x28, 0, ...be(1, 4), 0, 0, 1, 0], {
    room: 512,
    attribute: ORDERED,
  });
  const theirs = other.send([0x28, 0, ...be(2, 4), 0, 0, 1, 0], { room: 512 });
  let done = 0;
  unit.clearTaskSet(first.nexus, () => done++);
  assertEquals([theirs.ends, theirs.answer?.outcome], [1, OUTCOME_ABORTED]);
  assertEquals(mine.cancelled, OUTCOME_ABORTED);
  assertEquals(done, 0);
  assertEquals(first.nexus.attentionCount, 0);
  assertEquals(other.nexus.takeAttention(), 0x2f00);
});

Deno.test("LOGICAL UNIT RESET ends all and sets everything back", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const running = bench.read(1);
  const waiting = bench.read(2, ORDERED);
  unit.reservations.legacy = "first";
  unit.mode.writeCache = false;
  unit.mode.find(0x0a, 0)!.current[2] |= 4;
  let done = 0;
  unit.reset(() => done++);
  assertEquals([waiting.ends, done], [1, 0]);
  bench.drain();
  assertEquals([running.ends, done], [1, 1]);
  assertEquals(running.answer?.outcome, OUTCOME_RESET);
  assertEquals(unit.reservations.legacy, null);
  assertEquals(unit.descriptorSense, false);
  // But for what nobody would look at again.
  assertEquals(unit.mode.writeCache, false);
  unit.mode.writeCache = true;
  unit.reset(() => done++);
  assertEquals(unit.mode.writeCache, true);
  const answer = first.send([0, 0, 0, 0, 0, 0]).answer;
  assertEquals(answer?.sense, { key: 6, asc: 0x2903 });
});

Deno.test("I_T NEXUS RESET loses what the initiator had", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const task = bench.read(1);
  unit.reservations.legacy = "first";
  let done = 0;
  unit.loseNexus(first.nexus, () => done++);
  bench.drain();
  assertEquals([task.answer?.outcome, done], [OUTCOME_RESET, 1]);
  assertEquals(unit.reservations.legacy, null);
  assertEquals(first.nexus.takeAttention(), 0x2907);
});

Deno.test("the commands of a nexus are waited for, those of others not", async () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const other = bench.target.join("second");
  other.send([0x28, 0, ...be(9, 4), 0, 0, 1, 0], { room: 512 });
  await unit.tasks.settled(first.nexus);
  bench.read(1);
  let settled = false;
  const waiting = unit.tasks.settled(first.nexus).then(() => settled = true);
  await Promise.resolve();
  assertEquals(settled, false);
  bench.drain();
  await waiting;
});

Deno.test("errors of the storage are sense data", () => {
  const cases: [number, number, number, number][] = [
    [5, 3, 0x1100, 0x0c00],
    [28, 7, 0x2707, 0x2707],
    [14, 4, 0x4400, 0x4400],
  ];
  for (const [errno, key, reading, writing] of cases) {
    using bench = new Bench();
    bench.storage.errors.push(errno, errno);
    const read = bench.read(9);
    bench.drain();
    const sense = read.answer!.sense!;
    assertEquals([sense.key, sense.asc], [key, reading]);
    if (errno === 5) assertEquals(sense.information, 9);
    const write = bench.target.first.send(
      [0x2a, 0, ...be(3, 4), 0, 0, 1, 0],
      { out: new Uint8Array(512) },
    );
    bench.drain();
    assertEquals([write.answer!.sense!.key, write.answer!.sense!.asc], [
      key,
      writing,
    ]);
  }
});

Deno.test("FUA, and a write cache that is off, make writes durable", () => {
  using bench = new Bench();
  const { first, unit } = bench.target;
  const operations = (cdb: number[]) => {
    bench.storage.log.length = 0;
    const task = first.send(cdb, { out: new Uint8Array(512), room: 512 });
    bench.drain();
    assertEquals(task.answer?.status, 0);
    return bench.storage.log.map(({ operation }) => operation);
  };
  const READ = 0, WRITE = 1, FLUSH = 2;
  const write = (flags: number) => [0x2a, flags, 0, 0, 0, 0, 0, 0, 1, 0];
  assertEquals(operations(write(0)), [WRITE]);
  assertEquals(operations(write(8)), [WRITE, FLUSH]);
  assertEquals(operations([0x28, 8, 0, 0, 0, 0, 0, 0, 1, 0]), [FLUSH, READ]);
  assertEquals(operations([0x35]), [FLUSH]);
  unit.mode.writeCache = false;
  assertEquals(operations(write(0)), [WRITE, FLUSH]);
  assertEquals(operations([0x0a, 0, 0, 0, 1, 0]), [WRITE, FLUSH]);
});

Deno.test("MODE SELECT flushes before it switches the write cache off", () => {
  using bench = new Bench();
  const { unit, first } = bench.target;
  const { storage } = bench;
  const other = bench.target.join("second");
  other.clearAttentions();
  const WRITE = 1, FLUSH = 2;
  const pages = (...caches: number[]) =>
    Uint8Array.from([
      ...[0, 0, 0, 0],
      ...caches.flatMap((wce) => [8, 18, wce, ...new Array(17).fill(0)]),
    ]);
  const select = (out: Uint8Array) =>
    first.send([0x15, 0x10, 0, 0, out.length, 0], { out });
  const write = first.send([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], {
    out: new Uint8Array(512),
  });
  const off = select(pages(0));
  // It is alone, and all that comes later is written through.
  const later = first.send([0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0], {
    out: new Uint8Array(512),
  });
  const operations = () => storage.log.map(({ operation }) => operation);
  assertEquals(operations(), [WRITE]);
  storage.complete(0);
  assertEquals([write.ends, off.ends], [1, 0]);
  assertEquals(operations(), [WRITE, FLUSH]);
  assertEquals([unit.mode.writeCache, other.nexus.attentionCount], [true, 0]);
  storage.complete(0);
  assertEquals([off.ends, off.answer?.status], [1, 0]);
  assertEquals([unit.mode.writeCache, other.nexus.attentionCount], [false, 1]);
  bench.drain();
  assertEquals(later.ends, 1);
  assertEquals(operations(), [WRITE, FLUSH, WRITE, FLUSH]);
  // Nothing else flushes: off and on, on, and off when it is off.
  for (const list of [pages(0), pages(4), pages(4), pages(0, 4)]) {
    assertEquals(select(list).answer?.status, 0);
  }
  assertEquals(storage.log.length, 4);
  // What cannot be made durable leaves all as it was, and says so.
  storage.errors.push(EIO);
  const failing = select(pages(4, 0));
  bench.drain();
  assertEquals(failing.answer?.sense, { key: 3, asc: 0x0c00, information: 0 });
  assertEquals(unit.mode.writeCache, true);
  // One that is aborted meanwhile changes nothing either.
  const aborted = select(pages(0));
  unit.abortTaskSet(first.nexus, () => {});
  bench.drain();
  assertEquals(aborted.answer?.outcome, OUTCOME_ABORTED);
  assertEquals(unit.mode.writeCache, true);
});

Deno.test("a command with the ACA attribute is refused: there is no ACA", () => {
  using bench = new TargetBench();
  const run = (attribute: number) =>
    bench.run([0, 0, 0, 0, 0, 0], { attribute }).sense;
  assertEquals(run(TaskAttribute.ACA), { key: 5, asc: 0x4900 });
  assertEquals(run(TaskAttribute.HEAD_OF_QUEUE), null);
});
