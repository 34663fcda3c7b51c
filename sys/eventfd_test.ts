import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import {
  drainEventFd,
  EventFd,
  relieveEventFd,
  signalEventFd,
} from "./eventfd.ts";
import { isCloexec, isNonblocking } from "./fd.ts";
import { libc } from "./libc.ts";
import { createMemfd } from "./memfd.ts";

Deno.test("signals add up until they are drained", () => {
  using event = EventFd.create();
  assertEquals(event.drain(), 0);
  event.signal();
  assert(signalEventFd(event.fd));
  assertEquals(drainEventFd(event.fd), 2);
  assertEquals(event.drain(), 0);
});

Deno.test("an eventfd is close-on-exec, and nonblocking unless told not to be", () => {
  using event = EventFd.create();
  assert(isCloexec(event.fd));
  assert(isNonblocking(event.fd));
  using blocking = EventFd.create({ nonblocking: false });
  assert(isCloexec(blocking.fd));
  assert(!isNonblocking(blocking.fd));
  blocking.signal();
  assertEquals(blocking.drain(), 1);
});

Deno.test("a semaphore is drained one by one", () => {
  using event = EventFd.create({ semaphore: true });
  event.signal();
  event.signal();
  assertEquals(event.drain(), 1);
  assertEquals(event.drain(), 1);
  assertEquals(event.drain(), 0);
});

Deno.test("a full counter is a signal, and is read in full", () => {
  using event = EventFd.create();
  assertEquals(libc().eventfd_write(event.fd, 0xffff_ffff_ffff_fffen), 0);
  assert(signalEventFd(event.fd));
  assertEquals(event.drain(), 2 ** 64);
  assertEquals(libc().eventfd_write(event.fd, 0x1_0000_0005n), 0);
  assertEquals(event.drain(), 2 ** 32 + 5);
});

Deno.test("a counter that is full is relieved, any other is left alone", () => {
  for (const nonblocking of [true, false]) {
    using event = EventFd.create({ nonblocking });
    assert(!relieveEventFd(event.fd));
    assertEquals(libc().eventfd_write(event.fd, 0xffff_ffff_ffff_fffdn), 0);
    assert(!relieveEventFd(event.fd));
    event.signal();
    assert(relieveEventFd(event.fd));
    assert(!relieveEventFd(event.fd));
    event.signal();
    assertEquals(event.drain(), 1);
  }
  using semaphore = EventFd.create({ semaphore: true });
  assertEquals(libc().eventfd_write(semaphore.fd, 0xffff_ffff_ffff_fffen), 0);
  assert(relieveEventFd(semaphore.fd));
  semaphore.signal();
  assertEquals(semaphore.drain(), 1);
  using memfd = createMemfd("relieve", 4096);
  assert(!relieveEventFd(memfd.fd));
  assertThrows(() => relieveEventFd(-1), SystemError, "ENOENT");
});

Deno.test("what is not an eventfd cannot be signalled", () => {
  assert(!signalEventFd(-1));
  assertThrows(() => drainEventFd(-1), SystemError, "EBADF");
  const event = EventFd.create();
  event.close();
  assertThrows(() => event.signal(), SystemError, "after it was closed");
  assertThrows(() => event.drain(), SystemError, "after it was closed");
});
