import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { fdKind, isCloexec, openFdCount, OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { mapFile } from "./mapping.ts";
import { createMemfd } from "./memfd.ts";
import { Reactor } from "./reactor.ts";
import { runSource } from "./testing/run.ts";
import { until, within } from "./testing/within.ts";
import { UnixListener, UnixSocket } from "./unix_socket.ts";

/** Runs `body` with two connected sockets, then checks for leaks. */
async function withPair(
  body: (left: UnixSocket, right: UnixSocket) => void | Promise<void>,
): Promise<void> {
  const before = openFdCount();
  {
    const [left, right] = UnixSocket.pair();
    using _left = left, _right = right;
    await body(left, right);
  }
  assertEquals(openFdCount(), before, "descriptors leaked");
}

function bytes(...values: number[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(values);
}

/** One receive that must not want descriptors to be closed. */
function receive(socket: UnixSocket, size: number): Uint8Array {
  const buffer = new Uint8Array(size);
  const fds: OwnedFd[] = [];
  const n = socket.tryReceive(buffer, fds);
  assertEquals(fds, []);
  assert(n >= 0, "nothing was there");
  return buffer.subarray(0, n);
}

/** Closes descriptors and returns their number. */
function closeAll(fds: OwnedFd[]): number {
  for (const fd of fds) fd.close();
  return fds.splice(0).length;
}

Deno.test("data goes both ways; nothing is -1, the end is 0", async () => {
  await withPair((left, right) => {
    assertEquals(left.tryReceive(new Uint8Array(1), []), -1);
    assertEquals(left.trySend(bytes(1, 2, 3)), 3);
    assertEquals(right.trySend(bytes(4)), 1);
    assertEquals(receive(right, 10), bytes(1, 2, 3));
    assertEquals(receive(left, 10), bytes(4));
    assertEquals(right.tryReceive(new Uint8Array(1), []), -1);
    left.trySend(bytes(5));
    left.close();
    left.close();
    assert(left.closed);
    assertEquals(receive(right, 10), bytes(5));
    assertEquals(right.tryReceive(new Uint8Array(1), []), 0);
    assertEquals(right.tryReceive(new Uint8Array(1), []), 0);
    assertThrows(() => left.trySend(bytes(1)), SystemError, "was closed");
  });
});

Deno.test("descriptors go both ways, close-on-exec, for the same open file", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    using memfd = createMemfd("passed", 4096);
    for (const [from, to] of [[left, right], [right, left]]) {
      assertEquals(from.trySend(bytes(7), [event.fd, memfd.fd]), 1);
      const fds: OwnedFd[] = [];
      assertEquals(to.tryReceive(new Uint8Array(8), fds), 1);
      assertEquals(fds.map((fd) => fdKind(fd.fd)), ["eventfd", "memfd"]);
      assert(fds.every((fd) => isCloexec(fd.fd)));
      assert(fds[0].fd !== event.fd);
      using received = new EventFd(fds[0].release());
      received.signal();
      assertEquals(event.drain(), 1);
      using mine = mapFile(memfd.fd, { size: 4096 });
      using theirs = mapFile(fds[1].fd, { size: 4096 });
      new Uint8Array(mine.buffer)[9] = 9;
      assertEquals(new Uint8Array(theirs.buffer)[9], 9);
      fds[1].close();
    }
  });
});

Deno.test("253 descriptors go with one message, 254 do not", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    const most = new Array<number>(253).fill(event.fd);
    assertEquals(left.trySend(bytes(1), most), 1);
    const fds: OwnedFd[] = [];
    assertEquals(right.tryReceive(new Uint8Array(1), fds), 1);
    assertEquals(closeAll(fds), 253);
    const error = assertThrows(
      () => left.trySend(bytes(1), [...most, event.fd]),
      SystemError,
      "Cannot send 254 file descriptors with 1 bytes: " +
        "at most 253 with at least 1 byte are possible",
    );
    assertEquals(error.kind, "EINVAL");
    assertEquals(right.tryReceive(new Uint8Array(1), fds), -1);
  });
});

Deno.test("more descriptors than allowed: all are closed, and it is said", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    const open = openFdCount();
    const fds: OwnedFd[] = [];
    // An odd number leaves padding in the control data, where one more fits.
    for (const allowed of [0, 1, 2, 3, 8]) {
      left.trySend(bytes(1), new Array(allowed + 1).fill(event.fd));
      const error = assertThrows(
        () => right.tryReceive(new Uint8Array(1), fds, allowed),
        SystemError,
        `more than ${allowed} file descriptors`,
      );
      assertEquals(error.kind, "EMSGSIZE");
      assertEquals(fds, []);
      assertEquals(openFdCount(), open);
    }
    for (const sent of [0, 1, 3]) {
      left.trySend(bytes(1), new Array(sent).fill(event.fd));
      assertEquals(right.tryReceive(new Uint8Array(1), fds, sent), 1);
      assertEquals(closeAll(fds), sent);
    }
    left.trySend(bytes(1), new Array(253).fill(event.fd));
    assertEquals(right.tryReceive(new Uint8Array(1), fds, 100_000), 1);
    assertEquals(closeAll(fds), 253);
  });
});

Deno.test("no room for descriptors: all are closed, and it is said", async () => {
  // In a process of its own: the limit holds for all threads.
  const { stdout, stderr } = await runSource(`
    import { libc } from "./libc.ts";
    import { EventFd } from "./eventfd.ts";
    import { openFdCount } from "./fd.ts";
    import { UnixSocket } from "./unix_socket.ts";
    const [left, right] = UnixSocket.pair();
    const event = EventFd.create();
    left.trySend(new Uint8Array(1), new Array(9).fill(event.fd));
    const open = openFdCount();
    const limit = new BigUint64Array(2);
    libc().getrlimit(7, limit);
    limit[0] = BigInt(event.fd + 4);
    libc().setrlimit(7, limit);
    const fds = [];
    let kind = "none";
    try {
      right.tryReceive(new Uint8Array(1), fds);
    } catch (error) {
      kind = error.kind;
    }
    limit[0] = limit[1];
    libc().setrlimit(7, limit);
    console.log(kind, fds.length, openFdCount() - open);
  `);
  assertEquals(stdout, "EMFILE 0 0\n", stderr);
});

Deno.test("nothing to send and nowhere to receive", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    assertEquals(left.trySend(bytes()), 0);
    assertThrows(
      () => left.trySend(bytes(), [event.fd]),
      SystemError,
      "Cannot send 1 file descriptors with 0 bytes",
    );
    assertThrows(
      () => right.tryReceive(bytes(), []),
      SystemError,
      "Cannot receive into 0 bytes",
    );
    assertEquals(right.tryReceive(new Uint8Array(1), []), -1);
  });
});

Deno.test("a message in parts: its descriptors come with the first", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    left.trySend(bytes(1, 2, 3, 4, 5), [event.fd, event.fd]);
    const fds: OwnedFd[] = [];
    const buffer = new Uint8Array(2);
    assertEquals(right.tryReceive(buffer, fds), 2);
    assertEquals(closeAll(fds), 2);
    assertEquals(buffer, bytes(1, 2));
    assertEquals(receive(right, 2), bytes(3, 4));
    assertEquals(receive(right, 2), bytes(5));
  });
});

Deno.test("descriptors of several messages never come together", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    using memfd = createMemfd("second", 1);
    left.trySend(bytes(1), [event.fd]);
    left.trySend(bytes(2, 2), [memfd.fd, memfd.fd]);
    left.trySend(bytes(3));
    const fds: OwnedFd[] = [];
    const buffer = new Uint8Array(100);
    assertEquals(right.tryReceive(buffer, fds), 1);
    assertEquals(fds.map((fd) => fdKind(fd.fd)), ["eventfd"]);
    assertEquals(closeAll(fds), 1);
    assertEquals(right.tryReceive(buffer, fds), 2);
    assertEquals(fds.map((fd) => fdKind(fd.fd)), ["memfd", "memfd"]);
    assertEquals(closeAll(fds), 2);
    assertEquals(receive(right, 100), bytes(3));
  });
});

Deno.test("data before a message with descriptors may come with it", async () => {
  await withPair((left, right) => {
    using event = EventFd.create();
    left.trySend(bytes(1, 1));
    left.trySend(bytes(2, 2, 2), [event.fd]);
    left.trySend(bytes(3));
    const fds: OwnedFd[] = [];
    const buffer = new Uint8Array(100);
    // A reader who asks for what belongs to one message gets no other's.
    assertEquals(right.tryReceive(buffer.subarray(0, 2), fds), 2);
    assertEquals(fds, []);
    assertEquals(right.tryReceive(buffer.subarray(0, 3), fds), 3);
    assertEquals(closeAll(fds), 1);
    assertEquals(receive(right, 100), bytes(3));
    left.trySend(bytes(1, 1));
    left.trySend(bytes(2, 2, 2), [event.fd]);
    left.trySend(bytes(3));
    assertEquals(right.tryReceive(buffer, fds), 5);
    assertEquals(closeAll(fds), 1);
    assertEquals(receive(right, 100), bytes(3));
  });
});

Deno.test("a look takes nothing", async () => {
  await withPair((left, right) => {
    const buffer = new Uint8Array(4);
    assertEquals(right.tryPeek(buffer), -1);
    left.trySend(bytes(1, 2, 3));
    left.trySend(bytes(4, 5, 6));
    for (let i = 0; i < 2; i++) {
      assertEquals(right.tryPeek(buffer), 4);
      assertEquals(buffer, bytes(1, 2, 3, 4));
    }
    assertEquals(receive(right, 3), bytes(1, 2, 3));
    assertEquals(right.tryPeek(buffer), 3);
    assertEquals(receive(right, 10), bytes(4, 5, 6));
    assertEquals(right.tryPeek(buffer), -1);
    left.close();
    assertEquals(right.tryPeek(buffer), 0);
  });
});

Deno.test("a look leaves descriptors with what they came with", async () => {
  await withPair((left, right) => {
    using memfd = createMemfd("seen", 1);
    const buffer = new Uint8Array(10), fds: OwnedFd[] = [];
    left.trySend(bytes(1));
    left.trySend(bytes(2), [memfd.fd]);
    const before = openFdCount();
    assertEquals(right.tryPeek(buffer), 0);
    assertEquals(openFdCount(), before);
    assertEquals(receive(right, 1), bytes(1));
    assertEquals(right.tryPeek(buffer), 0);
    assertEquals(right.tryReceive(buffer, fds), 1);
    assertEquals(closeAll(fds), 1);
  });
});

Deno.test("descriptors that nobody fetched go with the socket", async () => {
  await withPair((left, right) => {
    using memfd = createMemfd("unfetched", 1);
    left.trySend(bytes(1), [memfd.fd, memfd.fd]);
    right.close();
  });
});

Deno.test("a full socket would block, and nothing is lost", async () => {
  await withPair(async (left, right) => {
    const total = 1_000_000;
    const data = Uint8Array.from({ length: total }, (_, i) => i % 239);
    const copy = new Uint8Array(total);
    let sent = 0, received = 0, blocked = 0, longest = 0;
    using reactor = new Reactor();
    while (received < total) {
      const n = sent < total ? left.trySend(data.subarray(sent)) : -1;
      if (n >= 0) {
        sent += n;
        longest = Math.max(longest, n);
        continue;
      }
      if (sent < total) blocked++;
      await within("data", reactor.readable(right.fd));
      const part = copy.subarray(received, received + 50_000);
      received += right.tryReceive(part, []);
    }
    assertEquals(copy, data);
    assert(blocked > 0);
    assert(longest < total);
    // The reactor's descriptors go when its last wait has ended.
    const open = openFdCount();
    reactor.close();
    await until("descriptors", () => openFdCount() === open - 2);
  });
});

Deno.test("sending to a peer that is gone is an error, no signal", async () => {
  await withPair((left, right) => {
    left.trySend(bytes(1));
    right.close();
    const error = assertThrows(() => left.trySend(bytes(1)), SystemError);
    assertEquals(error.kind, "EPIPE");
    const reset = assertThrows(
      () => left.tryReceive(new Uint8Array(1), []),
      SystemError,
    );
    assertEquals(reset.kind, "ECONNRESET");
    assertEquals(left.tryReceive(new Uint8Array(1), []), 0);
  });
});

Deno.test("a descriptor that is not open cannot be sent", async () => {
  await withPair((left, right) => {
    const error = assertThrows(
      () => left.trySend(bytes(1), [1_000_000]),
      SystemError,
    );
    assertEquals(error.kind, "EBADF");
    assertEquals(right.tryReceive(new Uint8Array(1), []), -1);
  });
});

Deno.test("the peer has a name", async () => {
  await withPair((left) => {
    assertEquals(left.peerCredentials(), {
      pid: Deno.pid,
      uid: Deno.uid() ?? -1,
      gid: Deno.gid() ?? -1,
    });
  });
});

Deno.test("sockets can be adopted, other descriptors cannot", async () => {
  await withPair((left, right) => {
    const fd = left.fd;
    const copy = libc().fcntl(fd, 0, 3);
    assert(!isCloexec(copy));
    using adopted = UnixSocket.adopt(copy);
    assert(isCloexec(copy));
    adopted.trySend(bytes(1));
    assertEquals(receive(right, 10), bytes(1));
    // One whose other end is gone was connected.
    right.close();
    UnixSocket.adopt(libc().fcntl(fd, 0, 3)).close();
  });
  using event = EventFd.create();
  const kind = (fd: number): string =>
    assertThrows(() => UnixSocket.adopt(fd), SystemError).kind;
  assertEquals(kind(event.fd), "ENOTSOCK");
  assertEquals(kind(-1), "EBADF");
  const SOCK_CLOEXEC = 0o2000000;
  using datagram = new OwnedFd(libc().socket(1, 2 | SOCK_CLOEXEC, 0));
  assertEquals(kind(datagram.fd), "EPROTOTYPE");
  using inet = new OwnedFd(libc().socket(2, 1 | SOCK_CLOEXEC, 0));
  assertEquals(kind(inet.fd), "EPROTOTYPE");
  assertEquals(fdKind(inet.fd), "socket");
  using idle = new OwnedFd(libc().socket(1, 1 | SOCK_CLOEXEC, 0));
  assertEquals(kind(idle.fd), "ENOTCONN");
  const directory = Deno.makeTempDirSync();
  try {
    using listener = UnixListener.listen(`${directory}/s`);
    assertEquals(kind(listener.fd), "EINVAL");
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
