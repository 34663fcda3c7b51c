import { assertEquals, assertThrows } from "@std/assert";
import { Arena } from "./arena.ts";
import { Epoll, EPOLLIN } from "./epoll.ts";
import { Errno, SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { openFdCount, type OwnedFd } from "./fd.ts";
import { DataFile } from "./file.ts";
import { IovecTable } from "./iovec.ts";
import { mapAnonymous, mapFile, mappingsOf } from "./mapping.ts";
import { createMemfd } from "./memfd.ts";
import { readTextFile } from "./proc.ts";
import { Reactor } from "./reactor.ts";
import { until } from "./testing/within.ts";
import { UnixListener, UnixSocket } from "./unix_socket.ts";

const TIMES = 1000;

/** Bytes of address space; neighbouring mappings merge, so lines do not tell. */
function mappedBytes(): number {
  return Number(readTextFile("/proc/self/statm").split(" ")[0]) * 4096;
}

/**
 * Runs `body` 1000 times and compares.
 *
 * @param bytes how much each round maps; 0 if that is too little to be seen
 */
function flat(bytes: number, body: () => void): void {
  for (let i = 0; i < 10; i++) body();
  const fds = openFdCount(), mapped = mappedBytes();
  for (let i = 0; i < TIMES; i++) body();
  assertEquals(openFdCount(), fds, "descriptors leaked");
  // The runtime maps memory too, but less than a leak of every second round.
  const grown = mappedBytes() - mapped;
  if (bytes > 0 && grown > TIMES * bytes / 2) {
    throw new Error(`${grown} bytes of mappings leaked`);
  }
}

function withPath(body: (path: string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    body(`${directory}/s`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("mappings end", () => {
  const size = 8 << 20;
  using memfd = createMemfd("leak-test", 2 * size);
  flat(size, () => mapAnonymous(size).unmap());
  flat(size, () => new Arena(size)[Symbol.dispose]());
  flat(size, () => new IovecTable(size / 1024 / 16, 1024)[Symbol.dispose]());
  flat(size, () => {
    using _mapping = mapFile(memfd.fd, { offset: 100, size });
  });
  flat(size, () => {
    assertThrows(() => mapFile(memfd.fd, { size: 3 * size }), SystemError);
  });
  assertEquals(mappingsOf("leak-test"), 0);
});

Deno.test("descriptors end", () => {
  flat(0, () => {
    using event = EventFd.create();
    using _copy = event.dup();
    using _memfd = createMemfd("leak-test", 4096);
  });
});

Deno.test("sockets end, with all that was sent through them", () => {
  using event = EventFd.create();
  const data = new Uint8Array(100), fds: OwnedFd[] = [];
  // Both sockets have a message of 36 KiB.
  flat(72 << 10, () => {
    const [left, right] = UnixSocket.pair();
    left.trySend(data, [event.fd, event.fd, event.fd]);
    right.tryReceive(data, fds);
    for (const fd of fds.splice(0)) fd.close();
    left.trySend(data, [event.fd, event.fd]);
    assertThrows(() => right.tryReceive(data, fds, 1), SystemError);
    left.trySend(data, [event.fd, event.fd]);
    left.close();
    right.close();
  });
});

Deno.test("listeners and connections end", () => {
  withPath((path) => {
    flat(0, () => {
      using listener = UnixListener.listen(path);
      using client = UnixSocket.connect(path);
      using server = listener.tryAccept() ?? undefined;
      client.trySend(new Uint8Array(1));
      assertEquals(server?.tryReceive(new Uint8Array(1), []), 1);
    });
  });
});

Deno.test("refusals leave nothing open", () => {
  withPath((path) => {
    using _listener = UnixListener.listen(path);
    using event = EventFd.create();
    flat(0, () => {
      assertThrows(() => UnixListener.listen(path), SystemError);
      assertThrows(() => UnixListener.listen(`${path}/x`), SystemError);
      assertThrows(() => UnixListener.listen("/proc/self/s"), SystemError);
      assertThrows(() => UnixSocket.connect(`${path}x`), SystemError);
      assertThrows(() => UnixSocket.adopt(event.fd), SystemError);
      assertThrows(() => UnixListener.adopt(event.fd), SystemError);
      assertThrows(() => DataFile.open(path), SystemError);
      assertThrows(() => DataFile.open("/"), SystemError);
      assertThrows(() => createMemfd("x", -1), SystemError);
      // The probe's connection waits to be accepted.
      _listener.tryAccept()?.close();
    });
  });
});

Deno.test("files end, with their locks", () => {
  withPath((path) => {
    DataFile.open(path, { create: true }).close();
    flat(0, () => {
      using file = DataFile.open(path);
      if (!file.tryLock("write", 0, 0)) throw new Error("still locked");
    });
  });
});

Deno.test("epoll instances end", () => {
  using event = EventFd.create();
  flat(0, () => {
    using epoll = new Epoll();
    epoll.add(event.fd, EPOLLIN, 1);
    epoll.wait(0);
  });
});

Deno.test("reactors end, also in the middle of a wait", async () => {
  using event = EventFd.create();
  const fds = openFdCount();
  let cancelled = 0;
  for (let i = 0; i < 100; i++) {
    const reactor = new Reactor();
    const waiting = reactor.readable(event.fd).catch((error) => {
      if (error.errno === Errno.ECANCELED) cancelled++;
    });
    reactor.close();
    await waiting;
  }
  assertEquals(cancelled, 100);
  await until("descriptors", () => openFdCount() === fds);
});
