import { assert, assertEquals, assertThrows } from "@std/assert";
import { Errno, SystemError } from "../errno.ts";
import { EventFd } from "../eventfd.ts";
import { DataFile } from "../file.ts";
import { IovecTable } from "../iovec.ts";
import { skipRest } from "../../tests/support/skip.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import {
  IORING_CQE_F_MORE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_TIMEOUT,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_DRAIN,
  IOSQE_IO_LINK,
} from "./constants.ts";
import { IoUring } from "./io_uring.ts";
import { TestRing, uring } from "./testing/test_ring.ts";

const GIB = 2 ** 30;
const UNKNOWN_OPCODE = 0xff;

async function withFile(
  body: (file: DataFile) => void | Promise<void>,
): Promise<void> {
  using directory = TemporaryDirectory.make("ring");
  using file = DataFile.open(directory.file("disk.img"), { create: true });
  await body(file);
}

uring.test("what is written can be read, far into a file too", async () => {
  await withFile((file) => {
    using t = new TestRing();
    assertEquals(file.truncate(2 ** 42), 0);
    const places = [0, 4096, 4 * GIB - 4096, 4 * GIB, 1000 * GIB + 512];
    places.forEach((offset, i) => {
      const { address } = t.memory(4096, i + 1);
      t.add(IORING_OP_WRITE, i, file.fd, offset, address, 4096);
    });
    assertEquals(t.ring.pending, places.length);
    assertEquals(t.ring.submit(), places.length);
    assertEquals(t.ring.pending, 0);
    assertEquals(t.ring.submit(), 0);
    assertEquals(t.finish(5).sort(), places.map((_, i) => [i, 4096]));
    const bytes = new Uint8Array(4096);
    places.forEach((offset, i) => {
      assertEquals(file.read(bytes, offset), 4096);
      assert(bytes.every((byte) => byte === i + 1), `at ${offset}`);
    });
    t.done.length = 0;
    const read = places.map((offset, i) => {
      const { address, bytes } = t.memory(4096);
      t.add(IORING_OP_READ, i, file.fd, offset, address, 4096);
      return bytes;
    });
    t.finish(5);
    read.forEach((bytes, i) => assert(bytes.every((byte) => byte === i + 1)));
    assertEquals(t.ring.inFlight, 0);
  });
});

uring.test("scattered memory is gathered in one request, and back", async () => {
  await withFile((file) => {
    using t = new TestRing();
    using table = new IovecTable(2, 3);
    const lengths = [512, 4096, 1000];
    const pieces = [0, 1].map((slot) =>
      lengths.map((length, i) => {
        const { address, bytes } = t.memory(length, slot === 0 ? i + 1 : 0);
        const at = table.wordOffset(slot) + 4 * i;
        table.words[at] = address;
        table.words[at + 1] = address / 2 ** 32;
        table.words[at + 2] = length;
        return bytes;
      })
    );
    t.add(IORING_OP_WRITEV, 1, file.fd, 100, table.address(0), 3);
    assertEquals(t.finish(1), [[1, 5608]]);
    // The file ends in the middle of the last piece.
    assertEquals(file.truncate(5400), 0);
    t.add(IORING_OP_READV, 2, file.fd, 100, table.address(1), 3);
    assertEquals(t.finish(2)[1], [2, 5300]);
    assertEquals(pieces[1][0], pieces[0][0]);
    assertEquals(pieces[1][1], pieces[0][1]);
    assertEquals(pieces[1][2].lastIndexOf(3), 5300 - 512 - 4096 - 1);
  });
});

uring.test("files are flushed and their space is given back", async (test) => {
  await withFile(async (file) => {
    using t = new TestRing();
    const { address } = t.memory(65536, 7);
    t.add(IORING_OP_WRITE, 0, file.fd, 0, address, 65536);
    t.finish(1);
    const flags = IORING_FSYNC_DATASYNC;
    t.add(IORING_OP_FSYNC, 1, file.fd, 0, 0, 0, flags);
    t.add(IORING_OP_FSYNC, 2, file.fd, 0, 0, 0, 0x1000);
    assertEquals(t.finish(3).slice(1).sort(), [[1, 0], [2, -Errno.EINVAL]]);
    const before = file.blockBytes();
    // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    t.add(IORING_OP_FALLOCATE, 3, file.fd, 4096, 8192, 3);
    const [, result] = t.finish(4)[3];
    if (result === -Errno.EOPNOTSUPP) {
      const reason = `needs holes, ${file.filesystem()} has none`;
      return await skipRest(test, "a hole", reason);
    }
    assertEquals(result, 0);
    assert(file.blockBytes() < before);
    const bytes = new Uint8Array(16384);
    file.read(bytes, 0);
    assertEquals(bytes.indexOf(0), 4096);
    assertEquals(bytes.lastIndexOf(0), 4096 + 8192 - 1);
  });
});

uring.test("linked requests run in order, and end at the first failure", async () => {
  await withFile((file) => {
    using t = new TestRing();
    const { address: from } = t.memory(4096, 9);
    const { address: to, bytes } = t.memory(4096);
    const link = IOSQE_IO_LINK;
    t.addWith(link, IORING_OP_WRITE, 1, file.fd, 0, from, 4096);
    t.addWith(link, IORING_OP_FSYNC, 2, file.fd, 0, 0, 0, 1);
    t.add(IORING_OP_READ, 3, file.fd, 0, to, 4096);
    assertEquals(t.finish(3), [[1, 4096], [2, 0], [3, 4096]]);
    assert(bytes.every((byte) => byte === 9));
    t.addWith(link, IORING_OP_WRITE, 4, -1, 0, from, 4096);
    t.add(IORING_OP_FSYNC, 5, file.fd, 0, 0, 0, 1);
    t.add(IORING_OP_NOP, 6);
    assertEquals(t.finish(6).slice(3).sort(), [
      [4, -Errno.EBADF],
      [5, -Errno.ECANCELED],
      [6, 0],
    ]);
  });
});

uring.test("a request that was not submitted yet can be made to do nothing", () => {
  using t = new TestRing();
  using event = EventFd.create();
  event.signal();
  const { address } = t.memory(16);
  t.add(IORING_OP_NOP, 1);
  t.add(IORING_OP_READ, 0xffff_ffff, event.fd, -1, address, 8);
  t.add(IORING_OP_NOP, 3);
  assertEquals(t.ring.annul(t.source + 1, 3), false);
  assertEquals(t.ring.annul(t.source, 2), false);
  assertEquals(t.ring.annul(t.source, 0xffff_ffff), true);
  assertEquals(t.finish(3), [[1, 0], [0xffff_ffff, 0], [3, 0]]);
  assertEquals(event.drain(), 1);
  // What was submitted is not found any more.
  assertEquals(t.ring.annul(t.source, 1), false);
});

uring.test("a drained request waits for all before it", () => {
  using t = new TestRing();
  using event = EventFd.create({ nonblocking: false });
  const { address } = t.memory(8);
  t.add(IORING_OP_READ, 1, event.fd, -1, address, 8);
  t.addWith(IOSQE_IO_DRAIN, IORING_OP_NOP, 2);
  t.ring.wait(1);
  assertEquals(t.ring.reap(8), 0);
  event.signal();
  assertEquals(t.finish(2), [[1, 8], [2, 0]]);
});

uring.test("one wrong request does not harm the others", async () => {
  await withFile((file) => {
    for (const flags of [undefined, 0]) {
      using t = new TestRing({ flags });
      const { address } = t.memory(4096);
      t.add(IORING_OP_NOP, 1);
      t.add(UNKNOWN_OPCODE, 2);
      t.add(IORING_OP_READ, 3, file.fd, 0, 4096, 4096);
      t.add(IORING_OP_READ, 4, 1_000_000, 0, address, 4096);
      t.add(UNKNOWN_OPCODE, 5);
      t.add(UNKNOWN_OPCODE, 6);
      t.add(IORING_OP_NOP, 7);
      // Without SUBMIT_ALL the kernel takes them in several rounds.
      if (flags === 0) t.ring.wait(-1);
      else assertEquals(t.ring.submit(), 7);
      assertEquals(t.ring.pending, 0);
      const results = new Map(t.finish(7));
      assertEquals([1, 2, 4, 5, 6, 7].map((token) => results.get(token)), [
        0,
        -Errno.EINVAL,
        -Errno.EBADF,
        -Errno.EINVAL,
        -Errno.EINVAL,
        0,
      ]);
      // Nothing to read there: the file is empty.
      assertEquals(results.get(3), 0);
      assertEquals(t.ring.inFlight, 0);
    }
  });
});

uring.test("memory that is not there is an error of its request", async () => {
  await withFile((file) => {
    using t = new TestRing();
    file.write(new Uint8Array(4096), 0);
    t.add(IORING_OP_READ, 1, file.fd, 0, 4096, 4096);
    assertEquals(t.finish(1), [[1, -Errno.EFAULT]]);
  });
});

uring.test("a full ring submits by itself", () => {
  using t = new TestRing({ entries: 4, completions: 64 });
  assertEquals(t.ring.entries, 4);
  assertEquals(t.ring.completions, 64);
  for (let i = 0; i < 10; i++) t.add(IORING_OP_NOP, i);
  assertEquals(t.ring.pending, 2);
  assertEquals(t.ring.inFlight, 10);
  assertEquals(t.finish(10), Array.from({ length: 10 }, (_, i) => [i, 0]));
  assertEquals(t.ring.inFlight, 0);
});

uring.test("completions that do not fit into the ring are not lost", () => {
  using t = new TestRing({ entries: 4, completions: 4 });
  assertEquals(t.ring.completions, 4);
  const count = 1000;
  for (let i = 0; i < count; i++) t.add(IORING_OP_NOP, i);
  t.ring.submit();
  assert(t.ring.ready);
  // One ring full at a time.
  assertEquals(t.ring.reap(100), 4);
  assert(t.ring.ready);
  assertEquals(t.ring.reap(3), 3);
  assertEquals(t.ring.reap(100), 1);
  while (t.ring.ready) t.ring.reap(100);
  assertEquals(t.done, Array.from({ length: count }, (_, i) => [i, 0]));
  assertEquals(t.ring.inFlight, 0);
  assertEquals(t.ring.reap(1), 0);
});

uring.test("a wait finds completions that did not fit into the ring", () => {
  using t = new TestRing({ entries: 2, completions: 2 });
  for (let i = 0; i < 50; i++) t.add(IORING_OP_NOP, i);
  t.finish(50);
  assertEquals(t.done.map(([token]) => token), [...Array(50).keys()]);
});

uring.test("positions wrap around rings of all sizes", () => {
  for (const entries of [1, 2, 8]) {
    using t = new TestRing({ entries, completions: entries });
    let next = 0;
    for (let round = 0; round < 1000; round++) {
      const count = round % (entries + 1);
      for (let i = 0; i < count; i++) t.add(IORING_OP_NOP, next++);
      t.ring.submit();
      while (t.ring.ready) t.ring.reap(1 + round % 3);
    }
    assertEquals(t.done.length, next);
    assert(t.done.every(([token, result], i) => token === i && result === 0));
  }
});

uring.test("completions go to the handler of their source, with their token", () => {
  using ring = new IoUring();
  const seen: string[] = [];
  const sources = ["a", "b", "c"].map((name) =>
    ring.register((token) => seen.push(`${name}${token}`))
  );
  const [a, b, c] = sources;
  ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, b, 0);
  ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, c, 0xffff_ffff);
  ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, a, 0x8000_0000);
  ring.submit();
  assertEquals(ring.reap(2), 2);
  assertEquals(ring.reap(2), 1);
  assertEquals(seen, ["b0", "c4294967295", "a2147483648"]);
});

uring.test("a claimed entry takes offset and address in words", async () => {
  await withFile((file) => {
    using t = new TestRing();
    file.write(new Uint8Array([1, 2, 3]), 5 * GIB);
    const { address, bytes } = t.memory(3);
    const { ring, source } = t;
    const at = ring.claim(IORING_OP_READ, 0, file.fd, 3, 0, source, 6);
    ring.sqes[at + 2] = (5 * GIB) % 2 ** 32;
    ring.sqes[at + 3] = 1;
    ring.sqes[at + 4] = address;
    ring.sqes[at + 5] = address / 2 ** 32;
    assertEquals(t.finish(1), [[6, 3]]);
    assertEquals([...bytes], [1, 2, 3]);
    // What was there before is gone: a NOP needs nothing, so ask for a read of
    // nothing, from the start of the file, to nowhere.
    for (let i = 0; i < ring.entries; i++) {
      const at = ring.claim(IORING_OP_READ, 0, file.fd, 0, 0, source, i);
      assertEquals([...ring.sqes.subarray(at + 2, at + 6)], [0, 0, 0, 0]);
    }
    assertEquals(t.finish(1 + ring.entries).at(-1), [ring.entries - 1, 0]);
  });
});

uring.test("handlers may prepare, submit, reap and throw", () => {
  using ring = new IoUring({ entries: 2, completions: 2 });
  let left = 100, depth = 0, deepest = 0;
  const chain = ring.register(() => {
    if (left-- === 0) return;
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, chain, 0);
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, quiet, 0);
    ring.submit();
    deepest = Math.max(deepest, ++depth);
    if (depth < 10) ring.reap(1);
    depth--;
  });
  const quiet = ring.register(() => {});
  ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, chain, 0);
  ring.submit();
  while (ring.ready) ring.reap(4);
  assertEquals(left, -1);
  assert(deepest > 1);
  assertEquals(ring.inFlight, 0);
  const angry = ring.register((token) => {
    if (token === 1) throw new Error("angry");
  });
  for (const token of [0, 1]) {
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, angry, token);
  }
  ring.submit();
  assertThrows(() => ring.reap(8), Error, "angry");
  // It was taken all the same.
  assertEquals(ring.reap(8), 0);
  assertEquals(ring.inFlight, 0);
});

uring.test("a wait ends after its time, and not before something happens", () => {
  using t = new TestRing();
  for (const ms of [0, 1, 30]) {
    t.ring.wait(ms);
    assertEquals(t.ring.reap(1), 0);
  }
  // Also when it submits something that stays in flight.
  using event = EventFd.create({ nonblocking: false });
  const { address } = t.memory(8);
  for (const ms of [0, 1, 30]) {
    t.add(IORING_OP_READ, 1, event.fd, -1, address, 8);
    t.ring.wait(ms);
    assertEquals(t.ring.pending, 0);
    assertEquals(t.ring.reap(1), 0);
  }
  assertEquals(t.ring.inFlight, 3);
  for (const ms of [-1, 20_000]) {
    addTimeout(t, 30);
    t.ring.wait(ms);
    assertEquals(t.ring.reap(1), 1);
  }
  assertEquals(t.done, [[0, -Errno.ETIME], [0, -Errno.ETIME]]);
});

/** Prepares a request that ends after some milliseconds. */
function addTimeout(t: TestRing, ms: number): void {
  // struct __kernel_timespec { s64 tv_sec; s64 tv_nsec; }
  const { address, bytes } = t.memory(16);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(8, ms * 1_000_000, true);
  t.add(IORING_OP_TIMEOUT, 0, -1, 0, address, 1);
}

uring.test("a wait does not wait when a completion is there, but submits", () => {
  using t = new TestRing();
  t.add(IORING_OP_NOP, 1);
  t.ring.submit();
  t.add(IORING_OP_NOP, 2);
  t.ring.wait(-1);
  assertEquals(t.ring.pending, 0);
  assertEquals(t.ring.reap(8), 2);
  t.add(IORING_OP_NOP, 3);
  t.ring.wait(0);
  assertEquals(t.ring.reap(8), 1);
});

uring.test("requests that succeed silently are not counted", () => {
  using t = new TestRing();
  const skip = IOSQE_CQE_SKIP_SUCCESS;
  t.addWith(skip, IORING_OP_NOP, 1);
  assertEquals(t.ring.inFlight, 0);
  // One that fails is told of.
  t.addWith(skip, IORING_OP_READ, 2, -1);
  t.add(IORING_OP_NOP, 3);
  assertEquals(t.ring.inFlight, 1);
  assertEquals(t.finish(2), [[2, -Errno.EBADF], [3, 0]]);
  assertEquals(t.ring.inFlight, 0);
});

uring.test("reads and writes on worker threads of the kernel arrive", async () => {
  const setups = [
    undefined,
    0,
    IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
    IORING_SETUP_TASKRUN_FLAG,
  ];
  await withFile((file) => {
    file.write(new Uint8Array(65536).fill(5), 0);
    for (const flags of setups) {
      using t = new TestRing({ flags });
      const { address, bytes } = t.memory(65536);
      for (let i = 0; i < 16; i++) {
        const at = address + 4096 * i, offset = 4096 * i;
        t.addWith(IOSQE_ASYNC, IORING_OP_READ, i, file.fd, offset, at, 4096);
      }
      t.ring.submit();
      // Without a wait: `ready` alone must see them.
      const end = performance.now() + 20_000;
      while (t.done.length < 16 && performance.now() < end) {
        if (t.ring.ready) t.ring.reap(3);
      }
      assertEquals(t.done.length, 16, `flags ${flags}`);
      assert(bytes.every((byte) => byte === 5));
      assert(t.flags.every((flag) => (flag & IORING_CQE_F_MORE) === 0));
    }
  });
});

uring.test("a closed ring cannot be used", () => {
  const ring = new IoUring();
  const source = ring.register(() => {});
  ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, 0);
  ring.close();
  ring.close();
  assert(ring.closed);
  assert(!ring.ready);
  const nop = (): void =>
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, 0);
  const uses = [
    nop,
    () => ring.submit(),
    () => ring.wait(-1),
    () => ring.reap(1),
    () => ring.watch(0, source, 0),
    () => ring.signal(0),
    () => ring.cancel(source, 0),
    () => ring.registerFile(0),
    () => ring.unregisterFile(0),
  ];
  for (const use of uses) {
    assertEquals(assertThrows(use, SystemError).kind, "EBADF", `${use}`);
  }
});

uring.test("a handler may close the ring", () => {
  const ring = new IoUring();
  let calls = 0;
  const source = ring.register(() => {
    calls++;
    ring.close();
  });
  for (let i = 0; i < 3; i++) {
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, 0);
  }
  ring.submit();
  assertEquals(ring.reap(8), 1);
  assertEquals(calls, 1);
  assert(ring.closed);
});
