import { assert, assertEquals } from "@std/assert";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "./constants.ts";
import type { SplitQueue } from "./split_queue.ts";
import { FakeDriver, FakeMemory } from "./testing/driver.ts";
import { startQueue } from "./testing/queue.ts";

const DATA = 0x10_0000;
const SIZE = 8;

function rig(
  changes: { indirect?: boolean; maxSegments?: number } = {},
): { memory: FakeMemory; driver: FakeDriver; queue: SplitQueue } {
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4096 },
    { guestAddress: DATA, bytes: 4096 },
    { guestAddress: DATA + 4096, bytes: 4096 },
  ]);
  const driver = new FakeDriver(memory, { size: SIZE });
  return { memory, driver, queue: startQueue(driver, changes) };
}

/** Takes the chain at descriptor 0, which is bad for a reason. */
function assertBad(
  reason: string,
  lay: (driver: FakeDriver) => void,
  changes: { indirect?: boolean } = {},
): void {
  const { driver, queue } = rig(changes);
  lay(driver);
  driver.offer(0);
  // A good one behind it, to see that the ring goes on.
  driver.setDescriptor(7, { address: DATA, length: 1 });
  driver.offer(7);
  const chain = queue.take();
  assertEquals(queue.lastError, `chain at descriptor 0: ${reason}`);
  assertEquals(chain?.head, 7);
  assertEquals(queue.counters.badChains, 1);
  assertEquals(queue.broken, null);
  assertEquals(queue.inFlight, 1);
  queue.publish();
  assertEquals(driver.usedIndex, 1);
  assertEquals(driver.usedElement(0), { id: 0, length: 0 });
}

Deno.test("a loop of direct descriptors is a bad chain", () => {
  const reason = "the chain loops";
  assertBad(reason, (driver) => {
    driver.setDescriptor(0, { address: DATA, length: 1, flags: NEXT, next: 0 });
  });
  assertBad(reason, (driver) => {
    driver.setDescriptor(0, { address: DATA, length: 1, flags: NEXT, next: 1 });
    driver.setDescriptor(1, { address: DATA, length: 0, flags: NEXT, next: 2 });
    driver.setDescriptor(2, { address: DATA, length: 1, flags: NEXT, next: 1 });
  });
});

Deno.test("a chain as long as the ring is no loop", () => {
  const { driver, queue } = rig();
  for (let i = 0; i < SIZE; i++) {
    const flags = i === SIZE - 1 ? 0 : NEXT;
    driver.setDescriptor(i, {
      address: DATA + i,
      length: 1,
      flags,
      next: i + 1,
    });
  }
  driver.offer(0);
  assertEquals(queue.take()?.readableLength, SIZE);
});

Deno.test("next beyond the table is a bad chain", () => {
  for (const next of [SIZE, 65535]) {
    assertBad("next is beyond the end of the descriptor table", (driver) => {
      driver.setDescriptor(0, { address: DATA, length: 1, flags: NEXT, next });
    });
  }
});

Deno.test("next without NEXT is not looked at", () => {
  const { driver, queue } = rig();
  driver.setDescriptor(0, { address: DATA, length: 1, next: 65535 });
  driver.offer(0);
  assertEquals(queue.take()?.readableLength, 1);
});

Deno.test("a buffer outside of memory is a bad chain", () => {
  const reason = "a buffer lies outside of guest memory";
  for (
    const [address, length] of [
      [DATA - 1, 2],
      [DATA + 8191, 2],
      [DATA + 8192, 1],
      [4095, 2],
      [2n ** 53n, 1],
      [2n ** 53n + 1n, 16],
      [2n ** 64n - 1n, 1],
      [2n ** 64n - 16n, 32],
      [DATA, 0xffffffff],
    ] as [number | bigint, number][]
  ) {
    assertBad(reason, (driver) => {
      driver.setDescriptor(0, { address, length, flags: WRITE });
    });
  }
});

Deno.test("a readable buffer behind a writable one is a bad chain", () => {
  for (const length of [0, 1]) {
    assertBad(
      "a device-readable buffer follows a device-writable one",
      (driver) => {
        const flags = WRITE | NEXT;
        driver.setDescriptor(0, { address: DATA, length, flags, next: 1 });
        driver.setDescriptor(1, { address: DATA, length: 1 });
      },
    );
  }
});

Deno.test("2^32 bytes or more in one chain are a bad chain", () => {
  const { driver, queue } = rig();
  // The sum is checked before the address: the second buffer need not exist.
  const table = DATA;
  const flags = NEXT | WRITE;
  driver.setDescriptorAt(table, { address: DATA, length: 1, flags, next: 1 });
  driver.setDescriptorAt(table + 16, {
    address: DATA,
    length: 0xffffffff,
    flags: WRITE,
  });
  driver.setDescriptor(0, { address: table, length: 32, flags: INDIRECT });
  driver.offer(0);
  assertEquals(queue.take(), null);
  assertEquals(
    queue.lastError,
    "chain at descriptor 0: the buffers add up to 2^32 bytes or more",
  );
});

Deno.test("indirect descriptors want the feature", () => {
  assertBad("VIRTIO_F_INDIRECT_DESC was not negotiated", (driver) => {
    driver.setDescriptorAt(DATA, { address: DATA, length: 1 });
    driver.setDescriptor(0, { address: DATA, length: 16, flags: INDIRECT });
  }, { indirect: false });
});

Deno.test("an indirect table within a table is a bad chain", () => {
  assertBad("an indirect table holds an indirect descriptor", (driver) => {
    driver.setDescriptorAt(DATA, {
      address: DATA,
      length: 16,
      flags: INDIRECT,
    });
    driver.setDescriptor(0, { address: DATA, length: 16, flags: INDIRECT });
  });
});

Deno.test("INDIRECT and NEXT in one descriptor is a bad chain", () => {
  assertBad("a descriptor has both INDIRECT and NEXT", (driver) => {
    driver.setDescriptorAt(DATA, { address: DATA, length: 1 });
    const flags = INDIRECT | NEXT;
    driver.setDescriptor(0, { address: DATA, length: 16, flags, next: 1 });
    driver.setDescriptor(1, { address: DATA, length: 1 });
  });
});

Deno.test("an indirect table of an odd length is a bad chain", () => {
  for (const length of [0, 1, 15, 17, 524289, 524304, 0xfffffff0]) {
    assertBad(
      "the length of an indirect table is not 16 to 524288 by steps of 16",
      (driver) => {
        driver.setDescriptor(0, { address: DATA, length, flags: INDIRECT });
      },
    );
  }
});

Deno.test("an indirect table outside of memory is a bad chain", () => {
  for (const address of [DATA - 16, DATA + 8192 - 16, 2n ** 63n]) {
    assertBad("an indirect table lies outside of guest memory", (driver) => {
      driver.setDescriptor(0, { address, length: 32, flags: INDIRECT });
    });
  }
});

Deno.test("a loop and a wild next in an indirect table are bad chains", () => {
  assertBad("the chain loops", (driver) => {
    const flags = NEXT;
    driver.setDescriptorAt(DATA, { address: DATA, length: 1, flags, next: 1 });
    driver.setDescriptorAt(DATA + 16, { address: DATA, length: 1, flags });
    driver.setDescriptor(0, { address: DATA, length: 32, flags: INDIRECT });
  });
  assertBad("next is beyond the end of the descriptor table", (driver) => {
    const flags = NEXT;
    driver.setDescriptorAt(DATA, { address: DATA, length: 1, flags, next: 2 });
    driver.setDescriptor(0, { address: DATA, length: 32, flags: INDIRECT });
  });
});

Deno.test("an indirect table may stand at the end of a direct chain", () => {
  const { memory, driver, queue } = rig();
  memory.write(DATA, Uint8Array.of(1, 2, 3));
  driver.setDescriptor(0, { address: DATA, length: 2, flags: NEXT, next: 3 });
  // The WRITE flag of the descriptor that names a table means nothing.
  driver.setDescriptor(3, {
    address: DATA + 64,
    length: 32,
    flags: INDIRECT | WRITE,
  });
  driver.setDescriptorAt(DATA + 64, {
    address: DATA + 2,
    length: 1,
    flags: NEXT,
    next: 1,
  });
  driver.setDescriptorAt(DATA + 80, { address: DATA, length: 9, flags: WRITE });
  driver.offer(0);
  const chain = queue.take();
  assert(chain !== null);
  assertEquals([chain.readableLength, chain.writableLength], [3, 9]);
  assertEquals(chain.readUint16(1), 0x0302);
});

Deno.test("an indirect table may cross regions, even in a descriptor", () => {
  for (const address of [DATA + 4096 - 16, DATA + 4096 - 24, DATA + 4096 - 1]) {
    const { driver, queue } = rig();
    const length = driver.submit(
      [{ readable: Uint8Array.of(7) }, { writable: 3 }, { writable: 4 }],
      { indirect: true, tableAddress: address },
    );
    assertEquals(length, 0);
    const chain = queue.take();
    assert(chain !== null);
    assertEquals([chain.count, chain.writableLength], [3, 7]);
    assertEquals(chain.readUint8(0), 7);
  }
});

Deno.test("an indirect table may be of any alignment and of 32768 entries", () => {
  const memory = new FakeMemory([{ guestAddress: 0, bytes: 2 ** 20 }]);
  const driver = new FakeDriver(memory, { size: 2 });
  const queue = startQueue(driver, { maxSegments: 8 });
  const table = memory.allocate(524288 + 8, 16) + 1;
  for (let i = 0; i < 32768; i++) {
    driver.setDescriptorAt(table + 16 * i, {
      address: 64 + i,
      length: 2,
      flags: i === 32767 ? WRITE : WRITE | NEXT,
      next: i + 1,
    });
  }
  driver.setDescriptor(0, { address: table, length: 524288, flags: INDIRECT });
  driver.offer(0);
  const chain = queue.take();
  assert(chain !== null);
  assertEquals(chain.truncated, true);
  assertEquals(chain.writableLength, 65536);
  assertEquals(chain.address(chain.count - 1), 64 + 32767);
});

Deno.test("an indirect table may lie beyond 2^30 and 2^31 of a region", () => {
  // Reserved, and touched at a few pages only.
  const memory = new FakeMemory([
    { guestAddress: 0, bytes: 4096 },
    { guestAddress: 2 ** 32, bytes: 2 ** 31 + 65536 },
  ]);
  const driver = new FakeDriver(memory, { size: SIZE });
  const queue = startQueue(driver);
  for (const offset of [2 ** 30 - 8, 2 ** 30, 2 ** 31 - 40, 2 ** 31 + 4096]) {
    const address = 2 ** 32 + offset + 512;
    memory.write(address, Uint8Array.of(1, 2, 3, 4));
    driver.submit([{ address, length: 4, write: false }, { writable: 1 }], {
      indirect: true,
      tableAddress: 2 ** 32 + offset,
    });
    const chain = queue.take();
    assert(chain !== null);
    assertEquals(chain.readUint32(0), 0x04030201);
    assertEquals(chain.address(0), address);
  }
});

Deno.test("every descriptor word is read once, and what was read counts", () => {
  const { memory, driver, queue } = rig();
  memory.write(DATA + 512, Uint8Array.of(1, 2, 3, 4));
  driver.submit(
    [
      { address: DATA + 512, length: 4, write: false },
      { address: DATA + 1024, length: 8, write: true },
    ],
    { indirect: true, tableAddress: DATA },
  );
  // A driver that turns every word into garbage as soon as it was read.
  const reads = new Map<number, number>();
  const original = DataView.prototype.getUint32;
  DataView.prototype.getUint32 = function (offset, littleEndian) {
    const value = original.call(this, offset, littleEndian);
    const place = this.byteOffset + offset;
    if (this.buffer === memory.bytes(DATA, 1).buffer) {
      reads.set(place, (reads.get(place) ?? 0) + 1);
    } else {
      reads.set(-1 - place, (reads.get(-1 - place) ?? 0) + 1);
    }
    this.setUint32(offset, 0xffffffff, true);
    return value;
  };
  let chain;
  try {
    chain = queue.take();
  } finally {
    DataView.prototype.getUint32 = original;
  }
  assert(chain !== null);
  assertEquals([...reads.values()], new Array(12).fill(1));
  assertEquals(
    [0, 1].map((i) => [chain.address(i), chain.length(i)]),
    [[DATA + 512, 4], [DATA + 1024, 8]],
  );
  assertEquals(chain.readUint32(0), 0x04030201);
});
