import {
  assert,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { GuestMemory } from "./memory.ts";
import { PackedQueue, type PackedQueueOptions } from "./packed_queue.ts";
import { PackedInflight, packedInflightSize } from "./packed_inflight.ts";
import { assertMisuse } from "./testing/misuse.ts";
import { type FakeDriverOptions, FakeMemory } from "./testing/driver.ts";
import {
  FakePackedDriver,
  type RawPackedDescriptor,
} from "./testing/packed_driver.ts";
import { queueOptions, startPacked } from "./testing/queue.ts";

const DATA = 0x10_0000;
const NEXT = 1, WRITE = 2, INDIRECT = 4, MARKS = 0x8080;

interface Rig {
  readonly memory: FakeMemory;
  readonly driver: FakePackedDriver;
  readonly queue: PackedQueue;
}

function rig(
  options: FakeDriverOptions = {},
  changes: Partial<PackedQueueOptions> = {},
): Rig {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 16384 },
    { guestAddress: DATA, bytes: 16384 },
  ]);
  const driver = new FakePackedDriver(memory, { size: 7, ...options });
  return { memory, driver, queue: startPacked(driver, changes) };
}

/** A readable buffer that the driver offers raw. */
function buffer(changes: Partial<RawPackedDescriptor> = {}) {
  return { address: DATA, length: 16, ...changes };
}

Deno.test("a request goes to the device and its answer to the driver", () => {
  const { driver, queue } = rig();
  assertEquals([queue.available, queue.ready], [false, false]);
  assertEquals(queue.take(), null);
  const token = driver.submit([
    { readable: Uint8Array.of(1, 2) },
    { writable: 3 },
  ]);
  assertEquals([queue.available, queue.ready], [true, true]);
  const chain = queue.take();
  assert(chain !== null);
  assertEquals([chain.queue === queue, chain.taken], [true, true]);
  assertEquals([queue.inFlight, queue.available], [1, false]);
  assertEquals(chain.readUint16(0), 0x0201);
  chain.write(0, Uint8Array.of(7, 8));
  queue.complete(chain, 2);
  assertEquals([queue.inFlight, chain.taken], [0, false]);
  assertEquals(driver.reap(), []);
  assertEquals(queue.publish(), true);
  assertEquals(queue.publish(), false);
  const data = Uint8Array.of(7, 8, 0);
  assertEquals(driver.reap(), [{ token, id: chain.head, length: 2, data }]);
  assertEquals([queue.position, queue.base], [2, 0x8002_8002]);
});

Deno.test("an answer lies where the next used descriptor is, whoever's it is", () => {
  const { driver, queue } = rig();
  for (let i = 0; i < 2; i++) {
    driver.submit([{ readable: new Uint8Array(1) }, { writable: 2 }]);
  }
  const chains = [queue.take()!, queue.take()!];
  queue.complete(chains[1], 2);
  queue.publish();
  assertEquals(driver.descriptor(0), {
    id: chains[1].head,
    length: 2,
    flags: MARKS | WRITE,
  });
  queue.complete(chains[0], 0);
  queue.publish();
  // Nothing was written: the length means nothing.
  assertEquals(driver.descriptor(2).flags, MARKS);
  assertEquals(driver.reap().map(({ token }) => token), [1, 0]);
});

Deno.test("the first answer of a batch becomes visible last", () => {
  const { driver, queue } = rig();
  for (let i = 0; i < 3; i++) driver.submit([{ writable: 4 }]);
  const chains = [queue.take()!, queue.take()!, queue.take()!];
  for (const chain of chains) queue.complete(chain, 4);
  const marks = () =>
    [0, 1, 2].map((index) => driver.descriptor(index).flags & MARKS);
  assertEquals(marks(), [0x80, MARKS, MARKS]);
  assertEquals(driver.usedPending, false);
  queue.publish();
  assertEquals(marks(), [MARKS, MARKS, MARKS]);
  assertEquals(driver.reap().length, 3);
});

Deno.test("wrap counters turn at the end of the ring, within a chain too", () => {
  for (const size of [1, 2, 3, 7]) {
    const { driver, queue } = rig({ size });
    for (let i = 0; i < 5 * size; i++) {
      const count = 1 + i % Math.min(size, 3);
      const buffers = Array.from({ length: count }, () => ({ writable: 2 }));
      const token = driver.submit(buffers);
      assertEquals(token, i);
      const chain = queue.take()!;
      assertEquals([chain.count, chain.writableLength], [count, 2 * count]);
      queue.complete(chain, 1);
      queue.publish();
      assertEquals(driver.reap().map(({ token }) => token), [i]);
    }
    assertEquals(queue.broken, null);
  }
});

Deno.test("a queue goes on from a base; one half of it is enough", () => {
  const { driver, queue } = rig();
  const serve = (queue: PackedQueue): void => {
    for (let i = 0; i < 5; i++) {
      driver.submit([{ writable: 1 }, { writable: 1 }]);
      queue.complete(queue.take()!, 2);
      queue.publish();
      assertEquals(driver.reap().length, 1);
    }
  };
  serve(queue);
  assertEquals(queue.base, 0x0003_0003);
  const second = startPacked(driver, { position: queue.base });
  assertEquals(second.position, 10);
  serve(second);
  const third = startPacked(driver, { position: second.base & 0xffff });
  assertEquals(third.base, second.base);
  serve(third);
});

Deno.test("chains that were given back are taken again, before newer ones", () => {
  const { driver, queue } = rig();
  for (let i = 0; i < 4; i++) driver.submit([{ writable: 1 }]);
  const [a, b, c] = [queue.take()!, queue.take()!, queue.take()!];
  const heads = [a.head, b.head, c.head];
  assertMisuse("untake-order", () => queue.untake(b));
  queue.complete(a, 0);
  queue.untake(c);
  queue.untake(b);
  assertEquals([queue.position, queue.inFlight], [1, 0]);
  queue.publish();
  const next = startPacked(driver, { position: queue.base });
  for (const wanted of [heads[1], heads[2]]) {
    const chain = next.take()!;
    assertEquals([chain.head, chain.resubmitted], [wanted, false]);
  }
  assertEquals(queue.take()?.head, heads[1]);
});

Deno.test("a chain that was given back comes again with as many descriptors at most", () => {
  for (const grown of [false, true]) {
    const { driver, queue } = rig();
    driver.submit([{ readable: new Uint8Array(1) }]);
    driver.submit([{ readable: new Uint8Array(2) }]);
    queue.untake(queue.take()!);
    // While it is in nobody's hands it changes: it seems to go on into the next.
    const id = driver.descriptor(0).id;
    const flags = 0x80 | (grown ? NEXT : 0);
    driver.setDescriptor(0, buffer({ id, flags }));
    const chain = queue.take();
    assertEquals(chain?.readableLength ?? null, grown ? null : 16);
    assertEquals(queue.broken !== null, grown);
    if (grown) assertStringIncludes(queue.broken!, "more descriptors");
  }
});

Deno.test("misuse is refused", () => {
  const { driver, queue } = rig();
  driver.submit([{ writable: 1 }]);
  const chain = queue.take()!;
  assertMisuse("invalid-length", () => queue.complete(chain, 2));
  assertMisuse("invalid-length", () => queue.complete(chain, -1));
  assertMisuse("invalid-length", () => queue.complete(chain, NaN));
  queue.complete(chain, 1);
  assertMisuse("not-in-flight", () => queue.complete(chain, 1));
  assertMisuse("not-in-flight", () => queue.untake(chain));
});

Deno.test("options that cannot be are refused", () => {
  const { driver } = rig();
  const options = queueOptions(driver);
  const refuse = (kind: string, changes: Partial<PackedQueueOptions>): void =>
    assertMisuse(kind, () => void new PackedQueue({ ...options, ...changes }));
  for (const size of [0, 32_769, 1.5, -1]) refuse("invalid-size", { size });
  for (const position of [-1, 0.5, 2 ** 32, 7, 0x8007, 0x8008_8000]) {
    refuse("invalid-option", { position });
  }
  // More than the ring holds lies between: 6 of this lap to 1 of the last one.
  refuse("invalid-option", { position: 0x8006_8001 });
  refuse("invalid-option", { slots: 0 });
  refuse("unaligned-ring", { descriptorTable: 8 });
  refuse("unaligned-ring", { availableRing: 2 });
  refuse("unaligned-ring", { usedRing: 2 });
  refuse("ring-outside-memory", { descriptorTable: 16384 - 96 });
  refuse("ring-outside-memory", { availableRing: 16384 });
  refuse("ring-outside-memory", { usedRing: 2 ** 40 });
});

Deno.test("bad chains are answered with length 0, and the next one is served", () => {
  const table = DATA + 4096;
  const bad: [what: string, chain: RawPackedDescriptor[]][] = [
    ["outside of guest memory", [buffer({ address: 2 ** 40 })]],
    ["outside of guest memory", [buffer({ length: 2 ** 20 })]],
    ["outside of guest memory", [buffer({ address: 2n ** 64n - 1n })]],
    ["follows a device-writable", [
      buffer({ flags: WRITE | NEXT }),
      buffer(),
    ]],
    ["add up to 2^32", [
      buffer({ flags: NEXT }),
      buffer({ length: 0xffff_ffff }),
    ]],
    ["both INDIRECT and NEXT", [
      buffer({ address: table, flags: INDIRECT | NEXT }),
      buffer(),
    ]],
    ["both INDIRECT and NEXT", [
      buffer({ flags: NEXT }),
      buffer({ address: table, flags: INDIRECT }),
    ]],
    ...[0, 8, 17, 16 * 32769].map((length) =>
      ["length of an indirect table", [
        buffer({ address: table, length, flags: INDIRECT }),
      ]] as [string, RawPackedDescriptor[]]
    ),
    ["indirect table lies outside", [
      buffer({ address: 2 ** 41, flags: INDIRECT }),
    ]],
  ];
  for (const [what, chain] of bad) {
    const { driver, queue } = rig();
    // The id of the last descriptor is the one that counts.
    const last = chain.at(-1)!;
    driver.offer(...chain.slice(0, -1), { ...last, id: 5 });
    driver.offer(buffer({ id: 3 }));
    const good = queue.take();
    assertEquals(good?.head, 3, what);
    assertEquals([queue.counters.badChains, queue.broken], [1, null]);
    assert(queue.lastError?.includes(what), `${queue.lastError}, not ${what}`);
    queue.publish();
    const [length, id] = [0, 5];
    assertEquals(driver.reapOffered(chain.length), { id, length });
  }
});

Deno.test("indirect tables: WRITE is the only flag, and ids mean nothing", () => {
  const { driver, memory, queue } = rig();
  const table = DATA + 4096 + 8;
  const view = new DataView(new ArrayBuffer(48));
  [NEXT | INDIRECT, 0, WRITE | NEXT].forEach((flags, i) => {
    view.setUint32(16 * i, DATA + 100 * i, true);
    view.setUint32(16 * i + 8, 10 + i, true);
    view.setUint16(16 * i + 12, 0xdead, true);
    view.setUint16(16 * i + 14, flags | MARKS, true);
  });
  memory.write(table, new Uint8Array(view.buffer));
  driver.offer({ address: table, length: 48, flags: INDIRECT | WRITE, id: 2 });
  const chain = queue.take()!;
  assertEquals([chain.head, chain.count, chain.readableCount], [2, 3, 2]);
  assertEquals([chain.readableLength, chain.writableLength], [21, 12]);
  const without = rig({}, { indirect: false });
  without.driver.offer({ address: table, length: 48, flags: INDIRECT, id: 2 });
  assertEquals(without.queue.take(), null);
  assert(without.queue.lastError?.includes("was not negotiated"));
});

Deno.test("an indirect table may cross regions, and no window into the unknown", () => {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4096 },
    { guestAddress: 4096, bytes: 4096 },
    { guestAddress: DATA, bytes: 4096 },
  ]);
  const driver = new FakePackedDriver(memory, { size: 3 });
  const queue = startPacked(driver);
  const list = [{ readable: Uint8Array.of(9) }, { writable: 5 }];
  driver.submit(list, { indirect: true, tableAddress: 4096 - 16 });
  const chain = queue.take()!;
  assertEquals([chain.readUint8(0), chain.writableLength], [9, 5]);
});

Deno.test("ids that nobody can answer are skipped for good", () => {
  const { driver, queue } = rig();
  driver.offer(buffer({ id: 7 }), buffer({ id: 1 }), buffer({ id: 1 }));
  driver.offer(buffer({ id: 0xffff }), buffer({ id: 2 }));
  assertEquals(queue.take()?.head, 1);
  assertEquals(queue.lastError, "buffer id 7 is beyond the ring of 7");
  const second = queue.take()!;
  assertEquals([second.head, queue.counters.badChains], [2, 3]);
  assertEquals([queue.take(), queue.broken], [null, null]);
  queue.complete(second, 0);
  queue.publish();
  assertEquals(driver.reapOffered(1), { id: 2, length: 0 });
  driver.offer(buffer({ id: 1 }));
  assertEquals(queue.take(), null);
  assertEquals(
    queue.lastError,
    "chain with buffer id 1: made available again while in flight",
  );
});

Deno.test("a ring is broken by a chain without an end", () => {
  const { driver, queue } = rig();
  driver.offer(
    ...Array.from({ length: 7 }, () => buffer({ flags: NEXT })),
  );
  assertEquals([queue.take(), queue.available], [null, false]);
  assertEquals(
    queue.broken,
    "the chain at descriptor 0 has more descriptors than the driver",
  );
  assertEquals([queue.publish(), queue.enableNotification()], [false, false]);
});

Deno.test("a ring is broken by a member that is not available", () => {
  const { driver, queue } = rig();
  driver.offer(buffer({ flags: NEXT }));
  // AVAIL and USED of another lap.
  driver.setDescriptor(1, buffer({ flags: 0x8000, id: 2 }));
  assertEquals([queue.take(), queue.available], [null, false]);
  assertEquals(
    queue.broken,
    "the chain at descriptor 0 goes on at one that is not available",
  );
});

Deno.test("a bad chain without an end, or with a wrong one, breaks the ring, too", () => {
  const bad = { address: 2 ** 40, flags: NEXT };
  const endless = rig();
  endless.driver.offer(
    buffer(bad),
    ...Array.from({ length: 6 }, () => buffer({ flags: NEXT })),
  );
  assertEquals(endless.queue.take(), null);
  assertEquals(
    endless.queue.broken,
    "the chain at descriptor 0 has more descriptors than the driver",
  );
  const torn = rig();
  torn.driver.offer(buffer(bad), buffer({ flags: NEXT }));
  torn.driver.setDescriptor(2, buffer({ flags: 0x8000, id: 2 }));
  assertEquals(torn.queue.take(), null);
  assertEquals(
    torn.queue.broken,
    "the chain at descriptor 0 goes on at one that is not available",
  );
});

Deno.test("the driver has no descriptors back before it is told", () => {
  const area = new Uint8Array(packedInflightSize(4));
  const inflight = new PackedInflight(area, 4);
  const { driver, queue } = rig({ size: 4 }, { inflight });
  for (let id = 0; id < 4; id++) driver.offer(buffer({ id }));
  for (let id = 0; id < 4; id++) queue.complete(queue.take()!, 0);
  // Another processor of the guest goes on as if it had seen four answers.
  driver.offer(buffer({ id: 0 }));
  assertEquals(queue.take(), null);
  assertEquals(
    queue.broken,
    "descriptor 0 is available although all 4 of the ring are with the device",
  );
});

Deno.test("a ring is broken by more descriptors than it has", () => {
  const { driver, queue } = rig({ size: 2 });
  driver.offer(buffer({ id: 0 }), buffer({ id: 1 }));
  assert(queue.take() !== null && queue.take() !== null);
  assertEquals([queue.available, queue.broken], [false, null]);
  driver.offer(buffer({ id: 0 }));
  assertEquals(queue.available, false);
  assertEquals(
    queue.broken,
    "descriptor 0 is available although all 2 of the ring are with the device",
  );
});

Deno.test("a flood of bad chains does not keep a call", () => {
  const { driver, queue } = rig({ size: 64 });
  for (let i = 0; i < 64; i++) driver.offer(buffer({ id: 64 + i }));
  assertEquals([queue.take(), queue.counters.badChains], [null, 32]);
  assertEquals([queue.take(), queue.counters.badChains], [null, 64]);
});

Deno.test("chains longer than the device works on arrive truncated", () => {
  const { driver, queue } = rig({}, { maxSegments: 2 });
  driver.submit([{ readable: Uint8Array.of(1) }, { writable: 1 }, {
    writable: 1,
  }]);
  const chain = queue.take()!;
  assertEquals([chain.truncated, chain.writableLength], [true, 2]);
});

Deno.test("notifications are asked for by flags, or for one descriptor", () => {
  const flags = rig().driver;
  // Not zero, although the place means nothing: zero is what a driver puts there.
  assertEquals(flags.deviceEvent, 0x8000);
  const { driver, queue } = rig({ eventIdx: true });
  assertEquals(driver.deviceEvent, 2 << 16 | 0x8000);
  queue.disableNotification();
  assertEquals(driver.deviceEvent, 1 << 16);
  driver.submit([{ writable: 1 }]);
  assertEquals(driver.kickNeeded(), false);
  assertEquals(queue.enableNotification(), true);
  queue.complete(queue.take()!, 0);
  assertEquals(queue.enableNotification(), false);
  assertEquals(driver.deviceEvent, 2 << 16 | 0x8001);
  driver.submit([{ writable: 1 }]);
  assertEquals(driver.kickNeeded(), true);
});

Deno.test("the driver is notified as its event structure says", () => {
  for (const eventIdx of [false, true]) {
    const cases: [event: number, wanted: boolean][] = [
      [0, true],
      [1 << 16, false],
      // Reserved: rather once too often.
      [3 << 16, true],
      // The descriptor of this answer, the next one, one beyond the ring.
      [2 << 16 | 0x8000, true],
      [2 << 16 | 0x8001, !eventIdx],
      [2 << 16 | 0x0000, !eventIdx],
      [2 << 16 | 0x8007, true],
    ];
    for (const [event, wanted] of cases) {
      const { driver, queue } = rig({ eventIdx });
      driver.submit([{ writable: 1 }]);
      driver.driverEvent = event;
      queue.complete(queue.take()!, 0);
      assertEquals(queue.publish(), wanted, event.toString(16));
      assertEquals(queue.counters.notifications, wanted ? 1 : 0);
    }
  }
  const { driver, queue } = rig({}, { alwaysNotify: true });
  driver.disableInterrupt();
  driver.submit([{ writable: 1 }]);
  queue.complete(queue.take()!, 0);
  assertEquals(queue.publish(), true);
});

Deno.test("rebind() follows the memory, or breaks the queue", () => {
  const { driver, memory } = rig();
  const guest = memory.share(new GuestMemory());
  const queue = startPacked(driver, { memory: guest });
  driver.submit([{ writable: 1 }]);
  assert(queue.available);
  queue.rebind();
  queue.complete(queue.take()!, 0);
  guest.remove(0, 16384);
  assertMisuse("ring-outside-memory", () => queue.rebind());
  assert(queue.broken?.includes("does not lie in one region"));
  assertEquals([queue.take(), queue.ready], [null, false]);
  assertThrows(() => queue.rebind());
});

Deno.test("in order, answers wait for those before them", () => {
  const { driver, queue } = rig({}, { inOrder: true });
  for (let i = 0; i < 4; i++) driver.submit([{ writable: 4 }]);
  const chains = [queue.take()!, queue.take()!, queue.take()!];
  queue.complete(chains[1], 3);
  queue.complete(chains[2], 2);
  assertEquals([queue.inFlight, queue.publish()], [1, false]);
  queue.complete(chains[0], 4);
  assertEquals(queue.publish(), true);
  assertEquals(driver.reap().map(({ token, length }) => [token, length]), [
    [0, 4],
    [1, 3],
    [2, 2],
  ]);
});

Deno.test("in order, a bad chain waits too, and its id stays in flight", () => {
  const { driver, queue } = rig({}, { inOrder: true });
  driver.offer(buffer({ id: 0 }), buffer({ address: 2 ** 40, id: 1 }));
  driver.offer(buffer({ id: 1 }), buffer({ id: 2 }));
  const first = queue.take()!;
  assertEquals([first.head, queue.take()?.head], [0, 2]);
  assertEquals([queue.counters.badChains, queue.publish()], [2, false]);
  queue.complete(first, 0);
  queue.publish();
  assertEquals(driver.reapOffered(1)?.id, 0);
  assertEquals(driver.reapOffered(1), { id: 1, length: 0 });
  assertEquals(driver.reapOffered(1), null);
});
