/**
 * The area of a packed queue by itself: its layout, and what of it is believed.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { PackedInflight, packedInflightSize } from "./packed_inflight.ts";
import { QueueError } from "./queue_error.ts";
import { FakeMemory } from "./testing/driver.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startPacked } from "./testing/queue.ts";

const SIZE = 7;

Deno.test("what the area holds is not believed", () => {
  let refused = 0, found = 0;
  const garbage = fc.uint8Array({
    minLength: packedInflightSize(SIZE),
    maxLength: packedInflightSize(SIZE),
  });
  const small = fc.nat(9);
  fc.assert(
    fc.property(
      garbage,
      fc.array(small, { minLength: 40, maxLength: 40 }),
      fc.nat(0xffff),
      (area, numbers, flags) => {
        const bytes = new Uint8Array(area);
        const view = new DataView(bytes.buffer);
        view.setUint16(8, 1, true);
        view.setUint16(10, SIZE, true);
        for (let i = 0; i < 4; i++) {
          view.setUint16(12 + 2 * i, numbers[i], true);
        }
        bytes[20] &= 1;
        bytes[21] &= 1;
        for (let entry = 0; entry < SIZE; entry++) {
          const at = 32 * (entry + 1), from = 4 + 5 * entry;
          bytes[at] = numbers[from] % 3;
          view.setUint16(at + 2, numbers[from + 1], true);
          view.setUint16(at + 4, numbers[from + 2], true);
          view.setUint16(at + 6, numbers[from + 3] % 4, true);
          view.setUint16(at + 16, numbers[from + 4], true);
        }
        const inflight = new PackedInflight(bytes, SIZE);
        let recovered;
        try {
          recovered = inflight.recover(SIZE, 0, () => flags);
        } catch (error) {
          assert(error instanceof QueueError, String(error));
          assertEquals(error.kind, "inflight-area");
          refused++;
          return;
        }
        const { used, requests } = recovered;
        assert(used >= 0 && used < 2 * SIZE);
        const ids = requests.map(({ id }) => id);
        assertEquals(new Set(ids).size, ids.length);
        assert(ids.every((id) => id < SIZE));
        let left = SIZE;
        for (const { descriptors } of requests) left -= descriptors.length / 4;
        assert(left >= 0);
        found += requests.length;
        // The rest of the entries can be used, and all come back.
        for (let id = 0; id < SIZE && left > 0; id++) {
          if (ids.includes(id)) continue;
          inflight.begin();
          inflight.note(0, 0, 0, 0);
          inflight.take(id, 1);
          left--;
        }
        const again = new PackedInflight(bytes, SIZE).recover(
          SIZE,
          0,
          () => flags,
        );
        assertEquals(again.used, used);
      },
    ),
    { numRuns: 2000 },
  );
  assert(refused > 100 && found > 20, `${refused} refused, ${found} found`);
});

Deno.test("the layout is the specification's", () => {
  const bytes = new Uint8Array(packedInflightSize(4));
  const view = new DataView(bytes.buffer);
  const u16 = (...at: number[]): number[] =>
    at.map((each) => view.getUint16(each, true));
  const area = new PackedInflight(bytes, 4);
  area.recover(3, 4, () => 0); // Wrap counter 0, index 1.
  assertEquals(u16(8, 10, 12, 14, 16, 18), [1, 4, 0, 0, 1, 1]);
  assertEquals([bytes[20], bytes[21]], [0, 0]);
  assertEquals(u16(32 + 2, 64 + 2, 96 + 2, 128 + 2), [1, 2, 3, 4]);
  area.begin();
  area.note(1, 2, 3, 0x0001_0005);
  area.note(6, 7, 8, 0x0002_0002);
  area.take(2, 2);
  assertEquals([bytes[32], bytes[64]], [1, 0]);
  assertEquals(u16(12, 14), [2, 2]);
  assertEquals(u16(32 + 4, 32 + 6), [1, 2]); // last, num
  assertEquals(view.getBigUint64(32 + 8, true), 1n);
  assertEquals(u16(32 + 16, 32 + 18, 64 + 16, 64 + 18), [5, 1, 2, 2]);
  assertEquals(view.getUint32(32 + 20, true), 3);
  assertEquals(view.getBigUint64(64 + 24, true), 7n << 32n | 6n);
  area.answered(2);
  area.publishing(5); // Wrap counter 0 again, index 2.
  assertEquals(u16(12, 14, 16, 18), [0, 2, 2, 1]);
  assertEquals(bytes[32], 1);
  area.published(5);
  assertEquals(u16(12, 14, 16, 18, 64 + 2), [0, 0, 2, 2, 2]);
  assertEquals(bytes[32], 0);
  area.published(0);
  assertEquals([...u16(16, 18), bytes[20], bytes[21]], [0, 0, 1, 1]);
});

Deno.test("an area that does not fit is refused", () => {
  const refuse = (body: () => unknown, message: string): void => {
    const error = assertThrows(body, QueueError, message);
    assertEquals((error as QueueError).kind, "inflight-area");
  };
  refuse(() => new PackedInflight(new Uint8Array(256), 8), "has 256 bytes");
  const bytes = new Uint8Array(packedInflightSize(8));
  const recover = (heads: number, size: number): unknown =>
    new PackedInflight(bytes, heads).recover(size, 0, () => 0);
  recover(8, 8);
  refuse(() => recover(4, 4), "version 1 for 8");
  bytes[16] = 5;
  bytes[18] = 5;
  recover(8, 8);
  refuse(() => recover(8, 5), "used index 5 with wrap counter 1");
  bytes[8] = 2;
  refuse(() => recover(8, 8), "version 2");
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 1 << 16 }]);
  const driver = new FakePackedDriver(memory, { size: 16 });
  refuse(
    () => startPacked(driver, { inflight: new PackedInflight(bytes, 8) }),
    "size 16 exceeds the 8 heads",
  );
});
