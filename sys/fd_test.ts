import { assert, assertEquals, assertThrows } from "@std/assert";
import { Errno, errno, SystemError } from "./errno.ts";
import { Epoll } from "./epoll.ts";
import { EventFd } from "./eventfd.ts";
import {
  closeFd,
  dupFd,
  fdKind,
  fdName,
  isCloexec,
  isEventFd,
  isNonblocking,
  openFdCount,
  OwnedFd,
  readFd,
  setCloexec,
  setNonblocking,
  writeFd,
} from "./fd.ts";
import { cString, libc } from "./libc.ts";
import { createMemfd } from "./memfd.ts";
import { createPipe } from "./spawn.ts";
import { UnixSocket } from "./unix_socket.ts";

const O_CLOEXEC = 0o2000000;

function openNull(): number {
  return libc().open(cString("/dev/null"), O_CLOEXEC, 0);
}

function isOpen(fd: number): boolean {
  const result = libc().fcntl(fd, 1, 0);
  assert(result >= 0 || errno() === Errno.EBADF);
  return result >= 0;
}

Deno.test("the owner closes its descriptor once, at the end of the block", () => {
  const fd = openNull();
  {
    using owner = new OwnedFd(fd);
    assertEquals(owner.fd, fd);
    assert(!owner.closed);
    assert(isOpen(fd));
    owner.close();
    assert(!isOpen(fd));
    assert(owner.closed);
  }
  const error = assertThrows(() => {
    using owner = new OwnedFd(openNull());
    owner.close();
    return owner.fd;
  }, SystemError);
  assertEquals(error.kind, "EBADF");
});

Deno.test("a released descriptor stays open", () => {
  const fd = openNull();
  {
    using owner = new OwnedFd(fd);
    assertEquals(owner.release(), fd);
    assert(owner.closed);
    assertThrows(() => owner.release(), SystemError);
  }
  assert(isOpen(fd));
  closeFd(fd);
});

Deno.test("a descriptor that somebody else closed is a bug that shows", () => {
  const owner = new OwnedFd(openNull());
  closeFd(owner.fd);
  const error = assertThrows(() => owner.close(), SystemError);
  assertEquals(error.kind, "EBADF");
  assert(owner.closed);
});

Deno.test("only descriptor numbers can be owned", () => {
  for (const fd of [-1, 1.5, NaN]) {
    assertThrows(() => new OwnedFd(fd), SystemError, `descriptor ${fd}`);
  }
});

Deno.test("duplicates are separate, close-on-exec and no standard stream", () => {
  using owner = EventFd.create();
  using copy = owner.dup();
  assert(copy.fd !== owner.fd);
  assert(copy.fd > 2);
  assert(isCloexec(copy.fd));
  owner.signal();
  const fd = owner.fd;
  owner.close();
  assert(!isOpen(fd));
  assertEquals(fdKind(copy.fd), "eventfd");
  assertThrows(() => dupFd(fd), SystemError, "EBADF");
});

Deno.test("flags can be set and cleared", () => {
  using owner = new OwnedFd(openNull());
  assert(!isNonblocking(owner.fd));
  setNonblocking(owner.fd, true);
  setNonblocking(owner.fd, true);
  assert(isNonblocking(owner.fd));
  setNonblocking(owner.fd, false);
  assert(!isNonblocking(owner.fd));
  assert(isCloexec(owner.fd));
  setCloexec(owner.fd, false);
  assert(!isCloexec(owner.fd));
  setCloexec(owner.fd, true);
  assert(isCloexec(owner.fd));
  assertThrows(() => setNonblocking(-1, true), SystemError, "EBADF");
  assertThrows(() => setCloexec(-1, true), SystemError, "EBADF");
});

Deno.test("a child inherits what is not close-on-exec, and nothing else", () => {
  using kept = EventFd.create();
  using passed = EventFd.create();
  setCloexec(passed.fd, false);
  const { stdout } = new Deno.Command("ls", { args: ["/proc/self/fd"] })
    .outputSync();
  const fds = new TextDecoder().decode(stdout).trim().split("\n").map(Number);
  assert(fds.includes(passed.fd));
  assert(!fds.includes(kept.fd));
});

Deno.test("the kind of a descriptor is told from its inode", () => {
  using event = EventFd.create();
  assertEquals(fdKind(event.fd), "eventfd");
  using epoll = new Epoll();
  assertEquals(fdKind(epoll.fd), "epoll");
  using memfd = createMemfd("kind", 4096);
  assertEquals(fdKind(memfd.fd), "memfd");
  const [a, b] = UnixSocket.pair();
  using left = a, right = b;
  assertEquals(fdKind(left.fd), fdKind(right.fd));
  assertEquals(fdKind(left.fd), "socket");
  const named = (path: string): string => {
    using file = new OwnedFd(libc().open(cString(path), O_CLOEXEC, 0));
    return fdKind(file.fd);
  };
  assertEquals(named("/dev/null"), "character");
  assertEquals(named("/"), "directory");
  assertEquals(named("/etc/passwd"), "file");
  assertThrows(() => fdKind(-1), SystemError, "EBADF");
});

Deno.test("an eventfd is told by its name, which no file can have", () => {
  using event = EventFd.create();
  assertEquals(fdName(event.fd), "anon_inode:[eventfd]");
  assert(isEventFd(event.fd));
  const directory = Deno.makeTempDirSync();
  try {
    const path = `${directory}/anon_inode:[eventfd]`;
    Deno.writeTextFileSync(path, "");
    using file = new OwnedFd(libc().open(cString(path), O_CLOEXEC, 0));
    assertEquals(fdName(file.fd), path);
    assert(!isEventFd(file.fd));
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
  assertThrows(() => isEventFd(-1), SystemError, "ENOENT");
});

Deno.test("a file with a memfd's name is a file", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const path = `${directory}/memfd:x`;
    Deno.writeTextFileSync(path, "");
    using file = new OwnedFd(libc().open(cString(path), O_CLOEXEC, 0));
    assertEquals(fdKind(file.fd), "file");
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("open descriptors are counted", () => {
  const before = openFdCount();
  {
    using _one = EventFd.create();
    using _two = EventFd.create();
    assertEquals(openFdCount(), before + 2);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("bytes go through a descriptor, and its limits are told apart", () => {
  const [read, write] = createPipe();
  using _read = read;
  setNonblocking(read.fd, true);
  const into = new Uint8Array(8);
  assertEquals(readFd(read.fd, into), -1);
  writeFd(write.fd, new TextEncoder().encode("0123456789") as typeof into);
  assertEquals(readFd(read.fd, into), 8);
  assertEquals(new TextDecoder().decode(into), "01234567");
  assertEquals(readFd(read.fd, into), 2);
  setNonblocking(write.fd, true);
  const error = assertThrows(
    () => writeFd(write.fd, new Uint8Array(1 << 20)),
    SystemError,
  );
  assertEquals(error.kind, "EAGAIN");
  write.close();
  let left = 0;
  for (let n; (n = readFd(read.fd, into)) > 0;) left += n;
  assert(left > 0 && left < 1 << 20, `${left}`);
  assertEquals(assertThrows(() => readFd(-1, into), SystemError).kind, "EBADF");
});
