import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { featureMask } from "../../virtqueue/constants.ts";
import { STAT_NAMES, VIRTIO_BALLOON_F_STATS_VQ } from "./protocol.ts";
import { BalloonBench, stats } from "./testing/bench.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const STATS = 2;

ringTest("statistics are kept by name, unknown ones by number", () => {
  using bench = new BalloonBench();
  const known = STAT_NAMES.map((_, tag) => [tag, BigInt(tag + 1)] as const);
  bench.offer(STATS, [{
    readable: stats(...known, [16, 5n], [65535, 2n ** 52n + 1n]),
  }]);
  bench.turn();
  assertEquals(bench.device.status().stats, {
    ...Object.fromEntries(STAT_NAMES.map((name, tag) => [name, tag + 1])),
    tag16: 5,
    tag65535: 2 ** 52 + 1,
  });
  assertEquals(STAT_NAMES.length, 16);
  assertEquals(bench.drivers[STATS].reap(), [], "the buffer is kept");
});

ringTest(
  "the buffer goes back when statistics are asked for, and only then",
  async () => {
    using bench = new BalloonBench();
    bench.offer(STATS, [{ readable: stats([4, 100n]) }]);
    for (let i = 0; i < 3; i++) bench.turn();
    assertEquals(bench.drivers[STATS].reap().length, 0);
    const answer = bench.device.command("stats");
    assertEquals(bench.resumed, [STATS]);
    bench.turn();
    assertEquals(bench.drivers[STATS].reap().map((done) => done.length), [0]);
    bench.offer(STATS, [{ readable: stats([4, 200n]) }]);
    bench.turn();
    const { stats: told, statsAge } = await answer;
    assertEquals(told, { freeMemory: 200 });
    assert(statsAge as number >= 0 && statsAge as number < 60);
  },
);

ringTest("the buffer goes back when the interval is over", () => {
  using bench = new BalloonBench({ balloon: { statsInterval: 1000 } });
  bench.offer(STATS, [{ readable: stats([4, 100n]) }]);
  bench.turn();
  assertEquals(bench.watched.size, 1);
  const [expired] = bench.watched.values();
  expired();
  bench.turn();
  assertEquals(bench.drivers[STATS].reap().length, 1);
  expired();
  bench.device.deactivate();
  assertEquals(bench.watched.size, 0);
});

ringTest(
  "without an interval, or without the feature, there is no timer",
  () => {
    using never = new BalloonBench({ balloon: { statsInterval: 0 } });
    using none = new BalloonBench({ balloon: { stats: false } });
    assertEquals([never.watched.size, none.watched.size], [0, 0]);
    assertThrows(
      () => none.device.command("stats"),
      Error,
      "Cannot tell statistics: no driver runs that offers them (STATS_VQ)",
    );
  },
);

ringTest(
  "who waits for a driver that does not answer gets the old ones",
  async () => {
    using bench = new BalloonBench();
    bench.offer(STATS, [{ readable: stats([4, 100n]) }]);
    bench.turn();
    const answer = bench.device.command("stats");
    bench.device.quiesce(bench.queues[STATS]);
    assertEquals((await bench.device.command("stats")).stats, {
      freeMemory: 100,
    });
    assertEquals((await answer).stats, { freeMemory: 100 });
  },
);

ringTest("a ring that stops gets the buffer back, and brings it again", () => {
  using bench = new BalloonBench();
  bench.offer(STATS, [{ readable: stats([4, 100n]) }]);
  bench.turn();
  const queue = bench.queues[STATS];
  assertEquals(queue.inFlight, 1);
  bench.device.quiesce(queue);
  assertEquals([queue.inFlight, queue.position], [0, 0]);
  bench.turn();
  assertEquals(bench.counters.statistics, 2);
});

ringTest("buffers of any length are taken for what they are worth", () => {
  using bench = new BalloonBench();
  const two = stats([4, 100n], [5, 200n]);
  for (
    const [bytes, told, wrong] of [
      [two.slice(0, 19), { freeMemory: 100 }, 1],
      [two.slice(0, 9), {}, 1],
      [new Uint8Array(0), {}, 0],
      [two, { freeMemory: 100, totalMemory: 200 }, 0],
      [stats(...Array.from({ length: 65 }, () => [4, 1n] as const)), {
        freeMemory: 1,
      }, 1],
    ] as const
  ) {
    const before = (bench.counters.refused as { length?: number }).length ?? 0;
    const writable = bytes.length === 0 ? [{ writable: 100 }] : [];
    bench.offer(STATS, [{ readable: bytes }, ...writable]);
    bench.turn();
    assertEquals(bench.device.status().stats, { ...told });
    const after = (bench.counters.refused as { length?: number }).length ?? 0;
    assertEquals(after - before, wrong);
  }
  assertEquals(bench.drivers[STATS].reap().length, 4, "one is kept");
});

ringTest("an entry may straddle buffers", () => {
  using bench = new BalloonBench();
  const bytes = stats([4, 0x1234_5678_9abcn]);
  bench.offer(
    STATS,
    [0, 1, 3, 7].map((at, i, all) => ({
      readable: bytes.slice(at, all[i + 1]),
    })),
  );
  bench.turn();
  assertEquals(bench.device.status().stats, { freeMemory: 0x1234_5678_9abc });
});

ringTest("without STATS_VQ the queue has none", async () => {
  using bench = new BalloonBench({
    features: ~featureMask(VIRTIO_BALLOON_F_STATS_VQ),
  });
  bench.offer(STATS, [{ readable: stats([4, 100n]) }]);
  bench.turn();
  assertEquals(bench.drivers[STATS].reap().length, 1);
  assertEquals(bench.device.status().stats, {});
  await assertRejects(async () => await bench.device.command("stats"));
});
