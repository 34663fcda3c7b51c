import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { isCloexec, isNonblocking, openFdCount, OwnedFd } from "./fd.ts";
import { cString, type Libc, libc } from "./libc.ts";
import { readable } from "./reactor.ts";
import { encodeAddress } from "./sockaddr.ts";
import { run } from "./testing/run.ts";
import { within } from "./testing/within.ts";
import { UnixListener, UnixSocket } from "./unix_socket.ts";

const SOCK_CLOEXEC = 0o2000000;

/** Runs `body` with the name of a socket in a directory of its own. */
async function withPath(
  body: (path: string, directory: string) => void | Promise<void>,
): Promise<void> {
  const directory = Deno.makeTempDirSync();
  try {
    await within("shared reactor", warmUp());
    const before = openFdCount();
    await body(`${directory}/s`, directory);
    assertEquals(openFdCount(), before, "descriptors leaked");
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** The reactor that all share keeps its descriptors. */
async function warmUp(): Promise<void> {
  using event = EventFd.create();
  event.signal();
  await readable(event.fd);
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function permissions(path: string): number {
  return (Deno.lstatSync(path).mode ?? 0) & 0o7777;
}

function kindOf(body: () => unknown): string {
  return assertThrows(body, SystemError).kind;
}

/** A socket file that nobody listens on, as a killed server leaves it. */
function makeStale(path: string): void {
  using socket = new OwnedFd(libc().socket(1, 1 | SOCK_CLOEXEC, 0));
  const address = encodeAddress(path);
  assertEquals(libc().bind(socket.fd, address, address.length), 0);
}

Deno.test("a listener accepts, and removes its file at the end", async () => {
  await withPath(async (path) => {
    using listener = UnixListener.listen(path);
    assertEquals(listener.path, path);
    assert(isCloexec(listener.fd));
    assert(isNonblocking(listener.fd));
    assertEquals(listener.tryAccept(), null);
    using client = UnixSocket.connect(path);
    await within("connection", readable(listener.fd));
    const accepted = listener.tryAccept();
    assert(accepted !== null);
    using server = accepted;
    assertEquals(listener.tryAccept(), null);
    assert(isCloexec(server.fd) && isCloexec(client.fd));
    client.trySend(Uint8Array.of(42));
    const buffer = new Uint8Array(4);
    assertEquals(server.tryReceive(buffer, []), 1);
    assertEquals(buffer[0], 42);
    assertEquals(server.peerCredentials().pid, Deno.pid);
    listener.close();
    listener.close();
    assert(listener.closed);
    assert(!exists(path));
    assertEquals(kindOf(() => UnixSocket.connect(path)), "ENOENT");
    assertEquals(server.trySend(Uint8Array.of(1)), 1);
  });
});

Deno.test("the mode is exact, whatever the umask", async () => {
  const old = Deno.umask();
  try {
    for (const umask of [0, 0o077, 0o777]) {
      Deno.umask(umask);
      for (const mode of [0o600, 0o660, 0o666, 0o640]) {
        await withPath((path, directory) => {
          Deno.chmodSync(directory, 0o700);
          using _listener = UnixListener.listen(path, { mode });
          assertEquals(permissions(path), mode);
        });
      }
    }
  } finally {
    Deno.umask(old);
  }
});

/** Runs `body` while a function of the C library is replaced. */
function withReplaced<K extends keyof Libc>(
  name: K,
  replacement: (original: Libc[K]) => unknown,
  body: () => void,
): void {
  const table = libc();
  const original = table[name];
  Object.defineProperty(table, name, { value: replacement(original) });
  try {
    body();
  } finally {
    Object.defineProperty(table, name, { value: original });
  }
}

Deno.test("until group and mode are set, the file is its owner's alone", async () => {
  const old = Deno.umask(0);
  try {
    await withPath((path) => {
      const seen: number[] = [];
      const look = (): void => {
        seen.push(permissions(path));
      };
      type Call = (...args: never[]) => number;
      const looking = (call: Call) => (...args: never[]): number => {
        look();
        const result = call(...args);
        look();
        return result;
      };
      const options = { mode: 0o666, group: Deno.gid() ?? 0 };
      withReplaced(
        "fchownat",
        looking,
        () =>
          withReplaced(
            "chmod",
            looking,
            () =>
              withReplaced("listen", looking, () => {
                UnixListener.listen(path, options).close();
              }),
          ),
      );
      assertEquals(seen, [0o600, 0o600, 0o600, 0o666, 0o666, 0o666]);
    });
  } finally {
    Deno.umask(old);
  }
});

Deno.test("a place where no socket can be made is named", () => {
  const error = assertThrows(
    () => UnixListener.listen("/proc/vhostd.sock"),
    SystemError,
  );
  assertEquals(
    error.message,
    'Cannot listen on "/proc/vhostd.sock": the socket cannot be made: No such file or directory (ENOENT)',
  );
});

Deno.test("the file can have a group", async () => {
  await withPath((path) => {
    const root = Deno.uid() === 0;
    if (!root) console.log("not tested as this user: a group of others");
    const group = root ? 1 : Deno.gid() ?? -1;
    using listener = UnixListener.listen(path, { mode: 0o660, group });
    assertEquals(Deno.lstatSync(path).gid, group);
    assertEquals(permissions(path), 0o660);
    listener.close();
    if (root) return;
    assertEquals(
      kindOf(() => UnixListener.listen(path, { group: 0 })),
      "EPERM",
    );
    assert(!exists(path));
  });
});

Deno.test("107 bytes of path are enough, 108 are too many", async () => {
  await withPath((_path, directory) => {
    const rest = 107 - directory.length - 1;
    const path = `${directory}/${"é".repeat(rest >> 1)}${"x".repeat(rest & 1)}`;
    assertEquals(new TextEncoder().encode(path).length, 107);
    using _listener = UnixListener.listen(path);
    UnixSocket.connect(path).close();
    const error = assertThrows(
      () => UnixListener.listen(`${path}x`),
      SystemError,
      "it has 108 bytes, at most 107 are possible",
    );
    assertEquals(error.kind, "ENAMETOOLONG");
    assertEquals(kindOf(() => UnixSocket.connect(`${path}x`)), "ENAMETOOLONG");
    assertEquals(kindOf(() => UnixListener.listen("")), "EINVAL");
    assertEquals(kindOf(() => UnixSocket.connect("a\0b")), "EINVAL");
  });
});

Deno.test("a stale file is replaced", async () => {
  await withPath((path) => {
    makeStale(path);
    assertEquals(kindOf(() => UnixSocket.connect(path)), "ECONNREFUSED");
    using _listener = UnixListener.listen(path);
    UnixSocket.connect(path).close();
  });
});

Deno.test("a path where somebody listens is refused, and goes on to work", async () => {
  await withPath((path) => {
    using listener = UnixListener.listen(path, { backlog: 0 });
    const refused = (): void => {
      const error = assertThrows(
        () => UnixListener.listen(path),
        SystemError,
        `Cannot listen on "${path}": another server listens there already`,
      );
      assertEquals(error.kind, "EADDRINUSE");
      assert(exists(path));
    };
    refused();
    listener.tryAccept()?.close();
    // A full queue of connections is a server too.
    using stack = new DisposableStack();
    const fill = (): void => {
      for (;;) stack.use(UnixSocket.connect(path));
    };
    assertEquals(kindOf(fill), "EAGAIN");
    refused();
    const accepted = listener.tryAccept();
    assert(accepted !== null);
    accepted.close();
  });
});

Deno.test("names of other things are refused and left alone", async () => {
  await withPath((path, directory) => {
    Deno.writeTextFileSync(path, "precious");
    const error = assertThrows(
      () => UnixListener.listen(path),
      SystemError,
      "the name is that of something else than a socket",
    );
    assertEquals(error.kind, "ENOTSOCK");
    assertEquals(Deno.readTextFileSync(path), "precious");
    Deno.removeSync(path);
    Deno.symlinkSync(`${directory}/elsewhere`, path);
    assertEquals(kindOf(() => UnixListener.listen(path)), "ENOTSOCK");
    assert(!exists(`${directory}/elsewhere`));
    Deno.removeSync(path);
    using datagram = new OwnedFd(libc().socket(1, 2 | SOCK_CLOEXEC, 0));
    const address = encodeAddress(path);
    assertEquals(libc().bind(datagram.fd, address, address.length), 0);
    assertEquals(kindOf(() => UnixListener.listen(path)), "EADDRINUSE");
    assertEquals(
      kindOf(() => UnixListener.listen(`${directory}/none/s`)),
      "ENOENT",
    );
    for (const name of [`${directory}/`, ".", ".."]) {
      assertEquals(kindOf(() => UnixListener.listen(name)), "EISDIR");
    }
    assertEquals(kindOf(() => UnixListener.listen(directory)), "ENOTSOCK");
  });
});

Deno.test("a failure after bind leaves no file behind", async () => {
  await withPath((path) => {
    withReplaced("listen", (listen) => () => listen(-1, 0), () => {
      assertEquals(kindOf(() => UnixListener.listen(path)), "EBADF");
    });
    assert(!exists(path));
  });
});

Deno.test("closing removes the listener's own file only", async () => {
  await withPath((path) => {
    const first = UnixListener.listen(path);
    Deno.removeSync(path);
    using _second = UnixListener.listen(path);
    first.close();
    assert(exists(path));
    UnixSocket.connect(path).close();
  });
  await withPath((path) => {
    const listener = UnixListener.listen(path);
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, "precious");
    listener.close();
    assertEquals(Deno.readTextFileSync(path), "precious");
  });
  await withPath((path) => {
    const listener = UnixListener.listen(path);
    Deno.removeSync(path);
    listener.close();
    assert(!exists(path));
  });
});

Deno.test("a relative name is removed where it was made", async () => {
  await withPath((path, directory) => {
    const cwd = Deno.cwd();
    try {
      Deno.chdir(directory);
      const listener = UnixListener.listen("s");
      assert(exists(path));
      UnixSocket.connect("s").close();
      Deno.chdir("/");
      listener.close();
      assert(!exists(path));
    } finally {
      Deno.chdir(cwd);
    }
  });
});

Deno.test("a directory that somebody keeps locked does not stop a server", async () => {
  await withPath((path, directory) => {
    const flags = 0o2000000;
    using lock = new OwnedFd(libc().open(cString(directory), flags, 0));
    const LOCK_EX = 2;
    assertEquals(libc().flock(lock.fd, LOCK_EX), 0);
    makeStale(path);
    using _listener = UnixListener.listen(path);
    UnixSocket.connect(path).close();
  });
});

Deno.test("of many who replace a stale file at once, one wins", async () => {
  const program = new URL("./testing/listening_race.ts", import.meta.url).href;
  const directory = Deno.makeTempDirSync();
  try {
    const { code, stdout, stderr } = await run(Deno.execPath(), [
      ...["run", "-A", "--no-check", "--no-lock", program],
      ...[`${directory}/s`, "4", "9"],
    ]);
    const line = "EADDRINUSE EADDRINUSE EADDRINUSE listening\n";
    assertEquals(stdout, line.repeat(9), stderr);
    assertEquals(code, 0);
    assert(!exists(`${directory}/s`));
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("a listening socket can be adopted; its file is left alone", async () => {
  await withPath((path) => {
    using socket = new OwnedFd(libc().socket(1, 1, 0));
    const address = encodeAddress(path);
    libc().bind(socket.fd, address, address.length);
    assertEquals(kindOf(() => UnixListener.adopt(socket.fd)), "EINVAL");
    assertEquals(libc().listen(socket.fd, 4), 0);
    {
      using listener = UnixListener.adopt(socket.release());
      assertEquals(listener.path, path);
      assert(isCloexec(listener.fd));
      assert(isNonblocking(listener.fd));
      assertEquals(listener.tryAccept(), null);
      UnixSocket.connect(path).close();
      const accepted = listener.tryAccept();
      assert(accepted !== null);
      accepted.close();
    }
    assert(exists(path));
    using event = EventFd.create();
    assertEquals(kindOf(() => UnixListener.adopt(event.fd)), "ENOTSOCK");
  });
});

Deno.test("a waiting reader sees the end of the stream", async () => {
  await withPath(async (path) => {
    using listener = UnixListener.listen(path);
    const client = UnixSocket.connect(path);
    const accepted = listener.tryAccept();
    assert(accepted !== null);
    using server = accepted;
    const waiting = readable(server.fd);
    client.close();
    await within("end", waiting);
    assertEquals(server.tryReceive(new Uint8Array(1), []), 0);
    await assertRejects(() => readable(-1), SystemError);
  });
});
