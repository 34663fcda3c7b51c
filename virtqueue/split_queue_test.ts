import { assertEquals } from "@std/assert";
import { GuestMemory } from "./memory.ts";
import { SplitQueue } from "./split_queue.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";

Deno.test("smoke", () => {
  const fake = new FakeMemory([{ guestAddress: 0x1000, bytes: 65536 }]);
  const driver = new FakeDriver(fake, { size: 8, eventIdx: true });
  const queue = new SplitQueue({
    index: 0,
    size: 8,
    memory: fake.share(new GuestMemory()),
    descriptorTable: driver.descriptorTable,
    availableRing: driver.availableRing,
    usedRing: driver.usedRing,
    position: 0,
    eventIdx: true,
    indirect: true,
    maxSegments: 8,
  });
  for (let i = 0; i < 100; i++) {
    const token = driver.submit([{ readable: new Uint8Array([1, 2, 3, i]) }, {
      writable: 20,
    }], { indirect: i % 2 === 1 });
    assertEquals(driver.kickNeeded(), true);
    const chain = queue.take()!;
    assertEquals(chain.readUint32(0), 0x30201 + i * 2 ** 24);
    assertEquals(chain.writeUint8(19, 7), true);
    queue.complete(chain, 20);
    assertEquals(queue.publish(), true);
    const [done] = driver.reap();
    assertEquals(done.token, token);
    assertEquals(done.data[19], 7);
    assertEquals(driver.enableInterrupt(), false);
    assertEquals(queue.enableNotification(), false);
  }
});
