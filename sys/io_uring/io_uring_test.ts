import { assert, assertEquals, assertThrows } from "@std/assert";
import { waitUntil } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { Epoll, EPOLLIN } from "../epoll.ts";
import { Errno, SystemError } from "../errno.ts";
import { EventFd } from "../eventfd.ts";
import { openFdCount } from "../fd.ts";
import { DataFile } from "../file.ts";
import { mappingsOf } from "../mapping.ts";
import { interrupt } from "../testing/interrupt.ts";
import { nextMessage, within } from "../testing/within.ts";
import {
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_SETUP_CQSIZE,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_FIXED_FILE,
} from "./constants.ts";
import { IoUring } from "./io_uring.ts";
import { limitWorkers } from "./register.ts";
import { TestRing, uring } from "./testing/test_ring.ts";

const POLLIN = 1;

Deno.test("sizes that make no sense are refused", () => {
  for (const entries of [0, -1, 1.5, NaN, 2 ** 21]) {
    assertThrows(() => new IoUring({ entries }), RangeError, "from 1 to");
  }
  const message = "Cannot set up an io_uring: completions is 0, not from 1";
  assertThrows(() => new IoUring({ completions: 0 }), RangeError, message);
});

uring.test("sizes are rounded up, and four completions fit for each submission", () => {
  using ring = new IoUring({ entries: 100 });
  assertEquals(ring.entries, 128);
  assertEquals(ring.completions, 512);
  using other = new IoUring({ entries: 8, completions: 2 });
  assertEquals(other.completions, 8);
  assert((other.flags & IORING_SETUP_CQSIZE) !== 0);
});

uring.test("signals that block take four threads of the kernel at most", () => {
  class Limited extends IoUring {
    limits = limitWorkers(this.fd, 0, 0);
  }
  using ring = new Limited();
  const [files, others] = ring.limits;
  assert(files > 0, "requests to files are not limited by this");
  assertEquals(others, 4);
});

uring.test("each write to a watched eventfd is an event, and nobody reads it", () => {
  using t = new TestRing();
  using event = EventFd.create();
  t.ring.watch(event.fd, t.source, 42);
  t.ring.wait(1);
  assertEquals(t.ring.reap(8), 0);
  for (let i = 1; i <= 1000; i++) {
    event.signal();
    t.ring.wait(20_000);
    assertEquals(t.ring.reap(8), 1);
  }
  assertEquals(t.done.length, 1000);
  assert(t.done.every(([token, result]) => token === 42 && result === POLLIN));
  assertEquals(event.drain(), 1000);
  // Being read is no event.
  t.ring.wait(1);
  assertEquals(t.ring.reap(8), 0);
});

uring.test("writes that come together are one event at least, and the last one is seen", () => {
  using t = new TestRing();
  using event = EventFd.create();
  t.ring.watch(event.fd, t.source, 1);
  t.ring.submit();
  for (let round = 0; round < 100; round++) {
    const before = t.done.length;
    for (let i = 0; i < 5; i++) event.signal();
    t.ring.wait(20_000);
    while (t.ring.reap(8) > 0);
    const events = t.done.length - before;
    assert(events >= 1 && events <= 5, `${events} events`);
  }
});

uring.test("an eventfd that is readable already is an event at once", () => {
  using t = new TestRing();
  using event = EventFd.create();
  event.signal();
  t.ring.watch(event.fd, t.source, 3);
  assertEquals(t.finish(1), [[3, POLLIN]]);
});

uring.test("a watch goes on when its events did not fit into the ring", () => {
  using t = new TestRing({ entries: 2, completions: 2 });
  using event = EventFd.create();
  t.ring.watch(event.fd, t.source, 0);
  t.ring.submit();
  for (let round = 0; round < 20; round++) {
    const before = t.done.filter(([token]) => token === 0).length;
    for (let i = 0; i < 10; i++) {
      t.add(IORING_OP_NOP, 1);
      event.signal();
    }
    t.ring.submit();
    while (t.ring.ready) t.ring.reap(8);
    const after = t.done.filter(([token]) => token === 0).length;
    assert(after > before, `round ${round}`);
    // Whatever happened to the poll: it is there.
    event.signal();
    t.ring.wait(20_000);
    t.ring.reap(8);
    assert(t.done.filter(([token]) => token === 0).length > after);
  }
  assertEquals(t.done.length - t.done.filter(([i]) => i === 0).length, 200);
});

uring.test("a watch that ended says nothing more, whatever was under way", () => {
  using t = new TestRing();
  using event = EventFd.create();
  const first = t.ring.watch(event.fd, t.source, 1);
  const second = t.ring.watch(event.fd, t.source, 2);
  t.ring.submit();
  event.signal();
  t.ring.wait(20_000);
  // Its event is in the ring already.
  t.ring.unwatch(first);
  t.ring.unwatch(first);
  while (t.ring.ready) t.ring.reap(8);
  assertEquals(t.done, [[2, POLLIN]]);
  // Its number is given again only when the kernel has let go.
  t.settle(1);
  const third = t.ring.watch(event.fd, t.source, 3);
  assertEquals(third, first);
  assertEquals(t.finish(2)[1], [3, POLLIN]);
  t.ring.unwatch(third);
  t.ring.unwatch(second);
  // Also one that the kernel has not seen yet.
  t.ring.unwatch(t.ring.watch(event.fd, t.source, 4));
  t.ring.submit();
  event.signal();
  t.settle();
  assertEquals(t.done.length, 2);
});

uring.test("a watch outlives its descriptor, until it is ended", () => {
  using t = new TestRing();
  using event = EventFd.create();
  const copy = event.dup();
  const watch = t.ring.watch(copy.fd, t.source, 5);
  t.ring.submit();
  copy.close();
  t.ring.wait(1);
  assertEquals(t.ring.reap(8), 0);
  event.signal();
  assertEquals(t.finish(1), [[5, POLLIN]]);
  t.ring.unwatch(watch);
  t.settle();
  event.signal();
  t.ring.wait(1);
  assertEquals(t.ring.reap(8), 0);
  assertEquals(t.ring.inFlight, 0);
});

uring.test("a watch of what cannot be watched ends with an error", () => {
  using t = new TestRing();
  const wrong = t.ring.watch(1_000_000, t.source, 6);
  assertEquals(t.finish(1), [[6, -Errno.EBADF]]);
  assertEquals(t.ring.inFlight, 0);
  assertEquals(t.ring.pending, 0);
  // Whoever ends it late does not end the one that came after it.
  using event = EventFd.create();
  const right = t.ring.watch(event.fd, t.source, 7);
  t.ring.unwatch(wrong);
  event.signal();
  assertEquals(t.finish(2)[1], [7, 1]);
  t.ring.unwatch(right);
  t.settle();
});

uring.test("a signal goes out with the next submission, and leaves no trace", () => {
  using t = new TestRing();
  using event = EventFd.create();
  for (let i = 0; i < 3; i++) t.ring.signal(event.fd);
  assertEquals(event.drain(), 0);
  t.ring.submit();
  assertEquals(event.drain(), 3);
  assertEquals(t.ring.inFlight, 0);
  assert(!t.ring.ready);
  // One that blocks needs a worker thread of the kernel.
  using blocking = EventFd.create({ nonblocking: false });
  using epoll = new Epoll();
  epoll.add(blocking.fd, EPOLLIN, 0);
  t.ring.signal(blocking.fd);
  t.ring.submit();
  assertEquals(epoll.wait(20_000), 1);
  assertEquals(blocking.drain(), 1);
});

uring.test("signals that cannot be given are counted", () => {
  using t = new TestRing();
  using event = EventFd.create();
  t.ring.signal(1_000_000);
  t.ring.submit();
  while (t.ring.ready) t.ring.reap(8);
  assertEquals(t.ring.failedSignals, 1);
  assertEquals(t.ring.inFlight, 0);
  assertEquals(t.done, []);
  t.ring.signal(event.fd);
  t.ring.submit();
  assertEquals(event.drain(), 1);
});

uring.test("a request is cancelled; one that is gone is not", () => {
  using t = new TestRing();
  using event = EventFd.create({ nonblocking: false });
  const { address } = t.memory(16);
  t.add(IORING_OP_READ, 0xffff_ffff, event.fd, -1, address, 8);
  t.add(IORING_OP_READ, 2, event.fd, -1, address + 8, 8);
  t.ring.cancel(t.source, 0xffff_ffff);
  t.ring.cancel(t.source, 3);
  t.ring.cancel(t.source + 1, 2);
  assertEquals(t.finish(1), [[0xffff_ffff, -Errno.ECANCELED]]);
  event.signal();
  assertEquals(t.finish(2)[1], [2, 8]);
  t.settle();
  assertEquals(t.done.length, 2);
});

uring.test("registered files are named by index", () => {
  using directory = TemporaryDirectory.make("ring");
  using t = new TestRing({ files: 2 });
  const [one, two] = ["one", "two"].map((name) => {
    const file = DataFile.open(directory.file(name), { create: true });
    file.write(new TextEncoder().encode(name), 0);
    return file;
  });
  assertThrows(() => t.ring.unregisterFile(0), RangeError, "file 0");
  const first = t.ring.registerFile(one.fd);
  const second = t.ring.registerFile(two.fd);
  assertEquals([first, second], [0, 1]);
  assertEquals(t.ring.registerFile(one.fd), -1);
  // The ring keeps them open.
  one.close();
  two.close();
  const { address, bytes } = t.memory(3);
  const read = (token: number, index: number): void =>
    t.addWith(IOSQE_FIXED_FILE, IORING_OP_READ, token, index, 0, address, 3);
  read(1, second);
  assertEquals(t.finish(1), [[1, 3]]);
  assertEquals(new TextDecoder().decode(bytes), "two");
  t.ring.unregisterFile(second);
  assertThrows(() => t.ring.unregisterFile(second), RangeError);
  assertThrows(() => t.ring.unregisterFile(2), RangeError);
  read(2, second);
  read(3, 7);
  assertEquals(t.finish(3).slice(1), [[2, -Errno.EBADF], [3, -Errno.EBADF]]);
  using event = EventFd.create();
  assertEquals(t.ring.registerFile(event.fd), second);
  t.ring.unregisterFile(second);
  for (const fd of [-1, 1_000_000]) {
    const error = assertThrows(() => t.ring.registerFile(fd), SystemError);
    assertEquals(error.kind, "EBADF");
  }
  assertEquals(t.ring.registerFile(event.fd), second);
});

uring.test("a closed ring has let go of its files, also of their locks", () => {
  using directory = TemporaryDirectory.make("ring");
  const path = directory.file("disk.img");
  DataFile.open(path, { create: true }).close();
  for (let i = 0; i < 20; i++) {
    using t = new TestRing();
    const file = DataFile.open(path);
    assert(file.tryLock("write", 0, 0), `round ${i}`);
    const index = t.ring.registerFile(file.fd);
    const { address } = t.memory(8);
    t.addWith(
      IOSQE_FIXED_FILE | IOSQE_ASYNC,
      IORING_OP_READ,
      0,
      index,
      0,
      address,
      8,
    );
    t.ring.submit();
    file.close();
  }
});

uring.test("closing ends requests in flight before their memory goes", () => {
  using event = EventFd.create({ nonblocking: false });
  const t = new TestRing();
  const { address, bytes } = t.memory(4096);
  t.ring.watch(event.fd, t.source, 1);
  for (let i = 0; i < 8; i++) {
    const flags = i % 2 === 0 ? 0 : IOSQE_ASYNC;
    t.addWith(flags, IORING_OP_READ, i, event.fd, -1, address + 8 * i, 8);
  }
  t.ring.submit();
  t.add(IORING_OP_NOP, 9);
  t.addWith(IOSQE_CQE_SKIP_SUCCESS, IORING_OP_NOP, 9);
  assertEquals(t.ring.inFlight, 10);
  t.ring.close();
  assertEquals(t.ring.inFlight, 0);
  // Had one of the reads been left, it would take this.
  event.signal();
  assertEquals(event.drain(), 1);
  assert(bytes.every((byte) => byte === 0));
  assertEquals(t.done, []);
  t[Symbol.dispose]();
});

uring.test("rings leave nothing open or mapped", async () => {
  using event = EventFd.create({ nonblocking: false });
  // Threads of other tests may be ending.
  await waitUntil(() => mappingsOf("io_uring") === 0, {
    what: "rings of others to end",
  });
  const before = openFdCount();
  await assertNoLeaks(() => {
    for (let i = 0; i < 50; i++) {
      using t = new TestRing({ entries: 8 });
      t.ring.watch(event.fd, t.source, 0);
      t.ring.registerFile(event.fd);
      const { address } = t.memory(8);
      t.add(IORING_OP_READ, 1, event.fd, -1, address, 8);
      t.ring.submit();
    }
  });
  assertEquals(openFdCount(), before);
  assertEquals(mappingsOf("io_uring"), 0);
});

uring.test("one thread has many rings", () => {
  using stack = new DisposableStack();
  // More than a thread can name by index.
  for (let i = 0; i < 20; i++) {
    const t = stack.use(new TestRing({ entries: 4 }));
    t.add(IORING_OP_NOP, i);
    assertEquals(t.finish(1), [[i, 0]]);
    t.ring.wait(0);
  }
});

uring.test("a Worker sleeps in a wait, also across signals, until it is woken", async () => {
  using kick = EventFd.create();
  using call = EventFd.create();
  const url = new URL("./testing/ring_worker.ts", import.meta.url);
  const worker = new Worker(url, { type: "module" });
  worker.postMessage({ kick: kick.fd, call: call.fd, rounds: 1 });
  const started = await within("start", nextMessage(worker));
  const { thread } = started as { thread: number };
  const done = nextMessage(worker);
  const SYS_IO_URING_ENTER = "426";
  await interrupt(thread, ([number]) => number === SYS_IO_URING_ENTER);
  kick.signal();
  assertEquals(await within("wake", done), { events: 1, failed: 0 });
  assertEquals(call.drain(), 1);
  assertEquals(kick.drain(), 1);
});

uring.test("no wake-up is lost between two threads", async () => {
  const rounds = 20_000;
  for (const flags of [undefined, 0]) {
    using kick = EventFd.create();
    using call = EventFd.create();
    using epoll = new Epoll();
    epoll.add(call.fd, EPOLLIN, 0);
    const url = new URL("./testing/ring_worker.ts", import.meta.url);
    const worker = new Worker(url, { type: "module" });
    worker.postMessage({ kick: kick.fd, call: call.fd, rounds, flags });
    await within("start", nextMessage(worker));
    const done = nextMessage(worker);
    for (let i = 0; i < rounds; i++) {
      kick.signal();
      assertEquals(epoll.wait(20_000), 1, `no answer in round ${i}`);
      assertEquals(call.drain(), 1);
    }
    assertEquals(await within("end", done), { events: rounds, failed: 0 });
    assertEquals(kick.drain(), rounds);
  }
});

uring.test("rings are supported where one was made", () => {
  assert(IoUring.supported());
  assertEquals(IoUring.refusal(), null);
});
