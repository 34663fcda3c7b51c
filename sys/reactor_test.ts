import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT } from "./epoll.ts";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { openFdCount } from "./fd.ts";
import { Reactor, readable, type Watch } from "./reactor.ts";
import { runSource } from "./testing/run.ts";
import { until, within } from "./testing/within.ts";
import { UnixSocket } from "./unix_socket.ts";

Deno.test("callbacks are called with the events of their descriptors", async () => {
  using reactor = new Reactor();
  using event = EventFd.create();
  const [left, right] = UnixSocket.pair();
  using socket = left, peer = right;
  const done = Promise.withResolvers<void>();
  const seen: string[] = [];
  const note = (what: string): void => {
    if (seen.push(what) === 3) done.resolve();
  };
  using _one = reactor.watch(event.fd, EPOLLIN, (events) => {
    note(`event ${events} ${event.drain()}`);
    peer.trySend(new Uint8Array(1));
  });
  using _two = reactor.watch(socket.fd, EPOLLIN, (events) => {
    if ((events & EPOLLHUP) !== 0) {
      _two.close();
      return note("hangup");
    }
    note(`socket ${events} ${socket.tryReceive(new Uint8Array(9), [])}`);
    peer.close();
  });
  assertEquals(reactor.size, 2);
  event.signal();
  await within("callbacks", done.promise);
  assertEquals(seen, ["event 1 1", "socket 1 1", "hangup"]);
});

Deno.test("a watch can wait for other events", async () => {
  using reactor = new Reactor();
  const [left, right] = UnixSocket.pair();
  using socket = left, _peer = right;
  const seen = Promise.withResolvers<number>();
  using watch = reactor.watch(socket.fd, EPOLLIN, (events) => {
    watch.modify(EPOLLIN);
    seen.resolve(events);
  });
  watch.modify(EPOLLOUT);
  assertEquals(await within("writable", seen.promise), EPOLLOUT);
});

Deno.test("a single shot is repeated after modify only", async () => {
  using reactor = new Reactor();
  using event = EventFd.create();
  using other = EventFd.create();
  let shots = 0;
  const turns: (() => void)[] = [];
  using watch = reactor.watch(event.fd, EPOLLIN | EPOLLONESHOT, () => {
    shots++;
  });
  using _other = reactor.watch(other.fd, EPOLLIN, () => {
    other.drain();
    turns.shift()?.();
  });
  const turn = (): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    turns.push(resolve);
    other.signal();
    return within("turn", promise);
  };
  event.signal();
  await turn();
  await turn();
  assertEquals(shots, 1);
  watch.modify(EPOLLIN | EPOLLONESHOT);
  await turn();
  await turn();
  assertEquals(shots, 2);
});

Deno.test("a closed watch is not called, even if its event was fetched", async () => {
  using reactor = new Reactor();
  using one = EventFd.create();
  using two = EventFd.create();
  one.signal();
  two.signal();
  const called: number[] = [];
  const first = Promise.withResolvers<void>();
  const watches: Watch[] = [];
  [one, two].forEach((event, i) =>
    watches.push(reactor.watch(event.fd, EPOLLIN, () => {
      called.push(i);
      for (const watch of watches) watch.close();
      first.resolve();
    }))
  );
  await within("callback", first.promise);
  // A further watch shows that the reactor has gone round once more.
  await within("another", reactor.readable(one.fd));
  assertEquals(called.length, 1);
  assert(watches.every((watch) => watch.closed));
  assertThrows(() => watches[0].modify(EPOLLIN), SystemError, "was closed");
});

Deno.test("a descriptor is watched once, and stays its owner's", () => {
  using reactor = new Reactor();
  using event = EventFd.create();
  const watch = reactor.watch(event.fd, EPOLLIN, () => {});
  const again = () => reactor.watch(event.fd, EPOLLIN, () => {});
  assertEquals(assertThrows(again, SystemError).kind, "EEXIST");
  assertEquals(reactor.size, 1);
  watch.close();
  watch.close();
  assertEquals(reactor.size, 0);
  again().close();
  assert(!event.closed);
});

Deno.test("an error of a callback is reported, and the others go on", async () => {
  using reactor = new Reactor();
  using bad = EventFd.create();
  using good = EventFd.create();
  const reported = Promise.withResolvers<unknown>();
  const listener = (event: ErrorEvent): void => {
    event.preventDefault();
    reported.resolve(event.error);
  };
  globalThis.addEventListener("error", listener);
  try {
    const error = new Error("from the callback");
    using _watch = reactor.watch(bad.fd, EPOLLIN, () => {
      bad.drain();
      throw error;
    });
    bad.signal();
    assertStrictEquals(await within("report", reported.promise), error);
    const next = reactor.readable(good.fd);
    good.signal();
    await within("next", next);
  } finally {
    globalThis.removeEventListener("error", listener);
  }
});

Deno.test("readable resolves, can be aborted, and frees its watch", async () => {
  using reactor = new Reactor();
  using event = EventFd.create();
  const controller = new AbortController();
  const { signal } = controller;
  const waiting = reactor.readable(event.fd, { signal });
  assertEquals(reactor.size, 1);
  controller.abort(new Error("enough"));
  await assertRejects(() => within("abort", waiting), Error, "enough");
  assertEquals(reactor.size, 0);
  await assertRejects(() => reactor.readable(event.fd, { signal }), Error);
  assertEquals(reactor.size, 0);
  event.signal();
  await within("readable", reactor.readable(event.fd));
  assertEquals(reactor.size, 0);
  await assertRejects(() => reactor.readable(-1), SystemError, "EBADF");
  await within("shared", readable(event.fd));
});

Deno.test("a closed reactor rejects and frees its descriptors", async () => {
  using event = EventFd.create();
  const before = openFdCount();
  const reactor = new Reactor();
  const watch = reactor.watch(event.fd, EPOLLOUT, () => {
    throw new Error("called after close");
  });
  using second = event.dup();
  const waiting = reactor.readable(second.fd);
  reactor.close();
  reactor.close();
  assert(watch.closed);
  watch.close();
  const error = await assertRejects(() => within("end", waiting), SystemError);
  assertEquals(error.kind, "ECANCELED");
  assertThrows(
    () => reactor.watch(event.fd, EPOLLIN, () => {}),
    SystemError,
    "the reactor is closed",
  );
  second.close();
  // The outstanding poll returns on another thread: its descriptors follow.
  await until("descriptors", () => openFdCount() === before);
});

Deno.test("a reactor without watches lets the process end", async () => {
  const { code, stdout, stderr } = await runSource(`
    import { EventFd } from "./eventfd.ts";
    import { Reactor } from "./reactor.ts";
    const reactor = new Reactor();
    const event = EventFd.create();
    const watch = reactor.watch(event.fd, 1, () => { throw "not signalled"; });
    setTimeout(() => { watch.close(); console.log("closed"); }, 1);
  `);
  assertEquals(stdout, "closed\n", stderr);
  assertEquals(code, 0);
});
