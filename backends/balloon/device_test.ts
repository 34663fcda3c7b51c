import { assert, assertEquals, assertMatch } from "@std/assert";
import { Errno } from "../../sys/errno.ts";
import { featureMask, hasFeature } from "../../virtqueue/constants.ts";
import {
  VIRTIO_BALLOON_F_PAGE_POISON,
  VIRTIO_BALLOON_F_PAGE_REPORTING,
  VIRTIO_BALLOON_F_STATS_VQ,
} from "./protocol.ts";
import { BalloonBench, pfns } from "./testing/bench.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const REPORTING = featureMask(VIRTIO_BALLOON_F_PAGE_REPORTING);
const STATS = featureMask(VIRTIO_BALLOON_F_STATS_VQ);
const POISON = featureMask(VIRTIO_BALLOON_F_PAGE_POISON);

/** A configuration space as a front-end writes it. */
function space(numPages: number, actual: number, poison = 0): Uint8Array {
  return new Uint8Array(Uint32Array.of(numPages, actual, 9, poison).buffer);
}

ringTest("pages of the balloon go in runs, whatever their order", () => {
  using bench = new BalloonBench();
  const { length } = bench.inflate(300, 258, 301, 257, 259, 256, 302, 700);
  assertEquals(length, 0);
  assertEquals(bench.pages.takePages(), [[0, 4], [44, 3], [444, 1]]);
  assertEquals(bench.device.status().reclaimed, 8 * 4096);
  bench.inflate(...Array.from({ length: 256 }, (_, i) => 1279 - i));
  assertEquals(bench.pages.takePages(), [[768, 256]]);
  bench.deflate(257, 302, 1000);
  assertEquals(bench.device.status().reclaimed, (8 + 256 - 2) * 4096);
  assertEquals(bench.pages.takePages(), []);
  bench.deflate(257);
  assertEquals(bench.device.status().reclaimed, (8 + 256 - 2) * 4096);
});

ringTest("a page that is named twice is one page", () => {
  using bench = new BalloonBench();
  bench.inflate(256, 256, 257, 256, 257, 258);
  assertEquals(bench.pages.takePages(), [[0, 3]]);
  bench.inflate(256);
  assertEquals(bench.device.status().reclaimed, 3 * 4096);
  bench.deflate(256, 256);
  assertEquals(bench.device.status().reclaimed, 2 * 4096);
});

ringTest("pages outside of memory are counted, the others go", () => {
  using bench = new BalloonBench();
  bench.inflate(0, 255, 256, 1279, 1280, 2 ** 32 - 1, 2 ** 31);
  assertEquals(bench.pages.takePages(), [[0, 1], [1023, 1]]);
  bench.deflate(255, 256, 2 ** 32 - 1);
  assertEquals(bench.counters.badPages, 7);
  assertEquals(bench.device.status().reclaimed, 4096);
});

ringTest("a run ends where its region ends, also when another follows", () => {
  using bench = new BalloonBench({
    regions: [
      { page: 256, pages: 4, fd: 3, offset: 8192 },
      { page: 260, pages: 4, fd: 4, offset: 4096 },
    ],
  });
  bench.inflate(258, 259, 260, 261);
  assertEquals(bench.pages.holes, [
    { fd: 3, offset: 16384, length: 8192 },
    { fd: 4, offset: 4096, length: 8192 },
  ]);
});

ringTest(
  "a list may be cut anywhere, and is as long as whole entries go",
  () => {
    using bench = new BalloonBench();
    const bytes = pfns(256, 257, 300);
    bench.submit(
      0,
      { readable: bytes.slice(0, 3) },
      {
        readable: bytes.slice(3, 9),
      },
      { readable: bytes.slice(9) },
      { writable: 8 },
    );
    assertEquals(bench.pages.takePages(), [[0, 2], [44, 1]]);
    assertEquals(bench.counters.refused, {});
    for (const size of [0, 1, 3, 5, 7]) {
      bench.submit(0, { readable: pfns(400, 401).slice(0, size) }, {
        writable: 1,
      });
    }
    assertEquals(bench.pages.takePages(), [[144, 1], [144, 1]]);
    assertEquals(bench.counters.refused, { length: 5 });
  },
);

ringTest(
  "a list of any length is worked on in steps, others in between",
  () => {
    using bench = new BalloonBench();
    const pages = Array.from({ length: 3000 }, (_, i) => 256 + i % 1024);
    bench.offer(0, [{ readable: pfns(...pages) }]);
    bench.offer(1, [{ readable: pfns(256) }]);
    bench.turn();
    assertEquals(bench.drivers[0].reap().length, 0);
    assertEquals(bench.drivers[1].reap().length, 1);
    assertEquals(bench.pages.takePages(), [[0, 256], [256, 256]]);
    let turns = 0;
    while (bench.drivers[0].reap().length === 0) {
      bench.turn();
      turns++;
      assert(turns < 100);
    }
    assertEquals(turns, 10);
    assertEquals(bench.counters.inflatedPages, 3000);
    assertEquals(bench.device.poll(), 0);
  },
);

ringTest("a ring that stops gets its chain back, and brings it again", () => {
  using bench = new BalloonBench();
  const pages = Array.from({ length: 1024 }, (_, i) => 256 + i);
  const token = bench.offer(0, [{ readable: pfns(...pages) }]);
  bench.turn();
  assertEquals(bench.queues[0].inFlight, 1);
  bench.device.quiesce(bench.queues[0]);
  assertEquals(bench.queues[0].inFlight, 0);
  assertEquals(bench.device.poll(), 0);
  for (let i = 0; i < 10; i++) bench.turn();
  assertEquals(bench.drivers[0].reap().map((done) => done.token), [token]);
  assertEquals(bench.device.status().reclaimed, 4 << 20);
});

ringTest("a ring that starts where it did not stop is another driver's", () => {
  for (const reset of [false, true]) {
    using bench = new BalloonBench();
    const { device, queues } = bench;
    bench.inflate(256, 257);
    bench.writeConfig(0, space(0, 2, 7));
    device.quiesce(queues[0]);
    const position = reset ? 0 : queues[0].position;
    device.start({ index: 0, position });
    const { reclaimed, actual, poison } = device.status();
    assertEquals([reclaimed, actual], reset ? [0, 0] : [8192, 8192]);
    assertEquals(poison, 7, "a driver writes it before its rings start");
  }
});

ringTest("reports go back, whole pages of each range", () => {
  using bench = new BalloonBench();
  bench.report([256, 512], [1000, 1]);
  assertEquals(bench.pages.takePages(), [[0, 512], [744, 1]]);
  bench.submit(4, { address: 256 * 4096 + 1, length: 3 * 4096, write: true });
  assertEquals(bench.pages.takePages(), [[1, 2]]);
  bench.submit(3, { address: 256 * 4096 + 1, length: 4095, write: true });
  assertEquals(bench.pages.takePages(), []);
  assertEquals(bench.counters.keptBytes, 4096 + 4095);
  assertEquals(bench.device.status().reclaimed, 0, "that is the balloon's");
});

ringTest("what a driver only lets read is not reported", () => {
  using bench = new BalloonBench();
  bench.submit(
    3,
    { address: 256 * 4096, length: 4096, write: false },
    { address: 300 * 4096, length: 4096, write: true },
  );
  assertEquals(bench.pages.takePages(), [[44, 1]]);
});

ringTest("a report of any length is worked on in steps", () => {
  const region = { page: 2 ** 18, pages: 2 ** 15, fd: 3 };
  using bench = new BalloonBench({ regions: [region] });
  const address = region.page * 4096, length = region.pages * 4096;
  bench.offer(3, [{ address, length, write: true }]);
  bench.turn();
  assertEquals(bench.drivers[3].reap().length, 1);
  assertEquals(bench.pages.takePages(), [[0, 16384], [16384, 16384]]);
});

ringTest("which queue has reports depends on who counts", () => {
  for (
    const [features, queues] of [
      [REPORTING | STATS, [3, 4]],
      [REPORTING, [2, 3, 4]],
      [STATS, []],
      [0n, []],
    ] as const
  ) {
    using bench = new BalloonBench({ features });
    const reporting: number[] = [];
    for (const queue of [2, 3, 4]) {
      bench.offer(queue, [{ address: 256 * 4096, length: 4096, write: true }]);
      bench.turn();
      if (bench.pages.takePages().length > 0) reporting.push(queue);
    }
    assertEquals(reporting, [...queues]);
    const unknown = 3 - queues.length - (features & STATS ? 1 : 0);
    assertEquals(
      bench.counters.refused,
      unknown === 0 ? {} : { queue: unknown },
    );
  }
});

ringTest("poisoned pages keep what is in them", () => {
  const all = REPORTING | STATS | POISON;
  for (
    const [features, poison, kept] of [
      [all, 0xaaaaaaaa, true],
      [all, 0, false],
      [REPORTING | STATS, 0xaaaaaaaa, false],
    ] as const
  ) {
    using bench = new BalloonBench({ features });
    bench.writeConfig(0, space(0, 0, poison));
    bench.report([256, 1]);
    assertEquals(bench.pages.takePages().length, kept ? 0 : 1);
    bench.inflate(256);
    assertEquals(bench.pages.takePages().length, 1, "the balloon is another");
    bench.device.reset();
    bench.device.negotiate(features);
    bench.report([256, 1]);
    assertEquals(bench.pages.takePages().length, 1);
  }
});

ringTest("the poison may be written before the features are known", () => {
  using bench = new BalloonBench({ features: 0n });
  bench.writeConfig(12, pfns(0x01010101));
  bench.device.negotiate(REPORTING | STATS | POISON);
  bench.report([256, 1]);
  assertEquals(bench.pages.takePages(), []);
  assertEquals(bench.device.status().poison, 0x01010101);
});

ringTest("a driver writes actual and poison_val, and nothing else", () => {
  using bench = new BalloonBench({ balloon: { size: 5 * 4096 } });
  const { device } = bench;
  bench.writeConfig(0, space(77, 0x01020304, 6));
  assertEquals([...new Uint32Array(device.config.buffer)], [
    5,
    0x1020304,
    0,
    6,
  ]);
  bench.writeConfig(0, space(77, 8).subarray(0, 8));
  assertEquals([...new Uint32Array(device.config.buffer)], [5, 8, 0, 6]);
  bench.writeConfig(6, Uint8Array.of(1, 2, 3));
  assertEquals(new Uint32Array(device.config.buffer)[1], 0x02010008);
  device.reset();
  assertEquals([...new Uint32Array(device.config.buffer)], [5, 0, 0, 0]);
});

ringTest("nothing is given back while writes are logged", () => {
  using bench = new BalloonBench();
  bench.device.logWrites(true);
  bench.inflate(256, 257);
  bench.report([300, 8]);
  assertEquals(bench.pages.takePages(), []);
  // What was reported is the driver's again; what is in the balloon can wait.
  assertEquals(bench.counters.keptBytes, 8 * 4096);
  const { inhibited, waiting, reclaimed } = bench.device.status();
  assertEquals([inhibited, waiting, reclaimed], [true, 2 * 4096, 0]);
  bench.deflate(257);
  bench.device.logWrites(false);
  bench.turn();
  assertEquals(bench.pages.takePages(), [[0, 1]]);
  assertEquals(bench.device.status().reclaimed, 4096);
  assertEquals(bench.device.status().waiting, 0);
  assertEquals(bench.counters.inflatedPages, 2);
});

ringTest("pages wait for the end of logging, and go some in each turn", () => {
  using bench = new BalloonBench();
  bench.device.logWrites(true);
  for (let page = 256; page < 1280; page += 256) {
    bench.inflate(...Array.from({ length: 256 }, (_, i) => page + i));
  }
  bench.turn();
  assertEquals(bench.pages.takePages(), []);
  bench.device.logWrites(false);
  assertEquals(bench.device.poll(), 1);
  assertEquals(bench.pages.takePages(), [[0, 512]]);
  assertEquals(bench.device.poll(), 1);
  assertEquals(bench.pages.takePages(), [[512, 512]]);
  assertEquals(bench.device.poll(), 0);
  assertEquals(bench.device.status().reclaimed, 1024 * 4096);
});

ringTest(
  "what waits is forgotten with a reset, and rests while no ring runs",
  () => {
    using bench = new BalloonBench();
    bench.device.logWrites(true);
    bench.inflate(256, 257);
    bench.device.deactivate();
    bench.device.logWrites(false);
    assertEquals(bench.device.poll(), 0);
    bench.device.logWrites(true);
    bench.device.activate();
    bench.device.reset();
    bench.device.logWrites(false);
    assertEquals([bench.device.poll(), bench.device.status().waiting], [0, 0]);
    assertEquals(bench.pages.takePages(), []);
  },
);

ringTest("a driver that takes pages out unasked gets none taken later", () => {
  using bench = new BalloonBench({ features: 1n << 32n });
  bench.device.logWrites(true);
  bench.inflate(256);
  bench.device.logWrites(false);
  bench.turn();
  assertEquals(bench.pages.takePages(), []);
  assertEquals(bench.counters.keptBytes, 4096);
});

ringTest("memory that is no shared file is kept, and named", () => {
  using bench = new BalloonBench({
    regions: [
      { page: 256, pages: 4, fd: 3, offset: 512 },
      { page: 1024, pages: 4, fd: 4 },
    ],
  });
  assertMatch(
    bench.lines.join("\n"),
    /^warn Cannot give back the 16384 bytes of guest memory at 0x100000: its pages do not lie at pages of the file \(offset 512\); share a memfd.*$/,
  );
  bench.inflate(256, 257, 1024);
  bench.report([258, 1]);
  assertEquals(bench.pages.holes.map(({ fd }) => fd), [4]);
  bench.deflate(256, 257);
  assertEquals(bench.device.status().reclaimed, 4096);
  bench.pages.objections.set(5, "it belongs to a character device");
  bench.addRegion({ page: 4096, pages: 4, fd: 5 });
  bench.inflate(4096);
  assertMatch(bench.lines[1], /0x1000000: it belongs to a character/);
  assertEquals(bench.lines.length, 2);
});

ringTest("regions without end make no log without end", () => {
  using bench = new BalloonBench({ regions: [] });
  for (let i = 0; i < 200; i++) {
    bench.addRegion({ page: 256 + i, pages: 1 });
    bench.inflate(256 + i);
    bench.memory.remove((256 + i) * 4096, 4096);
  }
  assertEquals(bench.lines.length, 64);
});

ringTest(
  "a hole that fails is told of once, and is not counted as given back",
  () => {
    using bench = new BalloonBench();
    bench.pages.errno = Errno.EPERM;
    bench.inflate(256, 257);
    bench.inflate(258);
    assertEquals(bench.lines, [
      "warn Cannot give back 8192 bytes at guest address 0x100000: " +
      "Operation not permitted (EPERM)",
    ]);
    assertEquals(bench.counters.errors, { EPERM: 2 });
    assertEquals(bench.device.status().reclaimed, 0);
    bench.pages.errno = 0;
    bench.inflate(256, 257);
    assertEquals(bench.device.status().reclaimed, 8192);
  },
);

ringTest("a chain of too many descriptors is answered without effect", () => {
  using bench = new BalloonBench({ ringSize: 256 });
  const buffers = Array.from(
    { length: 129 },
    () => ({ readable: pfns(256) }),
  );
  assertEquals(bench.submit(0, ...buffers).length, 0);
  assertEquals(bench.pages.takePages(), []);
  assertEquals(bench.counters.refused, { segments: 1 });
  bench.submit(0, ...buffers.slice(1));
  assertEquals(bench.pages.takePages(), [[0, 1]]);
});

ringTest("every answer is notified, whatever the driver asks for", () => {
  using bench = new BalloonBench();
  bench.drivers[0].disableInterrupt();
  bench.offer(0, [{ readable: pfns(256) }]);
  bench.device.serve(bench.queues[0], 8);
  assert(bench.queues[0].publish());
});

ringTest("every feature has a switch", () => {
  for (
    const [option, bit] of [
      ["mustTellHost", 0],
      ["stats", 1],
      ["deflateOnOom", 2],
      ["pagePoison", 4],
      ["pageReporting", 5],
    ] as const
  ) {
    using on = new BalloonBench();
    assert(hasFeature(on.device.features, bit), option);
    assert(!hasFeature(on.device.features, 3), "hints are not offered");
    using off = new BalloonBench({ balloon: { [option]: false } });
    assertEquals(on.device.features ^ off.device.features, featureMask(bit));
  }
});
