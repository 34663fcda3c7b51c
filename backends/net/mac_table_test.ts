import { assert, assertEquals } from "@std/assert";
import { MacTable, UNKNOWN_PORT } from "./mac_table.ts";

/** An address as the table has it: four bytes and two, little-endian. */
type Address = readonly [first: number, last: number];

function wordsOf(bytes: Uint8Array): Address {
  const view = new DataView(bytes.buffer);
  return [view.getUint32(0, true), view.getUint16(4, true)];
}

function address(n: number): Address {
  return wordsOf(new Uint8Array([2, n >> 24, n >> 16, n >> 8, n, 1]));
}

Deno.test("addresses are learnt, move, age and are forgotten", () => {
  const table = new MacTable(64, 1000);
  const mac = address(1);
  assertEquals(table.lookup(...mac, 0), UNKNOWN_PORT);
  table.learn(...mac, 3, 0);
  assertEquals(table.lookup(...mac, 1000), 3);
  assertEquals(table.lookup(...mac, 1001), UNKNOWN_PORT);
  table.learn(...mac, 3, 900);
  assertEquals(table.lookup(...mac, 1001), 3);
  table.learn(...mac, 5, 1000);
  assertEquals([table.lookup(...mac, 1001), table.moved], [5, 1]);
  assertEquals(table.entries(2000), [
    { mac: "02:00:00:00:01:01", port: 5, age: 1000 },
  ]);
  table.forget(5);
  assertEquals(table.lookup(...mac, 1001), UNKNOWN_PORT);
  assertEquals(table.entries(1001), []);
});

Deno.test("addresses that differ in one bit are different", () => {
  const table = new MacTable(1024, 1000);
  for (let bit = 0; bit < 48; bit++) {
    const mac = new Uint8Array(6);
    mac[bit >> 3] = 1 << (bit & 7);
    table.learn(...wordsOf(mac), bit, 0);
  }
  for (let bit = 0; bit < 48; bit++) {
    const mac = new Uint8Array(6);
    mac[bit >> 3] = 1 << (bit & 7);
    const found = table.lookup(...wordsOf(mac), 0);
    // A bucket that was full lost some.
    assert(found === bit || (found === UNKNOWN_PORT && table.evicted > 0));
  }
  assertEquals(table.entries(0).length + table.evicted, 48);
});

Deno.test("a flood evicts and never breaks: what is known is right", () => {
  const table = new MacTable(64, 1000);
  for (let i = 0; i < 5000; i++) table.learn(...address(i), i % 100, i / 10);
  assert(table.evicted > 4000);
  const entries = table.entries(500);
  assert(entries.length > 32 && entries.length <= 64);
  for (let i = 0; i < 5000; i++) {
    const found = table.lookup(...address(i), 500);
    assert(found === UNKNOWN_PORT || found === i % 100);
  }
});

Deno.test("an entry that aged gives way without being counted", () => {
  const table = new MacTable(4, 1000);
  for (let i = 0; i < 4; i++) table.learn(...address(i), i, 0);
  table.learn(...address(9), 9, 1001);
  assertEquals([table.lookup(...address(9), 1001), table.evicted], [9, 0]);
  table.learn(...address(10), 10, 1002);
  table.learn(...address(11), 11, 1003);
  table.learn(...address(12), 12, 1004);
  assertEquals(table.evicted, 0);
  table.learn(...address(13), 13, 1005);
  // The oldest of them.
  assertEquals(table.lookup(...address(9), 1005), UNKNOWN_PORT);
  assertEquals(table.evicted, 1);
});
