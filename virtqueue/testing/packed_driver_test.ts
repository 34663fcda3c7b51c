import { assert, assertEquals, assertThrows } from "@std/assert";
import { FakeMemory } from "./memory.ts";
import { FakePackedDriver } from "./packed_driver.ts";

function makeDriver(size = 3): FakePackedDriver {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 8192 }]);
  return new FakePackedDriver(memory, { size });
}

/** Answers as a device does. */
function use(
  driver: FakePackedDriver,
  index: number,
  id: number,
  length: number,
  marks = 0x8080,
): void {
  const flags = marks | (length > 0 ? 2 : 0);
  driver.setDescriptor(index, { address: 0, length, id, flags });
}

Deno.test("submit() writes chains with marks, the id in each descriptor", () => {
  const driver = makeDriver();
  driver.submit([{ readable: new Uint8Array(4) }, { writable: 9 }]);
  const [a, b, c] = [0, 1, 2].map((index) => driver.descriptor(index));
  assertEquals([a.flags, b.flags, c.flags], [0x81, 0x82, 0]);
  assertEquals([a.id, b.id, a.length, b.length], [0, 0, 4, 9]);
  assertEquals([driver.freeDescriptors, driver.inFlight], [1, 1]);
  assertEquals(driver.submit([{ writable: 1 }, { writable: 1 }]), -1);
  driver.submit([{ writable: 1 }]);
  use(driver, 0, 0, 9);
  assertEquals(driver.reap().map(({ length }) => length), [9]);
  // The next lap: the marks are turned.
  driver.submit([{ writable: 1 }]);
  assertEquals(driver.descriptor(0).flags, 0x8002);
});

Deno.test("flush: false keeps a chain back until flush()", () => {
  const driver = makeDriver();
  driver.submit([{ writable: 1 }], { flush: false });
  driver.submit([{ writable: 1 }], { flush: false });
  assertEquals(driver.descriptor(0).flags & 0x8080, 0);
  assertEquals(driver.descriptor(1).flags & 0x8080, 0x80);
  assertEquals(driver.kickNeeded(), false);
  driver.flush();
  assertEquals(driver.descriptor(0).flags & 0x8080, 0x80);
  assertEquals(driver.kickNeeded(), true);
});

Deno.test("reap() refuses answers to nothing, and too long ones", () => {
  const driver = makeDriver();
  driver.submit([{ writable: 1 }]);
  use(driver, 0, 1, 0);
  assertThrows(() => driver.reap(), Error, "id 1, which is not in flight");
  const other = makeDriver();
  other.submit([{ writable: 1 }]);
  use(other, 0, 0, 2);
  assertThrows(() => other.reap(), Error, "wrote 2 bytes to id 0");
  const third = makeDriver();
  third.submit([{ writable: 1 }]);
  use(third, 0, 0, 0, 0);
  assertEquals(third.reap(), [], "marks of the lap before");
});

Deno.test("reset() forgets and frees everything, also in the middle of a lap", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 8192 }]);
  const driver = new FakePackedDriver(memory, { size: 3, start: 2 });
  assertEquals(driver.start, 0x0002_0002);
  assertEquals([driver.next, driver.used], [5, 5]);
  const marks = () => [0, 1, 2].map((index) => driver.descriptor(index).flags);
  assertEquals(marks(), [0, 0, 0x8080]);
  driver.submit([{ writable: 1 }, { writable: 1 }]);
  driver.reset();
  assertEquals(marks(), [0, 0, 0x8080]);
  assertEquals([driver.inFlight, driver.freeDescriptors], [0, 3]);
  assert(!driver.usedPending);
  assertThrows(() => new FakePackedDriver(memory, { size: 3, start: 3 }));
});
