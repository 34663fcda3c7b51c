import { assertEquals, assertThrows } from "@std/assert";
import { FakeDriver, type FakeDriverOptions, FakeMemory } from "./driver.ts";

const EMPTY = new Uint8Array(0);

function rig(options: FakeDriverOptions = {}): FakeDriver {
  const memory = new FakeMemory([{ guestAddress: 4096, bytes: 8192 }]);
  return new FakeDriver(memory, { size: 4, ...options });
}

/** Answers as a device would, by raw access to the used ring. */
function use(driver: FakeDriver, id: number, length: number): void {
  const { memory, usedRing } = driver;
  const index = memory.getUint16(usedRing + 2);
  const at = usedRing + 4 + 8 * (index % driver.size);
  memory.setUint32(at, id);
  memory.setUint32(at + 4, length);
  memory.setUint16(usedRing + 2, index + 1);
}

/** Address low, length, flags and next of the descriptor at a guest address. */
function descriptorAt(driver: FakeDriver, at: number): number[] {
  const { memory } = driver;
  return [
    memory.getUint32(at),
    memory.getUint32(at + 8),
    memory.getUint16(at + 12),
    memory.getUint16(at + 14),
  ];
}

Deno.test("submit() lays out direct descriptors and the available entry", () => {
  const driver = rig();
  const { memory, descriptorTable, availableRing } = driver;
  assertEquals(
    driver.submit([{ readable: Uint8Array.of(5, 6) }, { writable: 3 }]),
    0,
  );
  const [readable, writable] = [0, 1].map((i) =>
    descriptorAt(driver, descriptorTable + 16 * i)
  );
  assertEquals(readable.slice(1), [2, 1, 1]);
  assertEquals(memory.read(readable[0], 2), Uint8Array.of(5, 6));
  assertEquals(writable.slice(1), [3, 2, 0]);
  assertEquals(memory.getUint16(availableRing + 2), 1);
  assertEquals(memory.getUint16(availableRing + 4), 0);
  assertEquals([driver.inFlight, driver.freeDescriptors], [1, 2]);
});

Deno.test("submit() lays out an indirect table", () => {
  const driver = rig();
  driver.submit([
    { address: 4096, length: 7, write: false },
    { address: 5000, length: 9, write: true },
  ], { indirect: true, descriptors: [3] });
  const head = descriptorAt(driver, driver.descriptorTable + 48);
  assertEquals(head.slice(1), [32, 4, 0]);
  assertEquals(descriptorAt(driver, head[0]), [4096, 7, 1, 1]);
  assertEquals(descriptorAt(driver, head[0] + 16), [5000, 9, 2, 0]);
  assertEquals(driver.memory.getUint16(driver.availableRing + 4), 3);
});

Deno.test("submit() says -1 when descriptors run out", () => {
  const driver = rig();
  const three = [{ writable: 1 }, { writable: 1 }, { writable: 1 }];
  assertEquals(driver.submit(three), 0);
  assertEquals(driver.submit(three), -1);
  assertEquals(driver.submit(three, { indirect: true }), 1);
  assertEquals(driver.submit([{ writable: 1 }]), -1);
  assertEquals(driver.submit([]), -1);
  assertEquals(driver.inFlight, 2);
});

Deno.test("a descriptor that is asked for must be free", () => {
  const driver = rig();
  driver.submit([{ writable: 1 }], { descriptors: [2] });
  assertThrows(
    () => driver.submit([{ writable: 1 }], { descriptors: [2] }),
    Error,
    "Descriptor 2 is not free",
  );
  assertEquals(driver.freeDescriptors, 3);
});

Deno.test("reap() returns what the device wrote and frees everything", () => {
  const driver = rig({ start: 65535 });
  driver.memory.setUint16(driver.usedRing + 2, 65535);
  for (let i = 0; i < 100; i++) {
    const token = driver.submit(
      [{ readable: new Uint8Array(500) }, { writable: 500 }, { writable: 2 }],
      { indirect: i % 2 === 0 },
    );
    assertEquals(token, i);
    const id = driver.memory.getUint16(
      driver.availableRing + 4 + 2 * ((65535 + i) % 4),
    );
    use(driver, id, 11);
    const [done, ...more] = driver.reap();
    assertEquals([done.token, done.id, done.length], [i, id, 11]);
    assertEquals([done.data.length, more.length], [502, 0]);
  }
  assertEquals([driver.inFlight, driver.freeDescriptors], [0, 4]);
});

Deno.test("reap() stops at a limit, and copies nothing when told so", () => {
  const driver = rig({ copy: false });
  driver.submit([{ writable: 8 }], { descriptors: [0] });
  driver.submit([{ writable: 8 }], { descriptors: [1] });
  use(driver, 1, 8);
  use(driver, 0, 8);
  assertEquals(driver.usedPending, true);
  assertEquals(driver.reap(1), [{ token: 1, id: 1, length: 8, data: EMPTY }]);
  assertEquals(driver.reap(), [{ token: 0, id: 0, length: 8, data: EMPTY }]);
  assertEquals(driver.usedPending, false);
});

Deno.test("reap() refuses answers to nothing, twice, and too long", () => {
  const driver = rig();
  driver.submit([{ writable: 2 }], { descriptors: [1] });
  use(driver, 1, 3);
  assertThrows(
    () => driver.reap(),
    Error,
    "wrote 3 bytes to id 1, which has 2",
  );
  use(driver, 1, 0);
  assertThrows(() => driver.reap(), Error, "used id 1, which is not in flight");
  use(driver, 77, 0);
  assertThrows(() => driver.reap(), Error, "used id 77");
});

Deno.test("kickNeeded() looks at flags, or at avail_event", () => {
  const flags = rig();
  assertEquals(flags.kickNeeded(), false);
  flags.submit([{ writable: 1 }]);
  assertEquals([flags.kickNeeded(), flags.kickNeeded()], [true, false]);
  flags.memory.setUint16(flags.usedRing, 1);
  flags.submit([{ writable: 1 }]);
  assertEquals(flags.kickNeeded(), false);

  const events = rig({ eventIdx: true });
  const setEvent = (value: number) =>
    events.memory.setUint16(events.usedRing + 4 + 8 * 4, value);
  setEvent(1);
  events.submit([{ writable: 1 }]);
  assertEquals(events.kickNeeded(), false);
  events.submit([{ writable: 1 }]);
  assertEquals(events.kickNeeded(), true);
  assertEquals(events.availEvent, 1);
});

Deno.test("interrupts are asked for by flags, or by used_event", () => {
  const flags = rig();
  const read = (driver: FakeDriver, at: number) =>
    driver.memory.getUint16(driver.availableRing + at);
  flags.disableInterrupt();
  assertEquals(read(flags, 0), 1);
  assertEquals(flags.enableInterrupt(), false);
  assertEquals(read(flags, 0), 0);

  const events = rig({ eventIdx: true });
  events.disableInterrupt();
  assertEquals(read(events, 4 + 8), 65535);
  events.submit([{ writable: 1 }]);
  use(events, 0, 1);
  assertEquals(events.enableInterrupt(), true);
  events.reap();
  assertEquals(events.enableInterrupt(), false);
  assertEquals([read(events, 4 + 8), read(events, 0)], [1, 0]);
});

Deno.test("flush: false keeps a chain back until flush()", () => {
  const driver = rig();
  driver.submit([{ writable: 1 }], { flush: false });
  assertEquals([driver.availableIndex, driver.kickNeeded()], [0, false]);
  driver.flush();
  assertEquals([driver.availableIndex, driver.kickNeeded()], [1, true]);
});

Deno.test("reset() forgets and frees everything", () => {
  const driver = rig();
  for (let i = 0; i < 10; i++) {
    driver.submit([{ writable: 1000 }, { writable: 1000 }]);
    driver.submit([{ writable: 1000 }, { writable: 1 }], { indirect: true });
    driver.reset();
    assertEquals(driver.inFlight, 0);
    assertEquals(driver.freeDescriptors, 4);
    assertEquals([driver.availableIndex, driver.usedIndex], [0, 0]);
  }
});

Deno.test("raw descriptors hold 64-bit addresses", () => {
  const driver = rig();
  const at = driver.descriptorTable + 16;
  driver.setDescriptor(1, {
    address: 0xfedcba98_76543210n,
    length: 0xffffffff,
    flags: 0xabcd,
    next: 0x1234,
  });
  assertEquals(driver.memory.getUint32(at + 4), 0xfedcba98);
  assertEquals(
    descriptorAt(driver, at),
    [0x76543210, 0xffffffff, 0xabcd, 0x1234],
  );
});
