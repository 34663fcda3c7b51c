import { assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "../../sys/errno.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { skipUnless } from "../../tests/support/skip.ts";
import { UringWaiter } from "./uring_waiter.ts";

const uring = skipUnless(IoUring.supported(), "io_uring is not available");

/** Has the kernel take nothing for a while. */
function refuse(ring: IoUring, times: number): void {
  const submit = ring.submit.bind(ring);
  ring.submit = () => times-- > 0 ? 0 : submit();
}

uring.test("UringWaiter: after flush() no descriptor is used any more", () => {
  using waiter = new UringWaiter();
  using watched = EventFd.create();
  using call = EventFd.create();
  waiter.add(watched.fd, 1);
  waiter.signal(call.fd);
  refuse(waiter.ring, 3);
  waiter.flush();
  assertEquals(waiter.ring.pending, 0);
  assertEquals(call.drain(), 1);
});

uring.test("UringWaiter: remove() waits until the kernel has taken it", () => {
  using waiter = new UringWaiter();
  using watched = EventFd.create();
  waiter.add(watched.fd, 1);
  refuse(waiter.ring, 3);
  waiter.remove(watched.fd);
  assertEquals(waiter.ring.pending, 0);
  watched.signal();
  assertEquals(waiter.wait(1), 0);
});

uring.test("UringWaiter: a descriptor that cannot be watched is told of", () => {
  using waiter = new UringWaiter();
  const watched = EventFd.create();
  waiter.add(watched.fd, 1);
  watched.close();
  assertThrows(() => waiter.wait(1000), SystemError, "EBADF");
});
