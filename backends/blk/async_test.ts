import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import { STORAGE_DISCARD, STORAGE_FLUSH } from "../storage/storage.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import { BlkBench, header, pattern, ranges } from "./testing/bench.ts";
import { profileRuns, ringTest } from "../../virtqueue/testing/ring_profile.ts";

const SIMPLE = featureMask(VIRTIO_F_VERSION_1);

ringTest("BlkDevice answers in the order in which a storage completes", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage });
  storage.disk.set(pattern(2 ** 20, 1));
  const tokens = Array.from({ length: 8 }, (_, i) =>
    bench.offer([
      { readable: header(VIRTIO_BLK_T_IN, 8 * i) },
      { writable: 4096 },
      { writable: 1 },
    ]));
  bench.turn();
  assertEquals(storage.pending.length, 8);
  assertEquals(bench.reap().size, 0);
  assertEquals(bench.queues[0].inFlight, 8);
  for (const [left, index] of [[7, 3], [6, 6], [5, 0], [4, 2]]) {
    const { offset } = storage.pending[index];
    storage.complete(index);
    assertEquals(storage.pending.length, left);
    bench.turn();
    const answers = bench.reap();
    assertEquals([...answers.keys()], [tokens[offset / 4096]]);
    const [answer] = answers.values();
    assertEquals(answer.status, VIRTIO_BLK_S_OK);
    assertEquals(answer.length, 4097);
    assertEquals(answer.data, pattern(2 ** 20, 1).slice(offset, offset + 4096));
  }
  while (storage.pending.length > 0) storage.complete(0);
  bench.turn();
  assertEquals(bench.reap().size, 4);
  assertEquals(bench.queues[0].inFlight, 0);
});

ringTest("BlkDevice counts in poll() what it answered there", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage, features: SIMPLE });
  const read = () =>
    bench.offer([
      { readable: header(VIRTIO_BLK_T_IN, 0) },
      { writable: 513 },
    ]);
  storage.poll = () => {
    const count = storage.pending.length;
    for (let i = 0; i < count; i++) storage.complete(0);
    return count;
  };
  read();
  read();
  bench.offer([
    { readable: header(VIRTIO_BLK_T_OUT, 0) },
    { readable: new Uint8Array(512) },
    { writable: 1 },
  ]);
  bench.device.serve(bench.queues[0], 8);
  // The write goes on with a flush: an operation is done, but no request.
  assertEquals(bench.device.poll(), 2);
  assertEquals(bench.device.poll(), 1);
  assertEquals(bench.device.poll(), 0);
});

ringTest("BlkDevice works on ranges one after the other", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage });
  const discard = (...list: [number, number][]) =>
    bench.offer([
      { readable: header(VIRTIO_BLK_T_DISCARD, 0) },
      { readable: ranges(...list) },
      { writable: 1 },
    ]);
  const first = discard([0, 8], [16, 8], [32, 8]);
  const second = discard([100, 4], [0, 0], [200, 4]);
  const empty = discard([5, 0], [9, 0]);
  bench.turn();
  assertEquals([...bench.reap().keys()], [empty]);
  const offsets = () => storage.pending.map(({ offset }) => offset / 512);
  assertEquals(offsets(), [0, 100]);
  storage.complete(1);
  assertEquals(offsets(), [0, 200]);
  storage.complete(0);
  assertEquals(offsets(), [200, 16]);
  storage.complete(0);
  bench.turn();
  assertEquals([...bench.reap().keys()], [second]);
  storage.complete(0);
  storage.complete(0);
  bench.turn();
  assertEquals(bench.reap().get(first)?.status, VIRTIO_BLK_S_OK);
  assert(storage.log.every(({ operation }) => operation === STORAGE_DISCARD));
  assertEquals(bench.requests.bytesDiscarded, (24 + 8) * 512);
});

ringTest("BlkDevice stops at a range that fails", () => {
  const storage = new FakeStorage(2 ** 20);
  storage.immediate = true;
  using bench = new BlkBench({ storage, features: SIMPLE });
  for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
    storage.log.length = 0;
    storage.errors.push(0, 28);
    const answer = bench.request(type, ranges([0, 8], [8, 8], [16, 8]));
    assertEquals(answer.status, VIRTIO_BLK_S_IOERR);
    assertEquals(storage.log.length, 2);
  }
  assertEquals(bench.requests.errors, { ENOSPC: 2 });
  // Slots are clean afterwards.
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
});

ringTest("BlkDevice judges ranges again that changed meanwhile", () => {
  // What a driver writes over the second range while the first is worked on.
  const cases: [[number, number, number?], number][] = [
    [[2 ** 40, 8], VIRTIO_BLK_S_IOERR],
    [[16, 0xffff_ffff], VIRTIO_BLK_S_IOERR],
    [[16, 8, 4], VIRTIO_BLK_S_UNSUPP],
    [[24, 8], VIRTIO_BLK_S_OK],
  ];
  for (const [change, status] of cases) {
    const storage = new FakeStorage(2 ** 20);
    using bench = new BlkBench({ storage });
    const address = bench.memory.allocate(32);
    bench.memory.write(address, ranges([0, 8], [8, 8]));
    const token = bench.offer([
      { readable: header(VIRTIO_BLK_T_DISCARD, 0) },
      { address, length: 32, write: false },
      { writable: 1 },
    ]);
    bench.turn();
    bench.memory.write(address + 16, ranges(change));
    storage.complete(0);
    if (status === VIRTIO_BLK_S_OK) {
      assertEquals(storage.pending[0].offset, 24 * 512);
      storage.complete(0);
    }
    bench.turn();
    assertEquals(bench.reap().get(token)?.status, status);
    assertEquals(storage.log.length, status === VIRTIO_BLK_S_OK ? 2 : 1);
  }
});

ringTest("BlkDevice reads a header once", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage, features: SIMPLE });
  const address = bench.memory.allocate(16);
  bench.memory.write(address, header(VIRTIO_BLK_T_OUT, 8));
  const token = bench.offer([
    { address, length: 16, write: false },
    { readable: pattern(512, 4) },
    { writable: 1 },
  ]);
  bench.turn();
  // Another type, another sector, far beyond: too late.
  bench.memory.write(address, header(VIRTIO_BLK_T_IN, 2 ** 50));
  storage.complete(0);
  assertEquals(storage.pending[0].operation, STORAGE_FLUSH);
  storage.complete(0);
  bench.turn();
  assertEquals(bench.reap().get(token)?.status, VIRTIO_BLK_S_OK);
  assertEquals(storage.disk.slice(4096, 4608), pattern(512, 4));
});

ringTest("BlkDevice answers what was in flight when the disk shrank", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage });
  const discard = bench.offer([
    { readable: header(VIRTIO_BLK_T_DISCARD, 0) },
    { readable: ranges([0, 8], [2040, 8]) },
    { writable: 1 },
  ]);
  bench.turn();
  storage.capacity = 2 ** 19;
  assertEquals(bench.device.command("resize"), {
    capacity: 2 ** 19,
    previousCapacity: 2 ** 20,
  });
  storage.complete(0);
  bench.turn();
  assertEquals(bench.reap().get(discard)?.status, VIRTIO_BLK_S_IOERR);
  assertEquals(storage.log.length, 1);
  assertEquals(bench.requests.refused, { outOfRange: 1 });
});

ringTest("BlkDevice takes a short result for an error", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage });
  const complete = (result: number) => {
    const token = bench.offer([
      { readable: header(VIRTIO_BLK_T_IN, 0) },
      { writable: 1025 },
    ]);
    bench.turn();
    const [{ slot }] = storage.pending.splice(0, 1);
    storage.onComplete(slot, result);
    bench.turn();
    return bench.reap().get(token)!;
  };
  assertEquals(complete(512).status, VIRTIO_BLK_S_IOERR);
  assertEquals(complete(0).status, VIRTIO_BLK_S_IOERR);
  assertEquals(complete(1024).status, VIRTIO_BLK_S_OK);
  assertEquals(bench.requests.errors, { EIO: 2 });
});

ringTest("BlkDevice takes a completion of nothing for a bug", () => {
  const storage = new FakeStorage(2 ** 20);
  using bench = new BlkBench({ storage });
  assertThrows(() => storage.onComplete(0, 0), Error, "Slot 0");
  storage.immediate = true;
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
  const [{ slot }] = storage.log;
  assertThrows(() => storage.onComplete(slot, 512), Error, `Slot ${slot}`);
});

ringTest("BlkDevice answers every request once, whatever the order", () => {
  const request = fc.record({
    type: fc.constantFrom(
      VIRTIO_BLK_T_IN,
      VIRTIO_BLK_T_OUT,
      VIRTIO_BLK_T_FLUSH,
      VIRTIO_BLK_T_DISCARD,
      VIRTIO_BLK_T_WRITE_ZEROES,
      99,
    ),
    errno: fc.constantFrom(0, 0, 0, 5, 28),
    parts: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 40 }),
      fc.array(fc.nat(), { minLength: 1, maxLength: 64 }),
      fc.boolean(),
      (requests, order, durable) => {
        const storage = new FakeStorage(2 ** 20);
        storage.disk.set(pattern(2 ** 20, 1));
        using bench = new BlkBench({
          storage,
          features: durable ? SIMPLE : undefined,
        });
        const expected = pattern(2 ** 20, 1);
        const answers = new Map<number, number>();
        const tokens = requests.map(({ type, parts }, i) => {
          // Every request has sectors of its own.
          const sector = 32 * i;
          const readable = header(type, sector);
          if (type === VIRTIO_BLK_T_IN) {
            return bench.offer([{ readable }, { writable: parts * 512 + 1 }]);
          }
          const payload = type === VIRTIO_BLK_T_OUT
            ? pattern(parts * 512, i + 2)
            : type === VIRTIO_BLK_T_FLUSH
            ? new Uint8Array()
            : ranges(...Array.from(
              { length: parts },
              (_, part): [number, number] => [sector + 4 * part, 2],
            ));
          return bench.offer([
            { readable },
            { readable: payload },
            { writable: 1 },
          ]);
        });
        for (let step = 0; answers.size < requests.length; step++) {
          assert(step < 2000, "requests are lost");
          bench.turn();
          for (const [token, { status }] of bench.reap()) {
            assert(!answers.has(token), "a request was answered twice");
            answers.set(token, status);
          }
          if (storage.pending.length === 0) continue;
          const pick = order[step % order.length] % storage.pending.length;
          const { operation, offset } = storage.pending[pick];
          // An operation fails when its request is to.
          const index = Math.floor(offset / 512 / 32);
          const named = operation === STORAGE_FLUSH ? 0 : requests[index].errno;
          storage.errors.push(named);
          storage.complete(pick);
        }
        assertEquals(storage.pending.length, 0);
        requests.forEach(({ type, errno, parts }, i) => {
          const status = type === 99
            ? VIRTIO_BLK_S_UNSUPP
            : type === VIRTIO_BLK_T_FLUSH || errno === 0
            ? VIRTIO_BLK_S_OK
            : VIRTIO_BLK_S_IOERR;
          assertEquals(answers.get(tokens[i]), status);
          if (status !== VIRTIO_BLK_S_OK) return;
          const at = 32 * i * 512;
          if (type === VIRTIO_BLK_T_OUT) {
            expected.set(pattern(parts * 512, i + 2), at);
          } else if (
            type === VIRTIO_BLK_T_DISCARD || type === VIRTIO_BLK_T_WRITE_ZEROES
          ) {
            for (let part = 0; part < parts; part++) {
              expected.fill(0, at + part * 2048, at + part * 2048 + 1024);
            }
          }
        });
        assertEquals(storage.disk, expected);
        assertEquals(bench.queues[0].inFlight, 0);
        const done = requests.filter(({ type, errno }) =>
          errno === 0 &&
          (type === VIRTIO_BLK_T_OUT || type === VIRTIO_BLK_T_WRITE_ZEROES)
        );
        assertEquals(bench.requests.durableWrites, durable ? done.length : 0);
      },
    ),
    { numRuns: profileRuns(120) },
  );
});
