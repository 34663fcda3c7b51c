import { assert, assertEquals } from "@std/assert";
import type { FakeBuffer } from "../../virtqueue/testing/driver.ts";
import { ALL_ENGINES, storageTest } from "../storage/testing/engines.ts";
import { BlkBench, header, join, pattern, ranges } from "./testing/bench.ts";
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import { ringProfile } from "../../virtqueue/testing/ring_profile.ts";

const MEBIBYTE = 2 ** 20;

/** What every engine must do for a driver. */
function testDevice(name: string, fn: () => void): void {
  storageTest(name, fn, ALL_ENGINES);
}

testDevice("reads and writes", () => {
  using bench = new BlkBench();
  const image = pattern(MEBIBYTE, 1);
  for (const length of [512, 4096, 65536, MEBIBYTE / 2]) {
    const answer = bench.read(16, length);
    assertEquals(answer.status, VIRTIO_BLK_S_OK);
    assertEquals(answer.length, length + 1);
    assertEquals(answer.data, image.slice(8192, 8192 + length));
    const data = pattern(length, length);
    const written = bench.write(64, data);
    assertEquals(written, {
      status: VIRTIO_BLK_S_OK,
      data: new Uint8Array(),
      length: 1,
    });
    image.set(data, 32768);
    assertEquals(bench.image(), image);
  }
  assertEquals(bench.requests.reads, 4);
  assertEquals(bench.requests.writes, 4);
  assertEquals(bench.requests.bytesRead, bench.requests.bytesWritten);
  assertEquals(bench.requests.refused, {});
  assertEquals(bench.requests.errors, {});
});

testDevice("reads and writes the last sectors", () => {
  using bench = new BlkBench();
  assertEquals(bench.read(2040, 4096).status, VIRTIO_BLK_S_OK);
  assertEquals(
    bench.write(2040, pattern(4096, 3)).status,
    VIRTIO_BLK_S_OK,
  );
  assertEquals(bench.image(MEBIBYTE - 4096), pattern(4096, 3));
  assertEquals(bench.image().length, MEBIBYTE);
});

testDevice("takes any layout of a read", () => {
  using bench = new BlkBench();
  const data = pattern(MEBIBYTE, 1).slice(8192, 16384);
  const start = header(VIRTIO_BLK_T_IN, 16);
  const bytes = (from: number, to: number): FakeBuffer => ({
    readable: start.slice(from, to),
  });
  const headers: FakeBuffer[][] = [
    [bytes(0, 16)],
    [bytes(0, 1), bytes(1, 16)],
    [bytes(0, 7), bytes(7, 9), bytes(9, 16)],
    Array.from(start, (byte) => ({ readable: Uint8Array.of(byte) })),
    [{ readable: join(start, new Uint8Array(48)) }],
  ];
  const rest: number[][] = [
    [8192, 1],
    [8193],
    [1, 8192],
    [4096, 4096, 1],
    [4096, 4097],
    [512, 7, 7673, 1],
    Array.from({ length: 17 }, (_, i) => i === 16 ? 1 : 512),
  ];
  for (const head of headers) {
    for (const tail of rest) {
      for (const indirect of [false, true]) {
        const buffers = [...head, ...tail.map((writable) => ({ writable }))];
        const answer = bench.submit(buffers, indirect);
        assertEquals(answer.status, VIRTIO_BLK_S_OK);
        assertEquals(answer.length, 8193);
        assertEquals(answer.data, data);
      }
    }
  }
});

testDevice("takes any layout of a write", () => {
  using bench = new BlkBench();
  const layouts: number[][] = [
    [16, 8192],
    [8208],
    [8, 8, 8192],
    [3, 14, 8191],
    [16, 1, 8190, 1],
    [15, 4097, 4096],
    [20, 8188],
    Array.from({ length: 17 }, (_, i) => i === 0 ? 16 : 512),
  ];
  for (const [i, layout] of layouts.entries()) {
    for (const status of [[1], [7], [3, 1]]) {
      const data = pattern(8192, 10 + i);
      const whole = join(header(VIRTIO_BLK_T_OUT, 24), data);
      let at = 0;
      const buffers: FakeBuffer[] = layout.map((length) => ({
        readable: whole.slice(at, at += length),
      }));
      for (const writable of status) buffers.push({ writable });
      const answer = bench.submit(buffers);
      assertEquals(answer.status, VIRTIO_BLK_S_OK);
      assertEquals(answer.length, 1);
      assertEquals(bench.image(12288, 8192), data);
      bench.write(24, new Uint8Array(8192));
    }
  }
});

testDevice("flushes", () => {
  using bench = new BlkBench();
  const answer = bench.request(VIRTIO_BLK_T_FLUSH);
  assertEquals(answer.status, VIRTIO_BLK_S_OK);
  assertEquals(answer.length, 1);
  // Drivers that send a sector or data with it are served all the same.
  assertEquals(
    bench.request(VIRTIO_BLK_T_FLUSH, pattern(512, 1), 7).status,
    0,
  );
  assertEquals(bench.requests.flushes, 2);
});

testDevice("discards ranges and frees their space", () => {
  using bench = new BlkBench();
  const before = Deno.statSync(bench.path).blocks!;
  // The header's sector is not zero: FreeBSD leaves it so, and it is ignored.
  const one = bench.request(
    VIRTIO_BLK_T_DISCARD,
    ranges([256, 256]),
    99,
  );
  assertEquals(one, {
    status: VIRTIO_BLK_S_OK,
    data: new Uint8Array(),
    length: 1,
  });
  const after = Deno.statSync(bench.path).blocks!;
  assert(after <= before - 256, `${before} to ${after}`);
  const several = bench.request(
    VIRTIO_BLK_T_DISCARD,
    ranges([1024, 64], [0, 0], [1536, 64], [2040, 8]),
  );
  assertEquals(several.status, VIRTIO_BLK_S_OK);
  const expected = pattern(MEBIBYTE, 1);
  for (const [at, n] of [[256, 256], [1024, 64], [1536, 64], [2040, 8]]) {
    expected.fill(0, at * 512, (at + n) * 512);
  }
  assertEquals(bench.image(), expected);
  assertEquals(bench.requests.discards, 2);
  assertEquals(bench.requests.bytesDiscarded, (256 + 64 + 64 + 8) * 512);
});

testDevice("writes zeroes, with and without giving space back", () => {
  using bench = new BlkBench();
  const blocks = () => Deno.statSync(bench.path).blocks!;
  assertEquals(bench.request(VIRTIO_BLK_T_FLUSH).status, VIRTIO_BLK_S_OK);
  const before = blocks();
  const zero = (...list: [number, number, number][]) =>
    bench.request(VIRTIO_BLK_T_WRITE_ZEROES, ranges(...list));
  assertEquals(zero([256, 256, 0]), {
    status: VIRTIO_BLK_S_OK,
    data: new Uint8Array(),
    length: 1,
  });
  assert(blocks() >= before, `${before} to ${blocks()}`);
  assertEquals(zero([512, 256, 1], [1024, 8, 0], [1100, 4, 1]).status, 0);
  // The file system may need a block more to say so.
  assert(blocks() <= before - 256 + 64, `${before} to ${blocks()}`);
  const expected = pattern(MEBIBYTE, 1);
  for (const [at, n] of [[256, 512], [1024, 8], [1100, 4]]) {
    expected.fill(0, at * 512, (at + n) * 512);
  }
  assertEquals(bench.image(), expected);
  assertEquals(bench.requests.writeZeroes, 2);
  assertEquals(bench.requests.bytesZeroed, (512 + 8 + 4) * 512);
});

testDevice("serves several queues", () => {
  using bench = new BlkBench({ blk: { queues: 3 } });
  for (let queue = 0; queue < 3; queue++) {
    const data = pattern(4096, 50 + queue);
    bench.submit(
      [
        { readable: header(VIRTIO_BLK_T_OUT, 8 * queue) },
        { readable: data },
        { writable: 1 },
      ],
      false,
      queue,
    );
    assertEquals(bench.image(4096 * queue, 4096), data);
  }
  // All at once: no request's state is another's.
  const tokens = [0, 1, 2].map((queue) =>
    Array.from({ length: 8 }, (_, i) =>
      bench.offer(
        [
          { readable: header(VIRTIO_BLK_T_IN, 8 * (8 * queue + i)) },
          { writable: 4097 },
        ],
        false,
        queue,
      ))
  );
  bench.turn();
  const image = bench.image();
  for (let queue = 0; queue < 3; queue++) {
    const answers = bench.reap(queue);
    for (let i = 0; i < 8; i++) {
      const at = 4096 * (8 * queue + i);
      assertEquals(
        answers.get(tokens[queue][i])?.data,
        image.slice(at, at + 4096),
      );
    }
  }
});

storageTest("BlkDevice serves buffers that cross memory regions", () => {
  // Rings lie in the first region; buffers do not fit in what follows it.
  const regions = [2 ** 16, ...new Array(24).fill(4096), 2 ** 16];
  using bench = new BlkBench({ regions });
  const base = 0x10_0000 + 2 ** 16;
  const status = base + 24 * 4096;
  const data = pattern(MEBIBYTE, 1);
  const read = (at: number, length: number, sector: number) => {
    const token = bench.drivers[0].submit([
      { readable: header(VIRTIO_BLK_T_IN, sector) },
      { address: at, length, write: true },
      { address: status, length: 1, write: true },
    ]);
    bench.turn();
    return bench.reap().get(token)!;
  };
  const answer = read(base + 1, 4096, 8);
  assertEquals(answer.status, VIRTIO_BLK_S_OK);
  assertEquals(answer.data, data.slice(4096, 8192));
  assertEquals(read(base + 2048, 16384, 8).data, data.slice(4096, 20480));

  bench.memory.write(base + 100, pattern(12288, 9));
  const token = bench.drivers[0].submit([
    { readable: header(VIRTIO_BLK_T_OUT, 0) },
    { address: base + 100, length: 12288, write: false },
    { address: status, length: 1, write: true },
  ]);
  bench.turn();
  assertEquals(bench.reap().get(token)?.status, VIRTIO_BLK_S_OK);
  assertEquals(bench.image(0, 12288), pattern(12288, 9));
});

storageTest("BlkDevice counts a buffer that crosses regions as one", () => {
  const regions = [2 ** 16, 4096, 4096, 2 ** 16];
  using bench = new BlkBench({ regions, blk: { segMax: 1 } });
  const address = 0x10_0000 + 2 ** 16 + 4096 - 512, length = 1024;
  const run = (type: number, cuts: number[], more: FakeBuffer[]) => {
    let at = 0;
    const start = header(type, 8);
    const token = bench.drivers[0].submit([
      ...cuts.map((cut) => ({ readable: start.slice(at, at += cut) })),
      { address, length, write: type === VIRTIO_BLK_T_IN },
      ...more,
      { writable: 1 },
    ]);
    bench.turn();
    return bench.reap().get(token)!.status;
  };
  for (const cuts of [[16], [4, 12], [1, 2, 13]]) {
    assertEquals(run(VIRTIO_BLK_T_IN, cuts, []), VIRTIO_BLK_S_OK);
    assertEquals(run(VIRTIO_BLK_T_OUT, cuts, []), VIRTIO_BLK_S_OK);
    const other = { address: 0x10_0000 + 2 ** 16, length: 512 };
    for (const type of [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT]) {
      const write = type === VIRTIO_BLK_T_IN;
      assertEquals(run(type, cuts, [{ ...other, write }]), 1);
    }
  }
});

storageTest("BlkDevice has room for a header in bytes beside all data", () => {
  using bench = new BlkBench({ blk: { segMax: 3 } });
  const answer = bench.submit([
    ...Array.from(header(VIRTIO_BLK_T_IN, 0), (byte) => ({
      readable: Uint8Array.of(byte),
    })),
    { writable: 512 },
    { writable: 512 },
    { writable: 512 },
    { writable: 1 },
  ]);
  assertEquals(answer.status, VIRTIO_BLK_S_OK);
  assertEquals(answer.data, pattern(MEBIBYTE, 1).slice(0, 1536));
});

storageTest("BlkDevice hands out its ID into any room", () => {
  const serial = "12345678901234567890";
  for (
    const [text, room, expected, length] of [
      ["disk-1", 20, "disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 21],
      [serial, 20, serial, 21],
      [serial, 32, `${serial}${"\xff".repeat(12)}`, 21],
      [serial, 7, "1234567", 8],
      ["", 20, "\0".repeat(20), 21],
      [serial, 0, "", 1],
    ] as const
  ) {
    using bench = new BlkBench({ blk: { serial: text } });
    for (const buffers of [[room, 1], [room + 1], [1, room]]) {
      const answer = bench.submit([
        { readable: header(VIRTIO_BLK_T_GET_ID, 0) },
        ...buffers.map((writable) => ({ writable })),
      ]);
      assertEquals(answer.status, VIRTIO_BLK_S_OK);
      assertEquals(answer.length, length);
      assertEquals(String.fromCharCode(...answer.data), expected);
    }
  }
});

storageTest("BlkDevice answers every other type as unsupported", () => {
  using bench = new BlkBench();
  // SCSI commands, legacy FLUSH_OUT and barriers, lifetime, secure erase, zones.
  const types = [2, 3, 6, 7, 9, 10, 12, 14, 15, 16, 18, 20, 22, 24, 26];
  types.push(100, 0x7fff_ffff, 0xffff_ffff);
  // A legacy driver may send these.
  if (!ringProfile().legacy) types.push(5, 0x8000_0000, 0x8000_0001);
  for (const type of types) {
    const answer = bench.request(type, pattern(512, 2));
    assertEquals(answer.status, VIRTIO_BLK_S_UNSUPP, `type ${type}`);
    assertEquals(answer.length, 1);
  }
  assertEquals(bench.requests.refused, { unsupportedType: types.length });
  assertEquals(bench.image(), pattern(MEBIBYTE, 1));
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
});
