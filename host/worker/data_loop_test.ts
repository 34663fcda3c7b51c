import { assert, assertEquals, assertThrows } from "@std/assert";
import { skipUnless } from "../../tests/support/skip.ts";
import { ticksOf } from "../../sys/clock.ts";
import { IORING_OP_NOP } from "../../sys/io_uring/constants.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import type { VirtioDevice } from "../../virtqueue/device.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import { PollingGovernor } from "./polling.ts";
import { Bench, EchoDevice } from "./testing/bench.ts";
import { UringWaiter } from "./uring_waiter.ts";
import { EpollWaiter, type Waiter } from "./waiter.ts";

/** Every test runs over each of these. */
const WAITERS: readonly [string, boolean, () => Waiter][] = [
  ["epoll", true, () => new EpollWaiter()],
  ["io_uring", IoUring.supported(), () => new UringWaiter()],
];

/** A clock that goes on by a tenth of a millisecond when it is looked at. */
function steadily(): () => number {
  let now = 0;
  return () => now += ticksOf(0.1);
}

/** From now on sleeping is an error. */
function neverSleep(waiter: Waiter): void {
  const wait = waiter.wait.bind(waiter);
  waiter.wait = (timeout) => {
    assertEquals(timeout, 0, "looked in vain");
    return wait(timeout);
  };
}

for (const [waiter, supported, make] of WAITERS) {
  const requirement = skipUnless(supported, "io_uring is not available");
  const test = (name: string, body: () => void): void =>
    requirement.test(`DataLoop over ${waiter}: ${name}`, body);

  test("a ring is served once, unasked, when it starts", () => {
    using bench = new Bench(make());
    bench.submit("waiting");
    bench.start();
    bench.turns(1);
    assertEquals(bench.texts(), ["waiting"]);
    assertEquals(bench.call.drain(), 1);
  });

  test("a call descriptor that comes late is signalled once", () => {
    using bench = new Bench(make());
    bench.submit("told to nobody");
    bench.start();
    bench.turns(2);
    using late = EventFd.create();
    bench.hosted.setCall(0, late.fd);
    assertEquals(late.drain(), 1);
    bench.turns(2);
    assertEquals(late.drain(), 0);
  });

  test("a kick wakes an idle ring, and only then it is looked at", () => {
    using bench = new Bench(make());
    bench.start();
    bench.turns(2);
    bench.submit("unannounced");
    const before = bench.device.serves;
    bench.turns(2);
    assertEquals(bench.device.serves, before);
    bench.kick.signal();
    bench.turns(2);
    assertEquals(bench.texts(), ["unannounced"]);
    bench.submit("again");
    // The descriptor is never read: each write is a new edge all the same.
    bench.kick.signal();
    bench.turns(2);
    assertEquals(bench.texts(), ["again"]);
    assertEquals(bench.hosted.rings[0].status().kicks, 2);
  });

  test("a ring without kick descriptor is polled", () => {
    using bench = new Bench(make());
    bench.start({ kickFd: -1 });
    bench.turns(3);
    bench.submit("polled");
    bench.turns(3);
    assertEquals(bench.texts(), ["polled"]);
  });

  test("a turn gives a ring at most eight chains", () => {
    using bench = new Bench(make());
    for (let i = 0; i < 20; i++) bench.submit(`${i}`);
    bench.start();
    bench.turns(1);
    assertEquals(bench.driver.reap().length, 8);
    bench.turns(2);
    assertEquals(bench.driver.reap().length, 12);
    assertEquals(bench.device.largestBatch, 8);
  });

  test("a device says how many chains a turn gives it", () => {
    using bench = new Bench(make());
    const { device } = bench;
    bench.hosted.device = Object.assign(device, { chainsPerTurn: 12 });
    for (let i = 0; i < 20; i++) bench.submit(`${i}`);
    bench.start();
    bench.turns(1);
    assertEquals(bench.driver.reap().length, 12);
    bench.turns(1);
    assertEquals(bench.driver.reap().length, 8);
  });

  test("notifications are off while the ring is busy and on before sleep", () => {
    using bench = new Bench(make());
    bench.start();
    bench.submit("one");
    bench.turns(1);
    assert(!bench.driver.kickNeeded(), "busy: a kick is not wanted");
    bench.turns(1);
    bench.submit("two");
    assert(bench.driver.kickNeeded(), "asleep: a kick is wanted");
  });

  test("notifications are off again after a sleep with chains in flight", () => {
    using bench = new Bench(make());
    bench.device.later = true;
    bench.device.poll = () => 0;
    bench.start();
    bench.submit("slow");
    bench.turns(2);
    assertEquals(bench.device.held.length, 1);
    bench.submit("next");
    const wanted = bench.driver.kickNeeded();
    bench.device.poll = EchoDevice.prototype.poll;
    bench.turns(4);
    assert(!wanted, "awake: the ring is looked at in each turn");
    assertEquals(bench.texts(), ["slow", "next"]);
    bench.submit("idle");
    assert(bench.driver.kickNeeded(), "asleep: a kick is wanted");
  });

  test("a parked ring is left alone until the device resumes it", () => {
    using bench = new Bench(make());
    bench.device.parked = true;
    bench.submit("parked");
    bench.start();
    bench.turns(5);
    assertEquals(bench.device.serves, 1);
    bench.device.parked = false;
    bench.hosted.resume(bench.hosted.rings[0].queue);
    bench.turns(1);
    assertEquals(bench.texts(), ["parked"]);
  });

  test("a ring that is resumed while it is served is not parked", () => {
    using bench = new Bench(make());
    const serve = bench.device.serve.bind(bench.device);
    bench.device.serve = (queue) => {
      bench.device.serve = serve;
      bench.hosted.resume(queue);
      return false;
    };
    bench.submit("resumed");
    bench.start();
    bench.turns(2);
    assertEquals(bench.texts(), ["resumed"]);
  });

  test("chains beyond the slots wait without spinning", () => {
    using bench = new Bench(make(), 2);
    bench.device.later = true;
    // Nothing completes by itself: the loop must sleep with chains available.
    bench.device.poll = () => 0;
    for (let i = 0; i < 5; i++) bench.submit(`${i}`);
    bench.start();
    bench.turns(20);
    assertEquals(bench.device.held.length, 2);
    assert(bench.device.serves <= 2, `served ${bench.device.serves} times`);
    bench.device.poll = EchoDevice.prototype.poll;
    bench.turns(10);
    assertEquals(bench.texts(), ["0", "1", "2", "3", "4"]);
  });

  test("stopping drains a ring and tells where to go on", () => {
    using bench = new Bench(make());
    bench.device.later = true;
    for (let i = 0; i < 3; i++) bench.submit(`${i}`);
    bench.device.poll = () => 0;
    bench.start();
    bench.turns(1);
    assertEquals(bench.device.held.length, 3);
    bench.device.poll = EchoDevice.prototype.poll;
    assertEquals(bench.hosted.stopRing(0), 3);
    assertEquals(bench.texts(), ["0", "1", "2"]);
    assertEquals(bench.call.drain(), 1);
    bench.submit("after");
    bench.kick.signal();
    bench.turns(2);
    assertEquals(bench.texts(), []);
  });

  test("a device is told where a ring starts, before it serves it", () => {
    using bench = new Bench(make());
    const told: number[][] = [];
    (bench.device as VirtioDevice).start = (queue) => {
      told.push([queue.index, queue.position, bench.device.serves]);
    };
    bench.submit("first");
    bench.start();
    bench.turns(1);
    assertEquals(bench.hosted.stopRing(0), 1);
    bench.start({ position: 1 });
    assertEquals(told, [[0, 0, 0], [0, 1, 1]]);
    bench.submit("second");
    bench.turns(1);
    assertEquals(bench.texts(), ["first", "second"]);
  });

  test("a chain that waits for an event is given back on stop", () => {
    using bench = new Bench(make());
    bench.device.later = true;
    bench.device.poll = () => 0;
    (bench.device as VirtioDevice).quiesce = (queue) => {
      for (const chain of bench.device.held.splice(0).reverse()) {
        queue.untake(chain);
      }
    };
    bench.submit("event");
    bench.start();
    bench.turns(1);
    assertEquals(bench.hosted.stopRing(0), 0);
    bench.device.later = false;
    bench.start();
    bench.turns(1);
    assertEquals(bench.texts(), ["event"]);
  });

  test("a restarted ring notifies for a predecessor that could not", () => {
    using bench = new Bench(make());
    bench.submit("first");
    bench.start();
    bench.turns(1);
    bench.hosted.stopRing(0);
    bench.call.drain();
    bench.start({ position: 1 });
    assertEquals(bench.call.drain(), 1);
  });

  test("memory goes away: requests end first, no view is left", () => {
    using bench = new Bench(make(), 64, false);
    using other = mapAnonymous(65536, { shared: true });
    const region = {
      guestAddress: 0x4000_0000,
      size: 65536,
      hostAddress: other.address,
    };
    bench.hosted.addRegion(region);
    const id = bench.hosted.memory.find(region.guestAddress, 1);
    const view = bench.hosted.memory.view(id);
    bench.device.later = true;
    bench.start();
    bench.driver.submit([
      { readable: new TextEncoder().encode("to there") },
      { address: region.guestAddress + 100, length: 8, write: true },
    ]);
    bench.device.poll = () => 0;
    bench.kick.signal();
    bench.turns(2);
    assertEquals(bench.device.held.length, 1);
    bench.device.poll = EchoDevice.prototype.poll;
    const started: number[][] = [];
    (bench.device as VirtioDevice).start = ({ index, position }) => {
      started.push([index, position]);
    };
    bench.hosted.removeRegion(region);
    // It stopped for the device, and starts where it was.
    assertEquals(started, [[0, 1]]);
    assertEquals(
      new TextDecoder().decode(new Uint8Array(other.buffer, 100, 8)),
      "to there",
    );
    assertThrows(() => view.getUint8(0), TypeError);
    assertEquals(bench.hosted.memory.find(region.guestAddress, 1), -1);
    // The ring itself goes on.
    bench.device.later = false;
    assertEquals(bench.driver.reap().length, 1);
    bench.submit("on");
    bench.turns(2);
    assertEquals(bench.driver.reap().map(({ length }) => length), [2]);
  });

  test("a bad chain is signalled on the error descriptor, the ring goes on", () => {
    using bench = new Bench(make(), 64, false);
    bench.start();
    bench.driver.submit([{ address: 0xdead_0000, length: 4, write: true }]);
    bench.submit("good");
    bench.turns(2);
    assertEquals(bench.error.drain(), 1);
    assertEquals(bench.driver.reap().map(({ length }) => length), [0, 4]);
    const status = bench.hosted.rings[0].status();
    assertEquals([status.badChains, status.broken], [1, null]);
  });

  test("a corrupt ring is signalled and not served any more", () => {
    using bench = new Bench(make());
    bench.start();
    bench.driver.setAvailableIndex(1000);
    bench.turns(2);
    assertEquals(bench.error.drain(), 1);
    assert(bench.hosted.rings[0].status().broken?.includes("1000"));
    bench.turns(2);
    bench.hosted.stopRing(0);
  });

  test("a ring that breaks when the loop is about to sleep signals its error", () => {
    using bench = new Bench(make());
    bench.start();
    bench.turns(2);
    bench.kick.signal();
    bench.turns(1);
    // Between the turn and the last look before the sleep, without a kick.
    bench.device.poll = () => {
      bench.driver.setAvailableIndex(1000);
      return 0;
    };
    bench.turns(1);
    assert(bench.hosted.rings[0].status().broken !== null);
    assertEquals(bench.error.drain(), 1);
    bench.turns(2);
    assertEquals(bench.error.drain(), 0);
  });

  test("a watched descriptor calls back", () => {
    using bench = new Bench(make());
    using watched = EventFd.create();
    let calls = 0;
    bench.hosted.watch(watched.fd, () => calls++);
    watched.signal();
    bench.turns(2);
    assertEquals(calls, 1);
    bench.hosted.watch(watched.fd, null);
    watched.signal();
    bench.turns(2);
    assertEquals(calls, 1);
  });

  test("a ring is kicked and served while another one is always busy", () => {
    // Before the bench: the loop lets go of it when that ends.
    using kick = EventFd.create();
    using bench = new Bench(make());
    const memory = bench.driver.memory;
    const other = new FakeDriver(memory, { size: 8 });
    bench.start();
    bench.start({ index: 1, kickFd: kick.fd }, other);
    bench.turns(3);
    for (let i = 0; i < 64 && !other.usedPending; i++) {
      if (i === 4) {
        other.submit([{ writable: 4 }]);
        kick.signal();
      }
      while (bench.driver.inFlight < 32) bench.submit("busy");
      if (bench.driver.kickNeeded()) bench.kick.signal();
      bench.loop.run(0, true);
      bench.driver.reap(8);
    }
    assert(other.usedPending, "not served in 64 turns");
  });

  test("a ring is kicked and served while the loop looks at another", () => {
    using kick = EventFd.create();
    const polling = new PollingGovernor(5_000_000, steadily());
    const begin = polling.begin.bind(polling);
    polling.begin = () => false;
    const waiter = make();
    using bench = new Bench(waiter, 64, true, polling);
    const other = new FakeDriver(bench.driver.memory, { size: 8 });
    bench.start();
    bench.start({ index: 1, kickFd: kick.fd }, other);
    bench.turns(3);
    bench.submit("active");
    bench.kick.signal();
    bench.turns(2);
    other.submit([{ writable: 4 }]);
    kick.signal();
    polling.begin = begin;
    neverSleep(waiter);
    bench.turns(2);
    assert(other.usedPending);
  });

  test("what ends while the loop looks is published before it sleeps", () => {
    // Looking ends on the clock: long enough for a look at the descriptors.
    const polling = new PollingGovernor(50_000, steadily());
    const begin = polling.begin.bind(polling);
    polling.begin = () => bench.device.held.length > 0 && begin();
    const waiter = make();
    using bench = new Bench(waiter, 64, true, polling);
    bench.device.later = true;
    bench.device.poll = () => 0;
    bench.start();
    bench.submit("late");
    const wait = waiter.wait.bind(waiter);
    let published: boolean | null = null;
    waiter.wait = (timeout) => {
      // The device is told of its completion here, and not by its poll.
      if (timeout === 0) EchoDevice.prototype.poll.call(bench.device);
      else published ??= bench.driver.usedPending;
      return wait(timeout);
    };
    bench.turns(3);
    assertEquals(published, true);
    assertEquals(bench.texts(), ["late"]);
    assertEquals(bench.call.drain(), 1);
  });

  test("a command that comes with the last look ends the loop", () => {
    const polling = new PollingGovernor(5_000_000, steadily());
    const waiter = make();
    using bench = new Bench(waiter, 64, true, polling);
    bench.device.later = true;
    bench.device.poll = () => 0;
    bench.start();
    bench.submit("keeps the ring active");
    const begin = polling.begin.bind(polling),
      goOn = polling.goOn.bind(polling);
    polling.begin = () => bench.device.held.length > 0 && begin();
    const wait = waiter.wait.bind(waiter);
    let posted = false;
    waiter.wait = (timeout) => {
      assertEquals(timeout, 0, "slept over a command");
      if (bench.device.held.length > 0 && !posted) {
        posted = true;
        Atomics.add(bench.posted, 0, 1);
        bench.control.signal();
      }
      return wait(timeout);
    };
    // Just then somebody else wants the CPU.
    polling.goOn = () => goOn() && !posted;
    bench.loop.run(0);
    assertEquals(posted, true);
    bench.device.poll = EchoDevice.prototype.poll;
    waiter.wait = wait;
  });

  test("a kick that got lost costs seconds, and is counted", () => {
    const waiter = make();
    let now = 0;
    const polling = new PollingGovernor("off", () => now);
    using bench = new Bench(waiter, 64, true, polling);
    bench.start();
    bench.turns(2);
    bench.submit("unannounced");
    const wait = waiter.wait.bind(waiter);
    waiter.wait = (timeout) => {
      // As if the time had passed, and nothing had happened.
      now += ticksOf(Math.max(timeout, 0));
      return wait(0);
    };
    const serve = bench.device.serve.bind(bench.device);
    bench.device.serve = (queue) => {
      Atomics.add(bench.posted, 0, 1);
      return serve(queue, 8);
    };
    bench.loop.run(0);
    assertEquals(bench.texts(), ["unannounced"]);
    assertEquals(bench.loop.missedWakeUps, 1);
  });

  test("a posted command ends the loop, busy or asleep", () => {
    using bench = new Bench(make());
    bench.start();
    Atomics.add(bench.posted, 0, 1);
    bench.control.signal();
    bench.loop.run(0);
    assertEquals(Atomics.load(bench.posted, 0), 1);
  });
}

skipUnless(IoUring.supported(), "io_uring is not available").test(
  "DataLoop submits what was prepared before it looks at the rings",
  () => {
    const waiter = new UringWaiter();
    const { ring } = waiter;
    // Long; looking ends with the completion.
    using bench = new Bench(waiter, 64, true, new PollingGovernor(5_000_000));
    bench.device.later = true;
    const echo = bench.device.poll.bind(bench.device);
    bench.device.poll = () => 0;
    const source = ring.register(() => bench.device.poll = echo);
    bench.start();
    bench.submit("asynchronous");
    bench.turns(1);
    ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, 0);
    neverSleep(waiter);
    bench.turns(2);
    assertEquals(bench.texts(), ["asynchronous"]);
  },
);
