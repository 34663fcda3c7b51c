import { assertEquals } from "@std/assert";
import { decodeSense, encodeSense, type Sense, SENSE_SIZE } from "./sense.ts";

const CASES: readonly Sense[] = [
  { key: 0, asc: 0 },
  { key: 6, asc: 0x2a09 },
  { key: 3, asc: 0x1100, information: 0xffff_ffff },
  { key: 5, asc: 0x2400, field: { command: true, byte: 2, bit: 6 } },
  { key: 5, asc: 0x2600, field: { command: false, byte: 300, bit: -1 } },
];

Deno.test("sense data reads as it was written, in both formats", () => {
  const bytes = new Uint8Array(SENSE_SIZE);
  for (const sense of CASES) {
    for (const descriptor of [false, true]) {
      const length = encodeSense(sense, descriptor, bytes);
      assertEquals(decodeSense(bytes.subarray(0, length)), sense);
    }
  }
});

Deno.test("fixed sense data has its fields where SPC puts them", () => {
  const bytes = new Uint8Array(SENSE_SIZE).fill(0xff);
  const length = encodeSense(
    { key: 5, asc: 0x2400, field: { command: true, byte: 0x102, bit: 3 } },
    false,
    bytes,
  );
  assertEquals(length, 18);
  assertEquals(
    [...bytes.subarray(0, 18)],
    [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcb, 1, 2],
  );
});

Deno.test("an address of more than 32 bits fits descriptors alone", () => {
  const bytes = new Uint8Array(SENSE_SIZE);
  const sense = { key: 3, asc: 0x1100, information: 2 ** 40 + 5 };
  encodeSense(sense, false, bytes);
  assertEquals(decodeSense(bytes), { key: 3, asc: 0x1100 });
  const length = encodeSense(sense, true, bytes);
  assertEquals(length, 20);
  assertEquals(decodeSense(bytes), sense);
});

Deno.test("what is no sense data is told apart", () => {
  assertEquals(decodeSense(new Uint8Array(18)), null);
});
