import { assert, assertEquals } from "@std/assert";
import { FakeDriver, FakeMemory, startQueue } from "@vhostd/vhostd/testing";
import createDevice from "./entropy.ts";

Deno.test("a buffer is filled, one without room is answered", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 65536 }]);
  const driver = new FakeDriver(memory, { size: 8 });
  const queue = startQueue(driver);
  const device = createDevice();
  driver.submit([{ writable: 32 }, { writable: 32 }]);
  driver.submit([{ readable: new Uint8Array(16) }]);
  device.serve(queue, 8);
  queue.publish(); // as the loop does at the end of a turn
  const [filled, empty] = driver.reap();
  assertEquals([filled.length, empty.length], [64, 0]);
  assert(filled.data.some((byte) => byte !== 0));
  assertEquals(device.status?.(), { bytesServed: 64 });
});
