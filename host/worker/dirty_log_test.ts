import { assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { mapAnonymous, type Mapping } from "../../sys/mapping.ts";
import { dirtyLogSize } from "../../virtqueue/dirty_log.ts";
import { Bench } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

/** The log of a bench's memory, and a look at it. */
class Log implements Disposable {
  readonly mapping: Mapping;

  constructor(bench: Bench) {
    const { guestAddress, size } = bench.region;
    this.mapping = mapAnonymous(dirtyLogSize(guestAddress + size));
  }

  /** Takes the marks out; how many there were. */
  take(): number {
    let count = 0;
    for (const [at, byte] of new Uint8Array(this.mapping.buffer).entries()) {
      for (let bits = byte; bits !== 0; bits &= bits - 1) count++;
      new Uint8Array(this.mapping.buffer)[at] = 0;
    }
    return count;
  }

  [Symbol.dispose](): void {
    this.mapping.unmap();
  }
}

/** A bench whose device says what it is told of the log. */
function rig(): { bench: Bench; told: boolean[] } {
  const bench = new Bench(new EpollWaiter());
  const told: boolean[] = [];
  Object.assign(bench.device, { logWrites: (on: boolean) => told.push(on) });
  return { bench, told };
}

Deno.test("a ring that starts while writes are logged logs them", () => {
  const { bench, told } = rig();
  using _bench = bench;
  using log = new Log(bench);
  bench.hosted.logWrites(log.mapping);
  bench.start({ usedLog: bench.driver.usedRing });
  assertEquals([log.take() > 0, told], [true, [true]]);
  bench.submit("x");
  bench.turns(1);
  assertEquals(log.take() > 0, true);
  bench.hosted.stopRings();
});

Deno.test("logging begins, goes elsewhere and ends under a ring that runs", () => {
  const { bench, told } = rig();
  using _bench = bench;
  using first = new Log(bench);
  using second = new Log(bench);
  bench.start();
  const marks = (): [boolean, boolean] => {
    bench.submit("x");
    bench.kick.signal();
    bench.turns(3);
    assertEquals(bench.texts(), ["x"]);
    return [first.take() > 0, second.take() > 0];
  };
  assertEquals(marks(), [false, false]);
  bench.hosted.logWrites(first.mapping);
  assertEquals(marks(), [true, false]);
  bench.hosted.logWrites(second.mapping);
  first.mapping.unmap();
  using third = new Log(bench);
  assertEquals([second.take(), third.take()], [0, 0]);
  bench.submit("y");
  bench.kick.signal();
  bench.turns(3);
  assertEquals(second.take() > 0, true);
  bench.hosted.logWrites(null);
  bench.submit("z");
  bench.kick.signal();
  bench.turns(3);
  assertEquals(second.take(), 0);
  // Another log is no news for a device.
  assertEquals(told, [true, false]);
});

Deno.test("who wants to know of marks is told once a turn", () => {
  const { bench } = rig();
  using _bench = bench;
  using log = new Log(bench);
  using news = EventFd.create();
  bench.start();
  bench.turns(2);
  bench.hosted.logWrites(log.mapping);
  bench.hosted.setLogFd(news.fd);
  bench.turns(2);
  assertEquals(news.drain(), 0, "nothing was written");
  for (let i = 0; i < 3; i++) bench.submit("x");
  bench.kick.signal();
  bench.turns(3);
  assertEquals([news.drain(), log.take() > 0], [1, true]);
  bench.hosted.setLogFd(-1);
  bench.submit("x");
  bench.kick.signal();
  bench.turns(3);
  assertEquals([news.drain(), log.take() > 0], [0, true]);
});
