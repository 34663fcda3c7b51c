import { assert, assertEquals } from "@std/assert";
import type { FakeBuffer } from "../../virtqueue/testing/driver.ts";
import {
  MAX_DISCARD_SECTORS,
  MAX_DISCARD_SEGMENTS,
  MAX_WRITE_ZEROES_SECTORS,
  MAX_WRITE_ZEROES_SEGMENTS,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import {
  type Answer,
  BlkBench,
  header,
  join,
  pattern,
  ranges,
} from "./testing/bench.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";
import { imageTest, storageTest } from "../storage/testing/engines.ts";

const MEBIBYTE = 2 ** 20;
const SECTORS = MEBIBYTE / 512;
const TYPES = [
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_WRITE_ZEROES,
];

/** The answer to a request that failed: a status, and nothing else written. */
function assertFailed(answer: Answer, status: number, message?: string): void {
  assertEquals(answer.status, status, message);
  assertEquals(answer.length, 1, message);
  assert(answer.data.every((byte) => byte === 0xff), message);
}

/** Neither the image nor the device took harm. */
function assertUnharmed(bench: BlkBench): void {
  assertEquals(bench.image(), pattern(MEBIBYTE, 1));
  assertEquals(bench.read(0, 512).status, VIRTIO_BLK_S_OK);
  assertEquals(bench.queues[0].broken, null);
}

storageTest("BlkDevice refuses what lies beyond the capacity", () => {
  using bench = new BlkBench();
  const cases: [number, number][] = [
    [SECTORS, 512],
    [SECTORS - 1, 1024],
    [SECTORS - 7, 4096],
    [0, MEBIBYTE + 512],
    [2 ** 32, 512],
    [2 ** 44, 512],
    [2 ** 53 - 2, 512],
    [2 ** 53, 512],
    [2 ** 55, 512],
    // Times 512 these would wrap to sector 0 in 64 bits.
    [2 ** 63, 512],
    [(2 ** 32 - 1) * 2 ** 32, 512],
  ];
  for (const [sector, length] of cases) {
    const name = `${sector} ${length}`;
    assertFailed(bench.read(sector, length), VIRTIO_BLK_S_IOERR, name);
    assertFailed(
      bench.write(sector, new Uint8Array(length)),
      VIRTIO_BLK_S_IOERR,
      name,
    );
  }
  assertEquals(bench.requests.refused, { outOfRange: 2 * cases.length });
  assertUnharmed(bench);
});

storageTest("BlkDevice refuses parts of blocks", () => {
  for (const blockSize of [512, 4096]) {
    using bench = new BlkBench({ blk: { blockSize } });
    const lengths = [1, 511, 513, blockSize - 1, blockSize + 1, 2 * 4096 - 256];
    if (blockSize === 4096) lengths.push(512, 4096 + 512);
    for (const length of lengths) {
      assertFailed(bench.read(0, length), VIRTIO_BLK_S_IOERR);
      assertFailed(bench.write(0, pattern(length, 3)), VIRTIO_BLK_S_IOERR);
    }
    let count = 2 * lengths.length;
    for (const sector of blockSize === 4096 ? [1, 7, 9] : []) {
      assertFailed(bench.read(sector, 4096), VIRTIO_BLK_S_IOERR);
      assertFailed(bench.write(sector, pattern(4096, 3)), VIRTIO_BLK_S_IOERR);
      for (const [first, n] of [[sector, 8], [0, sector]]) {
        const bytes = ranges([first, n]);
        for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
          assertFailed(bench.request(type, bytes), VIRTIO_BLK_S_IOERR);
          count++;
        }
      }
      count += 2;
    }
    assertEquals(bench.requests.refused, { misaligned: count });
    assertEquals(bench.read(8, 4096).status, VIRTIO_BLK_S_OK);
    assertEquals(bench.image(), pattern(MEBIBYTE, 1));
  }
});

storageTest("BlkDevice answers empty reads and writes", () => {
  using bench = new BlkBench();
  for (const type of [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT]) {
    const answer = bench.submit([
      { readable: header(type, 0) },
      { writable: 1 },
    ]);
    assertEquals(answer.status, VIRTIO_BLK_S_OK);
    assertEquals(answer.length, 1);
    assertFailed(
      bench.submit([
        { readable: header(type, SECTORS + 1) },
        { writable: 1 },
      ]),
      VIRTIO_BLK_S_IOERR,
    );
  }
  assertUnharmed(bench);
});

storageTest("BlkDevice writes nothing to a read-only image", () => {
  using bench = new BlkBench({ blk: { readonly: true } });
  assertFailed(bench.write(0, pattern(512, 2)), VIRTIO_BLK_S_IOERR);
  for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
    assertFailed(bench.request(type, ranges([0, 8])), VIRTIO_BLK_S_IOERR);
  }
  assertEquals(bench.requests.refused, { readOnly: 3 });
  assertEquals(bench.request(VIRTIO_BLK_T_FLUSH).status, VIRTIO_BLK_S_OK);
  assertUnharmed(bench);
});

storageTest(
  "BlkDevice answers chains without room for a status with nothing",
  () => {
    using bench = new BlkBench();
    for (const type of [...TYPES, 77]) {
      for (const payload of [0, 512]) {
        const answer = bench.submit([
          { readable: header(type, 0) },
          { readable: new Uint8Array(payload) },
        ]);
        assertEquals(answer, {
          status: -1,
          data: new Uint8Array(),
          length: 0,
        });
      }
    }
    assertEquals(bench.requests.refused, { noStatus: 2 * (TYPES.length + 1) });
    assertUnharmed(bench);
  },
);

storageTest("BlkDevice refuses headers that are too short", () => {
  using bench = new BlkBench();
  for (let length = 0; length < 16; length++) {
    for (const type of TYPES) {
      const readable = header(type, 0).slice(0, length);
      const buffers: FakeBuffer[] = [{ readable }, { writable: 513 }];
      assertFailed(
        bench.submit(length === 0 ? buffers.slice(1) : buffers),
        VIRTIO_BLK_S_IOERR,
        `${length} bytes of type ${type}`,
      );
    }
  }
  assertEquals(bench.requests.refused, { shortHeader: 16 * TYPES.length });
  assertUnharmed(bench);
});

storageTest("BlkDevice takes seg_max segments and no more", () => {
  for (const segMax of [1, 2, 126, 200]) {
    using bench = new BlkBench({ blk: { segMax } });
    const data = (count: number, writable: boolean): FakeBuffer[] =>
      // Apart from each other, so that no two can be one.
      Array.from({ length: count }, () => {
        bench.memory.allocate(512);
        const address = bench.memory.allocate(512);
        return { address, length: 512, write: writable };
      });
    const read = (count: number) =>
      bench.submit([
        { readable: header(VIRTIO_BLK_T_IN, 0) },
        ...data(count, true),
        { writable: 1 },
      ], true);
    const write = (count: number) =>
      bench.submit([
        { readable: header(VIRTIO_BLK_T_OUT, 0) },
        ...data(count, false),
        { writable: 1 },
      ], true);
    assertEquals(read(segMax).status, VIRTIO_BLK_S_OK);
    assertEquals(write(segMax).status, VIRTIO_BLK_S_OK);
    const over = [1, 2, 15, 16, 17, 18, 40, 1000];
    for (const more of over) {
      const name = `${segMax} and ${more}`;
      for (const answer of [read(segMax + more), write(segMax + more)]) {
        assertEquals(answer.status, VIRTIO_BLK_S_IOERR, name);
        assertEquals(answer.length, 1, name);
      }
    }
    assertEquals(bench.requests.refused, { tooManySegments: 2 * over.length });
    // Also a type that looks at no data.
    assertEquals(
      bench.submit([
        { readable: header(VIRTIO_BLK_T_FLUSH, 0) },
        ...data(segMax + 1000, true),
        { writable: 1 },
      ], true).status,
      VIRTIO_BLK_S_IOERR,
    );
    assertEquals(read(segMax).status, VIRTIO_BLK_S_OK);
  }
});

ringTest("BlkDevice keeps the limits of discards and write zeroes", () => {
  const storage = new FakeStorage(0);
  storage.immediate = true;
  storage.capacity = 2 ** 42;
  using bench = new BlkBench({ storage });
  const limits = [
    [VIRTIO_BLK_T_DISCARD, MAX_DISCARD_SECTORS, MAX_DISCARD_SEGMENTS],
    [
      VIRTIO_BLK_T_WRITE_ZEROES,
      MAX_WRITE_ZEROES_SECTORS,
      MAX_WRITE_ZEROES_SEGMENTS,
    ],
  ];
  const sectors = 2 ** 42 / 512;
  for (const [type, most, segments] of limits) {
    const refused = (bytes: Uint8Array, status: number, name: string) => {
      const before = storage.log.length;
      assertFailed(bench.request(type, bytes), status, `${type} ${name}`);
      assertEquals(storage.log.length, before, `${type} ${name}`);
    };
    const list = (n: number): [number, number][] =>
      Array.from({ length: n }, (_, i) => [8 * i, 8]);
    refused(new Uint8Array(), VIRTIO_BLK_S_IOERR, "no range");
    refused(new Uint8Array(15), VIRTIO_BLK_S_IOERR, "15 bytes");
    refused(
      join(ranges([0, 8]), new Uint8Array(8)),
      VIRTIO_BLK_S_IOERR,
      "24 bytes",
    );
    refused(ranges(...list(segments + 1)), VIRTIO_BLK_S_IOERR, "ranges");
    refused(ranges([0, most + 1]), VIRTIO_BLK_S_IOERR, "sectors");
    refused(ranges([0, 0xffff_ffff]), VIRTIO_BLK_S_IOERR, "all sectors");
    refused(ranges([sectors, 8]), VIRTIO_BLK_S_IOERR, "beyond");
    refused(ranges([sectors - 7, 8]), VIRTIO_BLK_S_IOERR, "over the end");
    refused(ranges([2 ** 63, 8]), VIRTIO_BLK_S_IOERR, "far beyond");
    refused(ranges([0, 8], [sectors, 8]), VIRTIO_BLK_S_IOERR, "second");
    for (let bit = 1; bit < 32; bit++) {
      const flags = 2 ** bit;
      refused(ranges([0, 8, flags]), VIRTIO_BLK_S_UNSUPP, `bit ${bit}`);
    }
    // A flag counts wherever it is, and more than a bad range.
    refused(
      ranges([sectors, 8], [0, 8, 2]),
      VIRTIO_BLK_S_UNSUPP,
      "flag of the second",
    );
    // The largest that is allowed is done.
    const before = storage.log.length;
    storage.errors.push(5);
    assertFailed(bench.request(type, ranges([0, most])), VIRTIO_BLK_S_IOERR);
    assertEquals(storage.log.length, before + 1);
    assertEquals(storage.log[before].length, most * 512);
  }
  assertFailed(
    bench.request(VIRTIO_BLK_T_DISCARD, ranges([0, 8, 1])),
    VIRTIO_BLK_S_UNSUPP,
  );
});

storageTest("BlkDevice does every range of the largest request", () => {
  using bench = new BlkBench();
  const list = Array.from(
    { length: MAX_DISCARD_SEGMENTS },
    (_, i): [number, number] => [64 * i, 8],
  );
  assertEquals(
    bench.request(VIRTIO_BLK_T_DISCARD, ranges(...list)).status,
    VIRTIO_BLK_S_OK,
  );
  const expected = pattern(MEBIBYTE, 1);
  for (const [at] of list) expected.fill(0, at * 512, at * 512 + 4096);
  assertEquals(bench.image(), expected);
});

storageTest(
  "BlkDevice serves no discards and zeroes that are switched off",
  () => {
    using bench = new BlkBench({ blk: { discard: false, writeZeroes: false } });
    for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
      assertFailed(bench.request(type, ranges([0, 8])), VIRTIO_BLK_S_UNSUPP);
    }
    assertUnharmed(bench);
  },
);

storageTest(
  "BlkDevice gives no space back when discards are switched off",
  () => {
    using bench = new BlkBench({ blk: { discard: false } });
    assertEquals(bench.request(VIRTIO_BLK_T_FLUSH).status, VIRTIO_BLK_S_OK);
    const before = Deno.statSync(bench.path).blocks!;
    assertEquals(
      bench.request(VIRTIO_BLK_T_WRITE_ZEROES, ranges([256, 256, 1])).status,
      VIRTIO_BLK_S_OK,
    );
    assert(Deno.statSync(bench.path).blocks! >= before);
    assertEquals(bench.image(131072, 131072), new Uint8Array(131072));
  },
);

imageTest(
  "BlkDevice stays usable when the image is truncated or fails",
  () => {
    using bench = new BlkBench();
    Deno.truncateSync(bench.path, MEBIBYTE / 2);
    assertFailed(bench.read(1536, 4096), VIRTIO_BLK_S_IOERR);
    assertEquals(bench.requests.errors, { EIO: 1 });
    assertEquals(bench.read(0, 4096).status, VIRTIO_BLK_S_OK);
    assertEquals(bench.write(1536, pattern(4096, 7)).status, VIRTIO_BLK_S_OK);
    assertEquals(bench.read(1536, 4096).data, pattern(4096, 7));

    const storage = new FakeStorage(MEBIBYTE);
    storage.immediate = true;
    using failing = new BlkBench({ storage });
    for (const errno of [28, 5, 28, 122]) {
      storage.errors.push(errno);
      assertFailed(failing.write(0, pattern(512, 1)), VIRTIO_BLK_S_IOERR);
      storage.errors.push(errno);
      assertFailed(failing.read(0, 512), VIRTIO_BLK_S_IOERR);
      storage.errors.push(errno);
      assertFailed(failing.request(VIRTIO_BLK_T_FLUSH), VIRTIO_BLK_S_IOERR);
    }
    assertEquals(failing.requests.errors, { ENOSPC: 6, EIO: 3, EDQUOT: 3 });
    assertEquals(failing.requests.reads, 0);
    assertEquals(failing.requests.writes, 0);
    assertEquals(failing.requests.flushes, 0);
    assertEquals(failing.read(0, 512).status, VIRTIO_BLK_S_OK);
  },
);
