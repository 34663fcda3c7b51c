import { assertEquals, assertThrows } from "@std/assert";
import { GuestMemory } from "./memory.ts";
import {
  QueueError,
  SplitQueue,
  type SplitQueueOptions,
} from "./split_queue.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { queueOptions } from "./testing/queue.ts";

function refused(
  kind: string,
  message: string,
  changes: Partial<SplitQueueOptions>,
) {
  const memory = new FakeMemory([{ guestAddress: 4096, bytes: 8192 }]);
  const driver = new FakeDriver(memory, { size: 8, eventIdx: true });
  const options = queueOptions(driver, changes);
  const error = assertThrows(
    () => new SplitQueue(options),
    QueueError,
    message,
  );
  assertEquals(error.kind, kind);
}

Deno.test("a size that is no power of two up to 32768 is refused", () => {
  for (const size of [0, -1, 3, 7, 1.5, 65536, NaN]) {
    refused("invalid-size", `size ${size} is not a power of two`, { size });
  }
});

Deno.test("options out of range are refused", () => {
  refused("invalid-option", "position 65536 is not", { position: 65536 });
  refused("invalid-option", "position -1 is not", { position: -1 });
  refused("invalid-option", "maxSegments 0 is not", { maxSegments: 0 });
  refused("invalid-option", "slots 0 is not", { slots: 0 });
  refused("invalid-option", "slotBase -1 is not", { slotBase: -1 });
});

Deno.test("a part of the ring that is not aligned is refused", () => {
  const kind = "unaligned-ring";
  refused(kind, "descriptor table at 0x1008 is not aligned to 16", {
    descriptorTable: 0x1008,
  });
  refused(kind, "available ring at 0x1101", { availableRing: 0x1101 });
  refused(kind, "used ring at 0x1102", { usedRing: 0x1102 });
});

Deno.test("a part of the ring outside of memory is refused", () => {
  const kind = "ring-outside-memory";
  refused(kind, "descriptor table at 0x0 of 128 bytes", { descriptorTable: 0 });
  refused(kind, "available ring at 0x2ff0 of 22 bytes", {
    availableRing: 0x2ff0,
  });
  refused(kind, "used ring at 0x2fc0 of 70 bytes", { usedRing: 0x2fc0 });
});

Deno.test("a part of the ring across two regions is refused", () => {
  const memory = new GuestMemory();
  memory.add({ guestAddress: 0, size: 64, buffer: new ArrayBuffer(64) });
  memory.add({ guestAddress: 64, size: 4096, buffer: new ArrayBuffer(4096) });
  refused("ring-outside-memory", "does not lie in one region", {
    memory,
    descriptorTable: 0,
    availableRing: 1024,
    usedRing: 2048,
  });
});

Deno.test("a region that is not aligned itself is refused", () => {
  for (const [guestAddress, hostAddress] of [[2, 0], [0, 2]]) {
    const memory = new GuestMemory();
    const size = 8192;
    const buffer = new ArrayBuffer(size);
    memory.add({ guestAddress, size, hostAddress, buffer });
    refused("unaligned-ring", "lies in a region that is not aligned", {
      memory,
      descriptorTable: 1024,
      availableRing: 2048,
      usedRing: 4096,
    });
  }
});

Deno.test("the event fields are part of the ring with EVENT_IDX only", () => {
  // 8 entries at the very end of memory: 4 + 8 * 8 bytes, and 2 with events.
  const usedRing = 4096 + 8192 - 68;
  refused("ring-outside-memory", "of 70 bytes", { usedRing });
  const memory = new FakeMemory([{ guestAddress: 4096, bytes: 8192 }]);
  const driver = new FakeDriver(memory, { size: 8 });
  const queue = new SplitQueue(queueOptions(driver, { usedRing }));
  assertEquals(queue.broken, null);
});

Deno.test("every power of two up to 32768 is a ring", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 2 ** 21 }]);
  for (let size = 1; size <= 32768; size *= 2) {
    const driver = new FakeDriver(memory, { size });
    const queue = new SplitQueue(queueOptions(driver));
    driver.submit([{ writable: 4 }]);
    const chain = queue.take();
    assertEquals(chain?.writableLength, 4);
    if (chain !== null) queue.complete(chain, 4);
    queue.publish();
    assertEquals(driver.reap().map((done) => done.length), [4]);
    memory.free(driver.descriptorTable, 16 * size);
    memory.free(driver.availableRing, 6 + 2 * size);
    memory.free(driver.usedRing, 6 + 8 * size);
  }
});
