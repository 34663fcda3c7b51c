import { assertEquals } from "@std/assert";
import { pattern } from "../../storage/testing/buffers.ts";
import { CDROM } from "./testing/bench.ts";
import { bad, be, data, field, good } from "./testing/cases.ts";

const ROOM = { room: 4096 };
const CD = { unit: CDROM };
/** Blocks of the disc. */
const BLOCKS = 512;
const CAPACITY = "READ CAPACITY (10) of a CD-ROM";

good(CAPACITY, CD, (bench) => {
  const bytes = data(bench.run([0x25], { room: 8 }));
  assertEquals([...bytes], [...be(BLOCKS - 1, 4), ...be(2048, 4)]);
  const read = [0x28, 0, ...be(3, 4), 0, 0, 1, 0];
  assertEquals(
    data(bench.run(read, { room: 2048 })),
    pattern(2 ** 20, 1).slice(6144, 8192),
  );
  // A CD-ROM has no WRITE.
  const write = bench.run([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], {
    out: new Uint8Array(2048),
  });
  assertEquals(write.sense, { key: 5, asc: 0x2000 });
  const inquiry = data(bench.run([0x12, 0, 0, 0, 255, 0], ROOM));
  assertEquals([inquiry[0], inquiry[1]], [5, 0x80]);
});

const toc = (format: number, track = 0, msf = 0, old = 0) => [
  ...[0x43, msf, format, 0, 0, 0, track, ...be(4096, 2), old],
];
good("READ TOC/PMA/ATIP", CD, (bench) => {
  assertEquals([...data(bench.run(toc(0), ROOM))], [
    ...[0, 18, 1, 1],
    ...[0, 0x14, 1, 0, 0, 0, 0, 0],
    ...[0, 0x14, 0xaa, 0, ...be(BLOCKS, 4)],
  ]);
  const msf = data(bench.run(toc(0, 1, 2), ROOM));
  assertEquals([...msf.slice(8, 12)], [0, 0, 2, 0]);
  // 512 blocks and 150 are 8 seconds and 62 frames.
  assertEquals([...msf.slice(16, 20)], [0, 0, 8, 62]);
  assertEquals(data(bench.run(toc(0, 0xaa), ROOM)).length, 12);
  assertEquals([...data(bench.run(toc(1), ROOM))], [
    ...[0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0],
  ]);
  // The format in its old place.
  assertEquals(data(bench.run(toc(0, 0, 0, 0x40), ROOM)).length, 12);
  const full = data(bench.run(toc(2), ROOM));
  assertEquals(full.length, 4 + 4 * 11);
  assertEquals([full[7], full[18], full[29], full[40]], [0xa0, 0xa1, 0xa2, 1]);
});
bad("READ TOC/PMA/ATIP", CD, [
  ["format", toc(5), field(2, 3)],
  ["track", toc(0, 2), field(6)],
  ["session", toc(2, 2), field(6)],
]);

const configuration = (type: number, from = 0) => [
  ...[0x46, type, ...be(from, 2), 0, 0, 0, ...be(4096, 2), 0],
];
good("GET CONFIGURATION", CD, (bench) => {
  const all = data(bench.run(configuration(0), ROOM));
  assertEquals([...all.slice(0, 8)], [...be(all.length - 4, 4), 0, 0, 0, 8]);
  assertEquals([...all.slice(8, 12)], [0, 0, 3, 8]);
  const one = data(bench.run(configuration(2, 3), ROOM));
  assertEquals([...one.slice(8)], [0, 3, 3, 4, 0x29, 0, 0, 0]);
  assertEquals(data(bench.run(configuration(2, 0x999), ROOM)).length, 8);
  // Without a disc there is no profile, and nothing to read.
  bench.unit.ejected = true;
  const empty = data(bench.run(configuration(1), ROOM));
  assertEquals([...empty.slice(6, 8)], [0, 0]);
  bench.unit.ejected = false;
  bench.unit.capacity = 2_000_000;
  assertEquals(data(bench.run(configuration(1), ROOM))[7], 0x10);
});
bad("GET CONFIGURATION", CD, [["RT", configuration(3), field(1, 1)]]);

const events = (polled: number, classes: number) => [
  ...[0x4a, polled, 0, 0, classes, 0, 0, 0, 255, 0],
];
good("GET EVENT STATUS NOTIFICATION", CD, (bench) => {
  const media = () => [...data(bench.run(events(1, 0x10), ROOM))];
  assertEquals(media(), [0, 6, 4, 0x10, 0, 2, 0, 0]);
  data(bench.run([0x1b, 0, 0, 0, 2, 0]));
  // Removed; the tray is out. It is told once.
  assertEquals(media(), [0, 6, 4, 0x10, 3, 1, 0, 0]);
  assertEquals(media(), [0, 6, 4, 0x10, 0, 1, 0, 0]);
  const ready = bench.run([0, 0, 0, 0, 0, 0]);
  assertEquals(ready.sense, { key: 2, asc: 0x3a00 });
  data(bench.run([0x1b, 0, 0, 0, 3, 0]));
  assertEquals(media(), [0, 6, 4, 0x10, 2, 2, 0, 0]);
  data(bench.run([0, 0, 0, 0, 0, 0]));
  const other = data(bench.run(events(1, 0x02), ROOM));
  assertEquals([...other], [0, 2, 0x80, 0x10]);
});
bad("GET EVENT STATUS NOTIFICATION", CD, [
  ["POLLED", events(0, 0x10), field(1, 0)],
]);

good("READ DISC INFORMATION", CD, (bench) => {
  const bytes = data(bench.run([0x51, 0, 0, 0, 0, 0, 0, 0, 255, 0], ROOM));
  assertEquals(bytes.length, 34);
  assertEquals([...bytes.slice(0, 8)], [0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
});
bad("READ DISC INFORMATION", CD, [
  ["DATA TYPE", [0x51, 1, 0, 0, 0, 0, 0, 0, 255, 0], field(1, 2)],
]);

good("MODE SENSE (10) of a CD-ROM", CD, (bench) => {
  const cdb = [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255, 0];
  const bytes = data(bench.run(cdb, ROOM));
  assertEquals([...bytes.slice(0, 10)], [0, 28, 0, 0, 0, 0, 0, 0, 0x2a, 20]);
  const caching = bench.run([0x5a, 0, 8, 0, 0, 0, 0, 0, 255, 0], ROOM);
  assertEquals(caching.sense, field(2, 5));
});
