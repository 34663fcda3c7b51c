import { assert, assertEquals } from "@std/assert";
import { pattern } from "../../storage/testing/buffers.ts";
import { forEachEngine } from "../../storage/testing/engines.ts";
import { TargetBench } from "./testing/bench.ts";
import {
  bad,
  type BadCase,
  be,
  data,
  field,
  good,
  outOfRange,
  parameter,
} from "./testing/cases.ts";

const BLOCKS = 2048;
const IMAGE = pattern(2 ** 20, 1);
const READ_ONLY = { unit: { readOnly: true } };
const WRITE_PROTECTED = { key: 7, asc: 0x2700 };
const THICK = { unit: { thin: false } };

/** A CDB of READ, WRITE, VERIFY: 6, 10, 12 or 16 bytes. */
function cdb(
  opcode: number,
  lba: number,
  blocks: number,
  flags = 0,
): number[] {
  switch (opcode >> 5) {
    case 0:
      return [opcode, ...be(lba, 3), blocks, 0];
    case 4:
      return [opcode, flags, ...be(lba, 8), ...be(blocks, 4), 0, 0];
    case 5:
      return [opcode, flags, ...be(lba, 4), ...be(blocks, 4), 0, 0];
    default:
      return [opcode, flags, ...be(lba, 4), 0, ...be(blocks, 2), 0];
  }
}

for (
  const [length, reads, writes] of [
    [6, 0x08, 0x0a],
    [10, 0x28, 0x2a],
    [12, 0xa8, 0xaa],
    [16, 0x88, 0x8a],
  ]
) {
  good(`READ (${length})`, {}, (bench) => {
    const answer = bench.run(cdb(reads, 3, 4), { room: 2048 });
    assertEquals(data(answer), IMAGE.slice(1536, 1536 + 2048));
    // The last block, and a buffer with room to spare.
    const last = bench.run(cdb(reads, BLOCKS - 1, 1), { room: 1024 });
    assertEquals(data(last), IMAGE.slice(-512));
    assertEquals(last.transferred, 512);
    if (length > 6) {
      assertEquals(data(bench.run(cdb(reads, 0, 0))).length, 0);
      const forced = bench.run(cdb(reads, 3, 1, 0x18), { room: 512 });
      assertEquals(data(forced), IMAGE.slice(1536, 2048));
    }
  });

  const wide: BadCase[] = length > 6
    ? [["RDPROTECT", cdb(reads, 0, 1, 0x20), field(1, 7)]]
    : [];
  bad(`READ (${length})`, {}, [
    ["LBA", cdb(reads, BLOCKS, 1), outOfRange(BLOCKS)],
    ["end", cdb(reads, BLOCKS - 1, 2), outOfRange(BLOCKS)],
    ...wide,
  ]);

  good(`WRITE (${length})`, {}, (bench) => {
    const bytes = pattern(2048, 7);
    const answer = bench.run(cdb(writes, 5, 4), { out: bytes });
    assertEquals(data(answer).length, 0);
    assertEquals(answer.transferred, 2048);
    assertEquals(bench.image(5 * 512, 2048), bytes);
    assertEquals(bench.image(0, 2560), IMAGE.slice(0, 2560));
    if (length > 6) {
      data(bench.run(cdb(writes, 6, 1, 0x08), { out: bytes.slice(0, 512) }));
      assertEquals(bench.image(3072, 512), bytes.slice(0, 512));
    }
  });

  const wideWrite: BadCase[] = length > 6
    ? [["WRPROTECT", cdb(writes, 0, 1, 0x40), field(1, 7)]]
    : [];
  bad(`WRITE (${length})`, {}, [
    ["LBA", cdb(writes, BLOCKS, 1), outOfRange(BLOCKS)],
    ["end", cdb(writes, BLOCKS - 1, 2), outOfRange(BLOCKS)],
    ...wideWrite,
  ]);

  Deno.test(`WRITE (${length}): write protected`, () => {
    using bench = new TargetBench(READ_ONLY);
    const { status, sense } = bench.run(cdb(writes, 0, 1), {
      out: new Uint8Array(512),
    });
    assertEquals([status, sense], [2, WRITE_PROTECTED]);
    assertEquals(bench.image(), IMAGE);
  });

  Deno.test(`READ and WRITE (${length}): buffers that are too small`, () => {
    using bench = new TargetBench();
    assertEquals(bench.run(cdb(reads, 0, 2), { room: 1023 }).outcome, 3);
    const out = new Uint8Array(1023);
    assertEquals(bench.run(cdb(writes, 0, 2), { out }).outcome, 3);
    assertEquals(bench.image(), IMAGE);
  });
}

Deno.test("READ (6): no length is 256 blocks", () => {
  using bench = new TargetBench();
  const answer = bench.run([0x08, 0, 0, 1, 0, 0], { room: 256 * 512 });
  assertEquals(data(answer), IMAGE.slice(512, 257 * 512));
});

Deno.test("READ (16): addresses beyond 2^53 are out of range", () => {
  using bench = new TargetBench();
  const wide = [0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255];
  const { sense } = bench.run([...wide, 0, 0, 0, 1, 0, 0], { room: 512 });
  assertEquals([sense!.key, sense!.asc], [5, 0x2100]);
});

forEachEngine((name, options) => {
  Deno.test(`${name}: reads, writes, verifies and compares`, () => {
    using bench = new TargetBench({ ...options, size: 2 ** 21 });
    const bytes = pattern(2 ** 20, 9);
    data(bench.run(cdb(0x8a, 8, 2048, 0x08), { out: bytes }));
    const read = bench.run(cdb(0x88, 8, 2048, 0x08), { room: 2 ** 20 });
    assertEquals(data(read), bytes);
    data(bench.run(cdb(0x8f, 8, 2048, 2), { out: bytes }));
    const both = new Uint8Array(2 * 8 * 512);
    both.set(bytes.subarray(0, 4096));
    both.fill(3, 4096);
    data(
      bench.run([0x89, 0, ...be(8, 8), 0, 0, 0, 8, 0, 0], { out: both }),
    );
    assertEquals(bench.image(4096, 4096), both.slice(4096));
    data(
      bench.run([0x93, 0x08, ...be(2048, 8), ...be(512, 4), 0, 0], {
        out: new Uint8Array(512),
      }),
    );
    assertEquals(bench.image(2 ** 20, 2 ** 18), new Uint8Array(2 ** 18));
  });
});

for (const [length, opcode] of [[10, 0x2f], [12, 0xaf], [16, 0x8f]]) {
  good(`VERIFY (${length})`, {}, (bench) => {
    data(bench.run(cdb(opcode, 0, BLOCKS - 1)));
    data(bench.run(cdb(opcode, 0, 0, 2)));
    const out = IMAGE.slice(512, 1536);
    data(bench.run(cdb(opcode, 1, 2, 2), { out }));
    out[700] ^= 1;
    const miscompare = bench.run(cdb(opcode, 1, 2, 2), { out });
    assertEquals(miscompare.sense, { key: 14, asc: 0x1d00, information: 2 });
    // BYTCHK 11b: one block, compared with each.
    const block = new Uint8Array(512).fill(9);
    data(bench.run(cdb(0x41, 100, 600), { out: block }));
    data(bench.run(cdb(opcode, 100, 600, 6), { out: block }));
    const other = bench.run(cdb(opcode, 99, 2, 6), { out: block });
    assertEquals(other.sense, { key: 14, asc: 0x1d00, information: 99 });
  });

  bad(`VERIFY (${length})`, {}, [
    ["VRPROTECT", cdb(opcode, 0, 1, 0x20), field(1, 7)],
    ["BYTCHK", cdb(opcode, 0, 1, 4), field(1, 2)],
    ["LBA", cdb(opcode, BLOCKS, 1), outOfRange(BLOCKS)],
  ]);
}

for (const [length, opcode] of [[10, 0x2e], [12, 0xae], [16, 0x8e]]) {
  good(`WRITE AND VERIFY (${length})`, {}, (bench) => {
    const out = pattern(1024, 5);
    for (const bytchk of [0, 2]) {
      out[0]++;
      const answer = bench.run(cdb(opcode, 9, 2, bytchk), { out });
      data(answer);
      assertEquals(answer.transferred, 1024);
      assertEquals(bench.image(9 * 512, 1024), out);
    }
  });

  bad(`WRITE AND VERIFY (${length})`, {}, [
    ["WRPROTECT", cdb(opcode, 0, 1, 0x80), field(1, 7)],
    ["BYTCHK", cdb(opcode, 0, 1, 6), field(1, 2)],
    ["LBA", cdb(opcode, BLOCKS - 1, 2), outOfRange(BLOCKS)],
  ]);
}

good("WRITE SAME (10)", {}, (bench) => {
  const out = pattern(512, 4);
  data(bench.run(cdb(0x41, 4, 3), { out }));
  for (const at of [4, 5, 6]) assertEquals(bench.image(at * 512, 512), out);
  assertEquals(bench.image(7 * 512, 512), IMAGE.slice(7 * 512, 8 * 512));
  // Zeroes, with and without unmapping.
  data(bench.run(cdb(0x41, 5, 1), { out: new Uint8Array(512) }));
  data(bench.run(cdb(0x41, 6, 1, 8), { out: new Uint8Array(512) }));
  assertEquals(bench.image(5 * 512, 1024), new Uint8Array(1024));
});
bad("WRITE SAME (10)", {}, [
  ["zero blocks", cdb(0x41, 0, 0), field(7)],
  ["ANCHOR", cdb(0x41, 0, 1, 0x18), field(1, 4)],
  ["PBDATA", cdb(0x41, 0, 1, 4), field(1, 2)],
  ["LBA", cdb(0x41, BLOCKS, 1), outOfRange(BLOCKS)],
]);

good("WRITE SAME (16)", {}, (bench) => {
  const out = pattern(512, 4);
  data(bench.run(cdb(0x93, 4, 1000), { out }));
  assertEquals(bench.image(1003 * 512, 512), out);
  assertEquals(
    bench.image(1004 * 512, 512),
    IMAGE.slice(1004 * 512, 1005 * 512),
  );
  // NDOB: zeroes without a buffer.
  data(bench.run(cdb(0x93, 4, 8, 1)));
  assertEquals(bench.image(4 * 512, 4096), new Uint8Array(4096));
  data(bench.run(cdb(0x93, 512, 64, 9)));
  assertEquals(bench.first.nexus.storage!.extent(512 * 512).mapped, false);
});
bad("WRITE SAME (16)", {}, [
  ["zero blocks", cdb(0x93, 0, 0, 1), field(10)],
  ["too many", cdb(0x93, 0, 0xffff_ffff, 1), field(10)],
  ["ANCHOR", cdb(0x93, 0, 1, 0x19), field(1, 4)],
  ["LBA", cdb(0x93, BLOCKS, 1, 1), outOfRange(BLOCKS)],
]);
Deno.test("WRITE SAME: UNMAP of a thick disk is a wrong field", () => {
  using bench = new TargetBench(THICK);
  assertEquals(bench.run(cdb(0x93, 0, 1, 9)).sense, field(1, 3));
});

good("COMPARE AND WRITE", {}, (bench) => {
  const out = new Uint8Array(2048);
  out.set(IMAGE.subarray(512, 1536));
  out.fill(8, 1024);
  const command = [0x89, 0x08, ...be(1, 8), 0, 0, 0, 2, 0, 0];
  const answer = bench.run(command, { out });
  data(answer);
  assertEquals(answer.transferred, 2048);
  assertEquals(bench.image(512, 1024), out.slice(1024));
  const again = bench.run(command, { out });
  assertEquals(again.sense, { key: 14, asc: 0x1d00, information: 0 });
  assertEquals(again.transferred, 0);
  out.fill(8, 0, 1000);
  assertEquals(bench.run(command, { out }).sense?.information, 1000);
  data(bench.run([0x89, 0, ...be(1, 8), 0, 0, 0, 0, 0, 0]));
  const unprotected = bench.run(command, { out: new Uint8Array(2047) });
  assertEquals(unprotected.outcome, 3);
});
bad("COMPARE AND WRITE", {}, [
  ["WRPROTECT", [0x89, 0x20, ...be(0, 8), 0, 0, 0, 1, 0, 0], field(1, 7)],
  ["LBA", [0x89, 0, ...be(BLOCKS, 8), 0, 0, 0, 1, 0, 0], outOfRange(BLOCKS)],
]);

/** An UNMAP parameter list. */
function unmapList(...ranges: [number, number][]): Uint8Array {
  const size = 16 * ranges.length;
  return Uint8Array.from([
    ...be(size + 6, 2),
    ...be(size, 2),
    0,
    0,
    0,
    0,
    ...ranges.flatMap(([lba, n]) => [...be(lba, 8), ...be(n, 4), 0, 0, 0, 0]),
  ]);
}
function unmap(length: number, flags = 0): number[] {
  return [0x42, flags, 0, 0, 0, 0, 0, ...be(length, 2), 0];
}

good("UNMAP", {}, (bench) => {
  const out = unmapList([64, 64], [256, 8], [0, 0]);
  data(bench.run(unmap(out.length), { out }));
  assertEquals(bench.image(64 * 512, 64 * 512), new Uint8Array(64 * 512));
  assertEquals(bench.image(256 * 512, 4096), new Uint8Array(4096));
  assertEquals(bench.image(0, 64 * 512), IMAGE.slice(0, 64 * 512));
  assert(!bench.first.nexus.storage!.extent(64 * 512).mapped);
  data(bench.run(unmap(0)));
  data(bench.run(unmap(8), { out: unmapList() }));
});
bad("UNMAP", {}, [
  ["ANCHOR", unmap(24, 1), field(1, 0), { out: unmapList([0, 1]) }],
  ["length", unmap(7), { key: 5, asc: 0x1a00 }, { out: unmapList() }],
  ["LBA", unmap(40), outOfRange(BLOCKS), {
    out: unmapList([0, 1], [BLOCKS - 1, 2]),
  }],
  ["descriptors", unmap(8 + 257 * 16), parameter(2), {
    out: unmapList(...new Array(257).fill([0, 1])),
  }],
]);
Deno.test("UNMAP is unknown to a thick disk", () => {
  using bench = new TargetBench(THICK);
  const { sense } = bench.run(unmap(24), { out: unmapList([0, 1]) });
  assertEquals(sense, { key: 5, asc: 0x2000 });
});

const lbaStatus = (lba: number, allocation: number, rest = 0) => [
  ...[0x9e, 0x12, ...be(lba, 8), ...be(allocation, 4), rest, 0],
];
good("GET LBA STATUS (16)", {}, (bench) => {
  const out = unmapList([64, 64]);
  data(bench.run(unmap(out.length), { out }));
  const all = data(bench.run(lbaStatus(8, 4096), { room: 4096 }));
  assertEquals([...all], [
    ...be(4 + 48, 4),
    ...[0, 0, 0, 0],
    ...[...be(8, 8), ...be(56, 4), 0, 0, 0, 0],
    ...[...be(64, 8), ...be(64, 4), 1, 0, 0, 0],
    ...[...be(128, 8), ...be(BLOCKS - 128, 4), 0, 0, 0, 0],
  ]);
  const one = data(bench.run(lbaStatus(70, 24), { room: 24 }));
  assertEquals([...one.slice(8)], [...be(70, 8), ...be(58, 4), 1, 0, 0, 0]);
});
bad("GET LBA STATUS (16)", {}, [
  ["LBA", lbaStatus(BLOCKS, 24), outOfRange(BLOCKS)],
  ["REPORT TYPE", lbaStatus(0, 24, 1), field(14, 7)],
]);

good("READ CAPACITY (10)", {}, (bench) => {
  const answer = bench.run([0x25], { room: 8 });
  assertEquals([...data(answer)], [...be(BLOCKS - 1, 4), ...be(512, 4)]);
  bench.unit.capacity = 2 ** 33;
  const large = bench.run([0x25], { room: 8 });
  assertEquals([...data(large).slice(0, 4)], [255, 255, 255, 255]);
});
bad("READ CAPACITY (10)", {}, [
  ["NACA", [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 4], field(9, 2)],
]);

const capacity16 = [0x9e, 0x10, ...be(0, 8), ...be(32, 4), 0, 0];
good("READ CAPACITY (16)", {}, (bench) => {
  const bytes = data(bench.run(capacity16, { room: 32 }));
  // Eight logical blocks in a physical one; LBPME, LBPRZ.
  const expected = [...be(BLOCKS - 1, 8), ...be(512, 4), 0, 3, 0xc0];
  assertEquals([...bytes], [...expected, ...new Array(17).fill(0)]);
  bench.unit.capacity = 2 ** 33;
  const large = data(bench.run(capacity16, { room: 32 }));
  assertEquals([...large.slice(0, 8)], be(2 ** 33 - 1, 8));
});
bad("READ CAPACITY (16)", {}, [
  ["service action", [0x9e, 0x11, ...be(0, 14)], field(1, 4)],
  ["NACA", [...capacity16.slice(0, 15), 4], field(15, 2)],
]);

good("READ DEFECT DATA (10)", {}, (bench) => {
  const cdb = [0x37, 0, 0x1d, 0, 0, 0, 0, 0, 255, 0];
  assertEquals([...data(bench.run(cdb, { room: 255 }))], [0, 0x1d, 0, 0]);
});
bad("READ DEFECT DATA (10)", {}, [
  ["NACA", [0x37, 0, 0, 0, 0, 0, 0, 0, 4, 4], field(9, 2)],
]);
good("READ DEFECT DATA (12)", {}, (bench) => {
  const cdb = [0xb7, 0x0d, 0, 0, 0, 0, ...be(255, 4), 0, 0];
  const expected = [0, 0x0d, 0, 0, 0, 0, 0, 0];
  assertEquals([...data(bench.run(cdb, { room: 255 }))], expected);
});
bad("READ DEFECT DATA (12)", {}, [
  ["NACA", [0xb7, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 4], field(11, 2)],
]);

for (const [length, opcode] of [[10, 0x35], [16, 0x91]]) {
  good(`SYNCHRONIZE CACHE (${length})`, {}, (bench) => {
    data(bench.run(cdb(opcode, 0, 0)));
    data(bench.run(cdb(opcode, 5, 10, 2)));
  });
  bad(`SYNCHRONIZE CACHE (${length})`, {}, [
    ["LBA", cdb(opcode, BLOCKS, 1), outOfRange(BLOCKS)],
  ]);
}
for (const [length, opcode] of [[10, 0x34], [16, 0x90]]) {
  good(`PRE-FETCH (${length})`, {}, (bench) => {
    data(bench.run(cdb(opcode, 0, 0)));
    data(bench.run(cdb(opcode, 5, 10, 2)));
  });
  bad(`PRE-FETCH (${length})`, {}, [
    ["LBA", cdb(opcode, BLOCKS - 1, 2), outOfRange(BLOCKS)],
  ]);
}

good("START STOP UNIT", {}, (bench) => {
  const read = cdb(0x28, 0, 1);
  data(bench.run([0x1b, 0, 0, 0, 0, 0]));
  const stopped = bench.run(read, { room: 512 });
  assertEquals(stopped.sense, { key: 2, asc: 0x0402 });
  assertEquals(bench.run([0, 0, 0, 0, 0, 0]).sense, { key: 2, asc: 0x0402 });
  data(bench.run([0x1b, 0, 0, 0, 1, 0]));
  data(bench.run(read, { room: 512 }));
  assertEquals(bench.unit.starts, 2);
});
bad("START STOP UNIT", {}, [
  ["LOEJ of a fixed disk", [0x1b, 0, 0, 0, 2, 0], field(4, 1)],
  ["POWER CONDITION", [0x1b, 0, 0, 0, 0x30, 0], field(4, 7)],
]);

const REMOVABLE = { unit: { removable: true } };
good("PREVENT ALLOW MEDIUM REMOVAL", REMOVABLE, (bench) => {
  const other = bench.join("second");
  data(bench.run([0x1e, 0, 0, 0, 1, 0]));
  const refused = other.run([0x1b, 0, 0, 0, 2, 0]);
  assertEquals(refused.sense, { key: 5, asc: 0x5302 });
  data(bench.run([0x1e, 0, 0, 0, 0, 0]));
  data(other.run([0x1b, 0, 0, 0, 2, 0]));
  const gone = bench.run(cdb(0x28, 0, 1), { room: 512 });
  assertEquals(gone.sense, { key: 2, asc: 0x3a00 });
  data(other.run([0x1b, 0, 0, 0, 3, 0]));
  // The other one is told.
  const told = bench.run(cdb(0x28, 0, 1), { room: 512 });
  assertEquals(told.sense, { key: 6, asc: 0x2800 });
  data(bench.run(cdb(0x28, 0, 1), { room: 512 }));
});
bad("PREVENT ALLOW MEDIUM REMOVAL", {}, [
  ["a fixed disk", [0x1e, 0, 0, 0, 1, 0], field(4, 1)],
  ["PREVENT 2", [0x1e, 0, 0, 0, 2, 0], field(4, 1)],
]);

Deno.test("no command moves more than the block limits page says", () => {
  const most = 2 ** 26 / 4096;
  using bench = new TargetBench({ unit: { blockSize: 4096 } });
  bench.unit.capacity = 2 ** 30;
  const long = (opcode: number, blocks: number) => [
    ...[opcode, 0, ...be(0, 8), ...be(blocks, 4), 0, 0],
  ];
  for (const opcode of [0x88, 0x8a, 0x8e, 0x8f]) {
    const { sense } = bench.run(long(opcode, most + 1));
    assertEquals(sense, field(10), `${opcode}`);
  }
  const ten = (opcode: number) => [
    ...[opcode, 0, ...be(0, 4), 0, ...be(most + 1, 2), 0],
  ];
  for (const opcode of [0x28, 0x2a, 0x2e, 0x2f]) {
    assertEquals(bench.run(ten(opcode)).sense, field(7), `${opcode}`);
  }
  const twelve = (opcode: number) => [
    ...[opcode, 0, ...be(0, 4), ...be(most + 1, 4), 0, 0],
  ];
  for (const opcode of [0xa8, 0xaa, 0xae, 0xaf]) {
    assertEquals(bench.run(twelve(opcode)).sense, field(6), `${opcode}`);
  }
});
