import { assert, assertEquals, assertThrows } from "@std/assert";
import { Epoll, EPOLLIN } from "./epoll.ts";
import { SystemError } from "./errno.ts";
import { isCloexec, isNonblocking } from "./fd.ts";
import { TimerFd } from "./timer.ts";

Deno.test("a timer wakes who waits, again and again, until it is off", () => {
  using timer = TimerFd.create();
  assert(isCloexec(timer.fd) && isNonblocking(timer.fd));
  using epoll = new Epoll();
  epoll.add(timer.fd, EPOLLIN, 1);
  timer.set(1.5);
  for (let i = 0; i < 3; i++) {
    assertEquals(epoll.wait(10_000), 1);
    assert(timer.drain() >= 1);
  }
  timer.set(0);
  timer.drain();
  assertEquals(epoll.wait(5), 0);
  assertEquals(timer.drain(), 0);
});

Deno.test("a timer takes no negative time", () => {
  using timer = TimerFd.create();
  assertThrows(() => timer.set(-1000), SystemError, "EINVAL");
});
