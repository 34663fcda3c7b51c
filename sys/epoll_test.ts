import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { DataFile } from "./file.ts";
import {
  Epoll,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
} from "./epoll.ts";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { isCloexec, openFdCount } from "./fd.ts";
import { mapAnonymous } from "./mapping.ts";
import { currentThreadId } from "./process.ts";
import { interrupt } from "./testing/interrupt.ts";
import { nextMessage, within } from "./testing/within.ts";
import { UnixSocket } from "./unix_socket.ts";

Deno.test("events come with the token of their descriptor", () => {
  using epoll = new Epoll();
  assert(isCloexec(epoll.fd));
  using one = EventFd.create();
  using two = EventFd.create();
  epoll.add(one.fd, EPOLLIN, 0);
  epoll.add(two.fd, EPOLLIN, 0xffff_ffff);
  assertEquals(epoll.wait(0), 0);
  two.signal();
  assertEquals(epoll.wait(-1), 1);
  assertEquals(epoll.token(0), 0xffff_ffff);
  assertEquals(epoll.events(0), EPOLLIN);
  one.signal();
  assertEquals(epoll.wait(1000), 2);
  assertEquals(
    new Set([epoll.token(0), epoll.token(1)]),
    new Set([0, 0xffff_ffff]),
  );
});

Deno.test("descriptors can be changed and removed", () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  event.signal();
  epoll.add(event.fd, 0, 1);
  assertEquals(epoll.wait(0), 0);
  epoll.modify(event.fd, EPOLLIN | EPOLLOUT, 2);
  assertEquals(epoll.wait(0), 1);
  assertEquals(epoll.token(0), 2);
  assertEquals(epoll.events(0), EPOLLIN | EPOLLOUT);
  epoll.remove(event.fd);
  assertEquals(epoll.wait(0), 0);
});

Deno.test("edges and single shots are reported once", () => {
  using epoll = new Epoll();
  using edge = EventFd.create();
  using once = EventFd.create();
  epoll.add(edge.fd, EPOLLIN | EPOLLET, 1);
  epoll.add(once.fd, EPOLLIN | EPOLLONESHOT, 2);
  edge.signal();
  once.signal();
  assertEquals(epoll.wait(0), 2);
  assertEquals(epoll.wait(0), 0);
  edge.signal();
  once.signal();
  assertEquals(epoll.wait(0), 1);
  assertEquals(epoll.token(0), 1);
  epoll.modify(once.fd, EPOLLIN | EPOLLONESHOT, 3);
  assertEquals(epoll.wait(0), 1);
  assertEquals(epoll.token(0), 3);
});

Deno.test("a peer that is gone is reported unasked", () => {
  using epoll = new Epoll();
  const [left, right] = UnixSocket.pair();
  using socket = left;
  epoll.add(socket.fd, 0, 1);
  right.close();
  assertEquals(epoll.wait(0), 1);
  assertNotEquals(epoll.events(0) & EPOLLHUP, 0);
});

Deno.test("more ready descriptors than fit come in turns", () => {
  using epoll = new Epoll();
  using stack = new DisposableStack();
  const count = 600;
  for (let token = 0; token < count; token++) {
    const event = stack.use(EventFd.create());
    epoll.add(event.fd, EPOLLIN | EPOLLET, token);
    event.signal();
  }
  const tokens = new Set<number>();
  for (let n = epoll.wait(0); n > 0; n = epoll.wait(0)) {
    for (let i = 0; i < n; i++) tokens.add(epoll.token(i));
  }
  assertEquals(tokens.size, count);
});

Deno.test("misuse is a system error", () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  epoll.add(event.fd, EPOLLIN, 1);
  const kinds = (body: () => void): string =>
    assertThrows(body, SystemError).kind;
  assertEquals(kinds(() => epoll.add(event.fd, EPOLLIN, 1)), "EEXIST");
  assertEquals(kinds(() => epoll.remove(-1)), "EBADF");
  using other = EventFd.create();
  assertEquals(kinds(() => epoll.modify(other.fd, EPOLLIN, 1)), "ENOENT");
  using file = DataFile.open("/etc/passwd", { readOnly: true });
  assertEquals(kinds(() => epoll.add(file.fd, EPOLLIN, 1)), "EPERM");
  epoll.close();
  assertEquals(kinds(() => epoll.wait(0)), "EBADF");
  assertEquals(kinds(() => epoll.add(event.fd, EPOLLIN, 1)), "EBADF");
  assertEquals(kinds(() => epoll.fd), "EBADF");
});

Deno.test("an asynchronous wait leaves the thread free", async () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  epoll.add(event.fd, EPOLLIN, 4);
  const wait = epoll.waitAsync(-1);
  const error = await assertRejects(() => epoll.waitAsync(0), SystemError);
  assertEquals(error.kind, "EBUSY");
  event.signal();
  assertEquals(await within("signal", wait), 1);
  assertEquals(epoll.token(0), 4);
  assertEquals(epoll.events(0), EPOLLIN);
  event.drain();
  assertEquals(await within("time", epoll.waitAsync(1)), 0);
});

Deno.test("an asynchronous wait can be ended", async () => {
  using epoll = new Epoll();
  const wait = epoll.waitAsync(-1);
  epoll.interrupt();
  assertEquals(await within("interrupt", wait), 0);
  assertEquals(await within("no interrupt", epoll.waitAsync(1)), 0);
});

Deno.test("closing ends an asynchronous wait and then frees everything", async () => {
  const before = openFdCount();
  const epoll = new Epoll();
  const wait = epoll.waitAsync(-1);
  epoll.close();
  epoll.close();
  assert(epoll.closed);
  assertEquals(await within("close", wait), 0);
  assertEquals(openFdCount(), before);
});

Deno.test("a Worker blocks in a wait, also across signals, until it is woken", async () => {
  using event = EventFd.create();
  using mapping = mapAnonymous(4096);
  const memory = new Uint8Array(mapping.buffer);
  memory[0] = 41;
  const url = new URL("./testing/waiting_worker.ts", import.meta.url);
  const worker = new Worker(url, { type: "module" });
  const { address, size } = mapping;
  worker.postMessage({ fd: event.fd, address, size });
  const { thread } = await within("start", nextMessage(worker)) as {
    thread: number;
  };
  const done = nextMessage(worker);
  // The time to wait is the fourth argument: -1, not that of the runtime.
  const SYS_EPOLL_WAIT = "232";
  await interrupt(
    thread,
    ([number, , , , timeout]) =>
      number === SYS_EPOLL_WAIT && Number(timeout) > 2 ** 31,
  );
  event.signal();
  assertEquals(await within("wake", done), {
    events: 1,
    signals: 1,
    token: 5,
    length: 0,
  });
  assertEquals(memory[1], 42);
  assertNotEquals(thread, currentThreadId());
});
