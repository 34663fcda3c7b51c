import { assert, assertEquals, assertThrows } from "@std/assert";
import { DataFile } from "../../sys/file.ts";
import { pattern } from "../storage/testing/buffers.ts";
import type { OpenChain } from "../../virtqueue/chain.ts";
import { lunField, requestHead, ScsiBench } from "./testing/bench.ts";
import { FIRST_REQUEST_QUEUE, Response } from "./protocol.ts";
import { imageTest } from "../storage/testing/engines.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const be = (value: number, width: number) =>
  Array.from(
    { length: width },
    (_, i) => Math.floor(value / 256 ** (width - 1 - i)) % 256,
  );
const read = (lba: number, blocks: number) => [
  ...[0x28, 0, ...be(lba, 4), 0, ...be(blocks, 2), 0],
];
const write = (lba: number, blocks: number) => [
  ...[0x2a, 0, ...be(lba, 4), 0, ...be(blocks, 2), 0],
];
const TUR = [0, 0, 0, 0, 0, 0];
const INQUIRY = [0x12, 0, 0, 0, 36, 0];
const IMAGE = pattern(2 ** 20, 1);

imageTest(`a driver reads and writes a disk`, () => {
  using directory = new ScsiBench();
  const path = directory.image("other.img");
  using bench = new ScsiBench({ scsi: { path } });
  bench.clearAttentions();
  const answer = bench.run(read(16, 8), { room: 4096 });
  assertEquals([answer.response, answer.status], [0, 0]);
  assertEquals([answer.residual, answer.length], [0, 108 + 4096]);
  assertEquals(answer.data, IMAGE.slice(8192, 12288));
  const out = pattern(65536, 3);
  const written = bench.run(write(64, 128), { out });
  assertEquals([written.status, written.length], [0, 108]);
  assertEquals(Deno.readFileSync(path).slice(32768, 98304), out);
  const flushed = bench.run([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(flushed.status, 0);
});

imageTest("requests and responses may be cut anywhere", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  const head = requestHead(read(16, 8));
  const layouts: [number[], number[]][] = [
    [[51], [108, 4096]],
    [[1, 50], [4204]],
    [[8, 8, 3, 32], [1, 107, 4095, 1]],
    [new Array(51).fill(1), [12, 96, ...new Array(8).fill(512)]],
  ];
  for (const [readable, writable] of layouts) {
    let at = 0;
    const token = bench.offer(FIRST_REQUEST_QUEUE, [
      ...readable.map((n) => ({ readable: head.slice(at, at += n) })),
      ...writable.map((n) => ({ writable: n })),
    ]);
    const { data, length } = bench.complete(FIRST_REQUEST_QUEUE, token);
    assertEquals(length, 4204);
    assertEquals([data[10], data[11]], [0, 0]);
    assertEquals(data.slice(108), IMAGE.slice(8192, 12288));
  }
});

imageTest("residuals and overruns", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  const short = bench.run(read(0, 1), { room: 4096 });
  assertEquals([short.residual, short.length], [3584, 620]);
  assertEquals(bench.run(INQUIRY, { room: 255 }).residual, 255 - 36);
  const overrun = bench.run(read(0, 2), { room: 512 });
  assertEquals([overrun.response, overrun.residual, overrun.length], [
    Response.OVERRUN,
    512,
    108,
  ]);
  const bad = bench.run(read(99999, 1), { room: 512 });
  assertEquals([bad.response, bad.status, bad.residual], [0, 2, 512]);
  assertEquals(bad.sense, { key: 5, asc: 0x2100, information: 99999 });
  // Data-Out of which nothing is wanted.
  const spare = bench.run(TUR, { out: new Uint8Array(10) });
  assertEquals(spare.residual, 10);
});

imageTest("targets and logical units are found by their field", () => {
  using images = new ScsiBench();
  const luns = [[0, 0], [0, 5], [0, 300], [7, 0], [255, 16383]].map(
    ([target, lun], i) => ({
      target,
      lun,
      path: images.image(`${i}.img`),
      serial: `S${target}-${lun}`,
    }),
  );
  using bench = new ScsiBench({ scsi: { luns } });
  for (const { target, lun, serial } of luns) {
    const page = bench.run([0x12, 1, 0x80, 0, 255, 0], {
      target,
      lun,
      room: 255,
    });
    assertEquals(String.fromCharCode(...page.data.slice(4)), serial);
  }
  // Flat addressing of a small number is the same logical unit.
  const flat = bench.run([0x12, 1, 0x80, 0, 255, 0], {
    field: [1, 0, 0x40, 5, 0, 0, 0, 0],
    room: 255,
  });
  assertEquals(String.fromCharCode(...flat.data.slice(4)), "S0-5");
  const absent = bench.run(INQUIRY, { target: 7, lun: 1, room: 36 });
  assertEquals([absent.response, absent.data[0]], [0, 0x7f]);
  const unready = bench.run(TUR, { target: 7, lun: 1 });
  assertEquals(unready.sense, { key: 5, asc: 0x2500 });
  for (
    const field of [
      lunField(3, 0),
      lunField(256, 0),
      [0, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 0, 0, 0, 0, 0, 0],
      [0xc1, 2, 0, 0, 0, 0, 0, 0],
    ]
  ) {
    const { response, residual } = bench.run(INQUIRY, { field, room: 36 });
    if (field[1] === 256) continue;
    assertEquals([response, residual], [Response.BAD_TARGET, 36], `${field}`);
  }
  // Another addressing method is no logical unit.
  const extended = bench.run(TUR, { field: [1, 0, 0xc0, 0, 0, 0, 0, 0] });
  assertEquals(extended.sense, { key: 5, asc: 0x2500 });
  // The well-known logical unit tells of all.
  const all = bench.run([0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], {
    field: [0xc1, 1, 0, 0, 0, 0, 0, 0],
    room: 4096,
  });
  assertEquals(all.data.length, 48);
  assertEquals([...all.data.slice(40)], [1, 255, 0x7f, 0xff, 0, 0, 0, 0]);
  const target = bench.run([0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], {
    room: 4096,
  });
  assertEquals(target.data.length, 8 + 3 * 8);
});

imageTest("the configuration space is what the standard wants", () => {
  using images = new ScsiBench();
  const scsi = { path: images.image("a.img"), queues: 4, segMax: 30 };
  using bench = new ScsiBench({ scsi });
  const { config } = bench.device;
  const view = new DataView(config.buffer);
  const words = [0, 4, 8, 12, 16, 20, 24].map((at) => view.getUint32(at, true));
  assertEquals(words, [4, 30, 0x2_0000, 128, 16, 96, 32]);
  assertEquals([view.getUint16(28, true), view.getUint16(30, true)], [0, 255]);
  assertEquals(view.getUint32(32, true), 16383);
  assertEquals(bench.device.queueCount, 6);
  assertEquals(bench.device.features, 6n);
});

imageTest("sense and CDB sizes are the driver's", () => {
  using bench = new ScsiBench();
  const { device } = bench.clearAttentions();
  const sizes = new Uint8Array(8);
  const view = new DataView(sizes.buffer);
  view.setUint32(0, 10, true);
  view.setUint32(4, 16, true);
  device.writeConfig(20, sizes);
  const options = { senseSize: 10, cdbSize: 16, room: 512 };
  const good = bench.run(read(1, 1), options);
  assertEquals([good.length, good.status], [22 + 512, 0]);
  assertEquals(good.data, IMAGE.slice(512, 1024));
  const token = bench.send([0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], options);
  const { data, length } = bench.complete(FIRST_REQUEST_QUEUE, token);
  // As much of the sense data as fits.
  assertEquals([length, data[0], data[12], data[14]], [22, 10, 0x70, 5]);
  // A whole configuration space, as generic front-ends write it.
  view.setUint32(0, 96, true);
  view.setUint32(4, 64, true);
  const whole = new Uint8Array(36).fill(0xee);
  whole.set(sizes, 20);
  device.writeConfig(0, whole);
  assertEquals([...device.config.slice(0, 4)], [1, 0, 0, 0]);
  assertEquals(bench.run(TUR, { cdbSize: 64 }).status, 0);
  // What is out of all proportion is not taken over.
  view.setUint32(0, 0xffff_ffff, true);
  view.setUint32(4, 0, true);
  device.writeConfig(20, sizes);
  assertEquals([device.senseSize, device.cdbSize], [96, 64]);
  device.reset();
  assertEquals([device.senseSize, device.cdbSize], [96, 32]);
});

imageTest("malformed requests are answered as far as they can be", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  const head = requestHead(TUR);
  const cases: [number[], number[], number][] = [
    [[50], [108], 108],
    [[51], [107], 0],
    [[51], [], 0],
    [[0], [108], 108],
    [[52], [109], 108],
  ];
  for (const [readable, writable, expected] of cases) {
    const token = bench.offer(FIRST_REQUEST_QUEUE, [
      ...readable.map((n) => ({
        readable: n > 51 ? new Uint8Array(n) : head.slice(0, n),
      })),
      ...writable.map((n) => ({ writable: n })),
    ]);
    const { length, data } = bench.complete(FIRST_REQUEST_QUEUE, token);
    assertEquals(length, expected);
    if (expected > 0) assertEquals(data[11], Response.FAILURE);
  }
  assertEquals(bench.run(TUR).status, 0);
  assertEquals(bench.device.metrics.malformed, cases.length);
});

imageTest("more buffers than seg_max are refused", () => {
  using images = new ScsiBench();
  using bench = new ScsiBench({
    scsi: { path: images.image("a.img"), segMax: 4 },
  });
  bench.clearAttentions();
  const run = (pieces: number) => {
    const token = bench.offer(FIRST_REQUEST_QUEUE, [
      { readable: requestHead(read(0, pieces)) },
      { writable: 108 },
      ...new Array(pieces).fill({ writable: 512 }),
    ]);
    return bench.complete(FIRST_REQUEST_QUEUE, token).data[11];
  };
  assertEquals(run(4), 0);
  assertEquals(run(30), Response.FAILURE);
  assertEquals(run(200), Response.FAILURE);
  assertEquals(run(1), 0);
});

imageTest("requests of several queues are answered on their own", () => {
  using images = new ScsiBench();
  using bench = new ScsiBench({
    scsi: { path: images.image("a.img"), queues: 3 },
  });
  bench.clearAttentions();
  for (const queue of [2, 0, 1]) {
    const answer = bench.run(read(queue, 1), { queue, room: 512 });
    assertEquals(answer.data, IMAGE.slice(queue * 512, queue * 512 + 512));
  }
});

ringTest(
  "READ and WRITE are one storage operation into the driver's memory",
  () => {
    using bench = new ScsiBench();
    const storage = bench.clearAttentions().fake();
    bench.send(read(8, 8), { room: 4096 });
    bench.turn();
    const { iovecs, count, offset, length } = storage.pending[0];
    assertEquals([storage.pending.length, count, offset, length], [
      1,
      1,
      4096,
      4096,
    ]);
    assert(iovecs > 0);
    storage.complete(0);
    bench.turn();
    assertEquals([...bench.reap().values()][0].status, 0);
  },
);

imageTest("status tells of logical units and what was counted", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  bench.run(read(0, 1), { room: 512 });
  bench.run(read(9999, 1), { room: 512 });
  bench.run(TUR, { target: 9 });
  const status = JSON.parse(JSON.stringify(bench.device.status()));
  assertEquals(status.luns.length, 1);
  const [lun] = status.luns;
  assertEquals([lun.capacity, lun.type, lun.cache], [
    2 ** 20,
    "disk",
    "writeback",
  ]);
  assertEquals(status.requests.commands, { "0x00": 1, "0x28": 2 });
  assertEquals(status.requests.statuses, { good: 1, checkCondition: 1 });
  assertEquals(status.requests.responses, { ok: 2, badTarget: 1 });
});

imageTest(
  "an image that cannot be served is refused, and nothing stays open",
  () => {
    using images = new ScsiBench();
    const good = images.image("a.img");
    const error = assertThrows(() =>
      new ScsiBench({
        scsi: { luns: [{ path: good }, { path: "/nonexistent", lun: 1 }] },
      }), Error);
    assert(error.message.includes('Cannot serve "/nonexistent"'));
    assertThrows(
      () =>
        new ScsiBench({
          scsi: { luns: [{ path: good }, { path: good, lun: 1 }] },
        }),
      Error,
      "twice",
    );
    // The first one can be served as if nothing had been.
    using bench = new ScsiBench({ scsi: { path: good } });
    assertEquals(bench.run(INQUIRY, { room: 36 }).status, 0);
  },
);

imageTest("two processes do not serve one image", () => {
  using images = new ScsiBench();
  const path = images.image("a.img");
  using bench = new ScsiBench({ scsi: { path } });
  const [{ storage }] = bench.device.status().luns as {
    storage: { path: string };
  }[];
  assertEquals(storage.path, path);
  // Another open image of this process stands for another process.
  const lines = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `import { openStorage } from "${new URL(
        "../storage/open.ts",
        import.meta.url,
      )}"; const s = openStorage({ path: ${JSON.stringify(path)} });
      try { s.acquire(); console.log("taken"); } catch (e) { console.log(e.kind); }`,
    ],
  }).outputSync();
  assertEquals(new TextDecoder().decode(lines.stdout).trim(), "locked");
});

imageTest(
  "the lock of an image lasts as long as what reads and writes it",
  async () => {
    using images = new ScsiBench();
    const path = images.image("a.img"), next = images.image("b.img");
    using bench = new ScsiBench({ scsi: { path, removable: true } });
    const locked = () =>
      (bench.device.status().luns as { storage: { locked: boolean } }[])
        .map(({ storage }) => storage.locked);
    assertEquals(locked(), [true]);
    await bench.device.command("change-medium", { path: next });
    assertEquals(locked(), [true]);
    // The image that was taken out is free.
    {
      using file = DataFile.open(path);
      assert(file.testLock("write", 100, 200));
    }
    bench.device.deactivate();
    assertEquals(locked(), [false]);
    bench.device.activate();
    assertEquals(locked(), [true]);
  },
);

imageTest(
  "what a predecessor may have done is done again only if that is the same",
  () => {
    using bench = new ScsiBench();
    bench.clearAttentions();
    const queue = bench.queues[2];
    const take = queue.take.bind(queue);
    queue.take = () => {
      const chain = take();
      if (chain !== null) (chain as OpenChain).resubmitted = true;
      return chain;
    };
    const image = () =>
      Deno.readFileSync(bench.image("disk.img")).slice(0, 512);
    const before = image();
    // COMPARE AND WRITE: if it was done, doing it again would miscompare.
    const out = new Uint8Array(1024);
    out.set(before);
    out.fill(7, 512);
    const compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    const aborted = bench.run(compare, { out });
    assertEquals([aborted.response, aborted.status, aborted.residual], [
      0,
      2,
      1024,
    ]);
    assertEquals(aborted.sense, { key: 0xb, asc: 0x2f02 });
    assertEquals(image(), before);
    // The next command tells it again, and then all is well.
    assertEquals(bench.run(TUR).sense, { key: 6, asc: 0x2f02 });
    assertEquals(bench.run(TUR).status, 0);
    // PERSISTENT RESERVE OUT and RESERVE (6).
    for (
      const cdb of [[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], [0x16, 0, 0, 0, 0, 0]]
    ) {
      const { sense } = bench.run(cdb, { out: new Uint8Array(24) });
      assertEquals(sense, { key: 0xb, asc: 0x2f02 });
      bench.clearAttentions();
    }
    // Reading and writing again is the same.
    assertEquals(bench.run(read(0, 1), { room: 512 }).data, before);
    assertEquals(
      bench.run([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], {
        out: new Uint8Array(512).fill(9),
      }).status,
      0,
    );
    assertEquals(image(), new Uint8Array(512).fill(9));
  },
);
