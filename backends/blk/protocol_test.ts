import { assertEquals } from "@std/assert";
import {
  type BlkConfig,
  CONFIG_SIZE,
  decodeConfig,
  encodeConfig,
  geometryOf,
} from "./protocol.ts";

// Each field has a value of its own, so that no two can be confused.
const CONFIG: BlkConfig = {
  capacity: 0x1f_2345_6789_abcd % 2 ** 53,
  segMax: 126,
  geometry: { cylinders: 0x1234, heads: 16, sectors: 63 },
  blkSize: 4096,
  physicalBlockExp: 3,
  alignmentOffset: 1,
  minIoSize: 0x809,
  optIoSize: 0x0a0b_0c0d,
  writeback: 1,
  numQueues: 0x102,
  maxDiscardSectors: 0x1111_1111,
  maxDiscardSeg: 0x2222_2222,
  discardSectorAlignment: 0x3333_3333,
  maxWriteZeroesSectors: 0x4444_4444,
  maxWriteZeroesSeg: 0x5555_5555,
  writeZeroesMayUnmap: 1,
};

Deno.test("encodeConfig() and decodeConfig() are inverse", () => {
  const bytes = new Uint8Array(CONFIG_SIZE).fill(0xee);
  encodeConfig(CONFIG, bytes);
  assertEquals(decodeConfig(bytes), CONFIG);
});

Deno.test("encodeConfig() writes the layout of the specification", () => {
  const bytes = new Uint8Array(CONFIG_SIZE).fill(0xee);
  encodeConfig({ ...CONFIG, capacity: 0x1_2233_4455_6677 }, bytes);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  const at = (offset: number, length: number) =>
    hex.slice(offset, offset + length).join(" ");
  assertEquals(at(0, 8), "77 66 55 44 33 22 01 00"); // capacity
  assertEquals(at(8, 4), "00 00 00 00"); // size_max
  assertEquals(at(12, 4), "7e 00 00 00"); // seg_max
  assertEquals(at(16, 4), "34 12 10 3f"); // geometry
  assertEquals(at(20, 4), "00 10 00 00"); // blk_size
  assertEquals(at(24, 8), "03 01 09 08 0d 0c 0b 0a"); // topology
  assertEquals(at(32, 2), "01 00"); // writeback, unused0
  assertEquals(at(34, 2), "02 01"); // num_queues
  assertEquals(at(36, 12), "11 11 11 11 22 22 22 22 33 33 33 33");
  assertEquals(at(48, 8), "44 44 44 44 55 55 55 55");
  assertEquals(at(56, 4), "01 00 00 00"); // write_zeroes_may_unmap, unused1
  assertEquals(bytes.subarray(60), new Uint8Array(36)); // secure erase, zoned
});

Deno.test("decodeConfig() reads the 57 bytes that a front-end may ask for", () => {
  const bytes = new Uint8Array(CONFIG_SIZE);
  encodeConfig(CONFIG, bytes);
  assertEquals(decodeConfig(bytes.slice(0, 57)), CONFIG);
});

Deno.test("geometryOf() makes tracks of whole blocks and clamps cylinders", () => {
  assertEquals(geometryOf(1, 512), { cylinders: 1, heads: 16, sectors: 63 });
  assertEquals(geometryOf(0, 512).cylinders, 1);
  assertEquals(geometryOf(16 * 63 * 20, 512).cylinders, 20);
  assertEquals(geometryOf(2 ** 40, 512).cylinders, 16383);
  assertEquals(geometryOf(16 * 56 * 9, 4096), {
    cylinders: 9,
    heads: 16,
    sectors: 56,
  });
});
