/** Rings that stop with requests in flight. */

import { assert, assertEquals } from "@std/assert";
import { mapAnonymous, type Mapping } from "../../sys/mapping.ts";
import type { VirtioDevice, VirtQueue } from "../../virtqueue/device.ts";
import { splitInflightSize } from "../../virtqueue/inflight.ts";
import { Bench, EchoDevice } from "./testing/bench.ts";
import { EpollWaiter } from "./waiter.ts";

const HEADS = 64;

/** A bench whose device completes nothing by itself, and the area of its ring. */
function rig(): { bench: Bench; area: Mapping } {
  const bench = new Bench(new EpollWaiter());
  bench.device.later = true;
  bench.device.poll = () => 0;
  return { bench, area: mapAnonymous(splitInflightSize(HEADS)) };
}

function start(bench: Bench, area: Mapping, position = 0): void {
  const inflight = {
    address: area.address,
    size: splitInflightSize(HEADS),
    heads: HEADS,
  };
  bench.start({ position, inflight });
}

/** Gives up what it holds, when it is asked for the `at`-th time. */
function suspendAt(bench: Bench, at: number): VirtQueue[] {
  const asked: VirtQueue[] = [];
  (bench.device as VirtioDevice).suspend = (queue) => {
    if (asked.push(queue) < at) return;
    for (const chain of bench.device.held.splice(0)) queue.abandon(chain);
  };
  return asked;
}

Deno.test("a ring is suspended at once; the next one does what it had", () => {
  const { bench, area } = rig();
  using _bench = bench;
  using _area = area;
  const asked = suspendAt(bench, 1);
  for (let i = 0; i < 3; i++) bench.submit(`${i}`);
  start(bench, area);
  bench.turns(1);
  bench.submit("late");
  assertEquals(bench.hosted.stopRing(0, true), 3);
  assertEquals([asked.length, bench.texts()], [1, []]);
  bench.device.later = false;
  start(bench, area, 3);
  assertEquals(bench.hosted.rings[0].queue.recovering, 3);
  bench.turns(2);
  assertEquals(bench.texts(), ["0", "1", "2", "late"]);
});

Deno.test("what is complete is published before a ring is suspended", () => {
  const { bench, area } = rig();
  using _bench = bench;
  using _area = area;
  for (let i = 0; i < 3; i++) bench.submit(`${i}`);
  start(bench, area);
  bench.turns(1);
  bench.call.drain();
  // It ended between two turns.
  const [first] = bench.device.held.splice(0, 1);
  first.queue.complete(first, first.writableLength);
  const seen: number[] = [];
  (bench.device as VirtioDevice).suspend = (queue) => {
    seen.push(bench.driver.usedIndex);
    for (const chain of bench.device.held.splice(0)) queue.abandon(chain);
  };
  assertEquals(bench.hosted.stopRing(0, true), 3);
  assertEquals([seen, bench.texts().length], [[1], 1]);
  assertEquals(bench.call.drain(), 1);
});

Deno.test("a device that cannot give everything up at once is asked again", () => {
  const { bench, area } = rig();
  using _bench = bench;
  using _area = area;
  bench.submit("slow");
  bench.submit("ends");
  start(bench, area);
  bench.turns(1);
  const asked = suspendAt(bench, 3);
  // One of them ends meanwhile.
  bench.device.poll = () => {
    const [ends] = bench.device.held.splice(1, 1);
    if (ends === undefined) return 0;
    ends.queue.complete(ends, 0);
    return 1;
  };
  assertEquals(bench.hosted.stopRing(0, true), 2);
  assertEquals([asked.length, bench.driver.usedIndex], [3, 1]);
});

Deno.test("a device that cannot suspend is drained, and so is a ring that is stopped", () => {
  for (const can of [false, true]) {
    const { bench, area } = rig();
    using _bench = bench;
    using _area = area;
    const asked = can ? suspendAt(bench, 1) : [];
    bench.submit("drained");
    start(bench, area);
    bench.turns(1);
    bench.device.poll = EchoDevice.prototype.poll;
    // Nobody agreed on it, or the device does not know how.
    assertEquals(bench.hosted.stopRing(0, !can), 1);
    assertEquals([asked.length, bench.texts()], [0, ["drained"]]);
    assert(bench.device.held.length === 0);
  }
});

Deno.test("what was inherited and not taken yet stays in flight, too", () => {
  const { bench, area } = rig();
  using _bench = bench;
  using _area = area;
  suspendAt(bench, 1);
  for (let i = 0; i < 3; i++) bench.submit(`${i}`);
  start(bench, area);
  bench.turns(1);
  assertEquals(bench.hosted.stopRing(0, true), 3);
  // Its disk is stopped: it takes nothing.
  bench.device.parked = true;
  start(bench, area, 3);
  bench.turns(1);
  assertEquals(bench.hosted.stopRing(0, true), 3);
  bench.device.parked = bench.device.later = false;
  start(bench, area, 3);
  bench.turns(2);
  assertEquals(bench.texts(), ["0", "1", "2"]);
});
