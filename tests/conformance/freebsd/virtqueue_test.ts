import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  featureMask,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../../virtqueue/constants.ts";
import { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { FreeBsdErrno, KernelPanic } from "./kernel.ts";
import { PhysicalMemory, SgList } from "./memory.ts";
import { Virtqueue } from "./virtqueue.ts";

const MIB = 2 ** 20;

/** A queue, and a device that does what a test says. */
class Bench {
  readonly memory = new PhysicalMemory(
    new FakeMemory([{ guestAddress: 0, bytes: MIB }]),
    [{ start: 0, size: MIB }],
  );
  readonly queue: Virtqueue<string>;
  notified = 0;
  #used = 0;

  constructor(features: bigint, size = 8, maxIndirect = 4) {
    const queue = Virtqueue.alloc<string>(this.memory, {
      index: 0,
      name: "test",
      size,
      features,
      maxIndirect,
      highAddress: Infinity,
      notify: () => this.notified++,
      interrupt: () => {},
    });
    assert(typeof queue !== "number");
    this.queue = queue;
  }

  /** Makes a chain of separate segments available. */
  enqueue(cookie: string, segments = 2): number {
    const sg = new SgList(16);
    for (let i = 0; i < segments; i++) sg.append(0x8000 + 32 * i, 16);
    return this.queue.enqueue(cookie, sg, segments - 1, 1);
  }

  /** Uses an id, whatever it is. */
  use(id: number, length = 1): void {
    const { ram } = this.memory, { usedRing, size } = this.queue;
    const at = usedRing + 4 + 8 * (this.#used % size);
    ram.setUint32(at, id);
    ram.setUint32(at + 4, length);
    this.#used++;
    ram.setUint16(usedRing + 2, this.#used & 0xffff);
  }

  /** Head of an entry of the available ring. */
  head(position: number): number {
    return this.memory.ram.getUint16(
      this.queue.availableRing + 4 + 2 * (position % this.queue.size),
    );
  }

  get availableFlags(): number {
    return this.memory.ram.getUint16(this.queue.availableRing);
  }

  get usedEvent(): number {
    const { availableRing, size } = this.queue;
    return this.memory.ram.getUint16(availableRing + 4 + 2 * size);
  }
}

const INDIRECT = featureMask(VIRTIO_F_INDIRECT_DESC);
const EVENT_IDX = featureMask(VIRTIO_F_EVENT_IDX);

function panics(body: () => unknown, message: string): void {
  assertThrows(body, KernelPanic, message);
}

Deno.test("alloc() refuses sizes that are no powers of two", () => {
  const { memory } = new Bench(0n);
  const alloc = (size: number, maxIndirect = 0): unknown =>
    Virtqueue.alloc(memory, {
      index: 0,
      name: "test",
      size,
      features: 0n,
      maxIndirect,
      highAddress: Infinity,
      notify: () => {},
      interrupt: () => {},
    });
  assertEquals(alloc(0), FreeBsdErrno.ENODEV);
  assertEquals(alloc(6), FreeBsdErrno.ENXIO);
  assertEquals(alloc(8, 257), FreeBsdErrno.EINVAL);
});

Deno.test("the ring is contiguous, its used ring on a page of its own", () => {
  const { queue } = new Bench(0n, 128);
  assertEquals(queue.descriptorTable % 4096, 0);
  assertEquals(queue.availableRing, queue.descriptorTable + 128 * 16);
  assertEquals(queue.usedRing, queue.descriptorTable + 4096);
});

Deno.test("chains of two segments and more are indirect when they may be", () => {
  const bench = new Bench(INDIRECT), { queue, memory } = bench;
  assertEquals(bench.enqueue("a", 4), 0);
  assertEquals(queue.freeCount, 7);
  const head = queue.descriptorTable + 16 * bench.head(0);
  assertEquals(memory.ram.getUint16(head + 12), VIRTQ_DESC_F_INDIRECT);
  assertEquals(memory.ram.getUint32(head + 8), 4 * 16);
  assertEquals(bench.enqueue("b", 1), 0);
  assertEquals(memory.ram.getUint16(queue.descriptorTable + 16 + 12), 2);
});

Deno.test("free descriptors are taken last in, first out", () => {
  const bench = new Bench(0n), { queue } = bench;
  for (const cookie of ["a", "b", "c", "d"]) bench.enqueue(cookie);
  assert(queue.full);
  assertEquals([0, 1, 2, 3].map((i) => bench.head(i)), [0, 2, 4, 6]);
  assertEquals(bench.enqueue("e"), FreeBsdErrno.ENOSPC);
  bench.use(4);
  bench.use(0);
  assertEquals(queue.dequeue(), { cookie: "c", length: 1 });
  assertEquals(queue.dequeue(), { cookie: "a", length: 1 });
  assertEquals(queue.dequeue(), null);
  assertEquals(bench.enqueue("f", 3), 0);
  assertEquals(bench.enqueue("g"), FreeBsdErrno.EMSGSIZE);
  assertEquals(bench.head(4), 0);
});

Deno.test("an id that is not on the ring panics", () => {
  const unknown = new Bench(INDIRECT);
  unknown.enqueue("a");
  unknown.use(3);
  panics(() => unknown.queue.dequeue(), "failed to free entire desc chain");

  const beyond = new Bench(INDIRECT);
  beyond.enqueue("a");
  beyond.use(8);
  panics(() => beyond.queue.dequeue(), "invalid ring index: 8");

  const wide = new Bench(INDIRECT);
  wide.enqueue("a");
  wide.use(0x1_0000);
  panics(() => wide.queue.dequeue(), "used id 0x10000");
});

Deno.test("an id that comes back twice panics", () => {
  for (const features of [0n, INDIRECT]) {
    const bench = new Bench(features);
    bench.enqueue("a");
    bench.enqueue("b");
    bench.use(bench.head(0));
    bench.use(bench.head(0));
    bench.queue.dequeue();
    panics(() => bench.queue.dequeue(), "failed to free entire desc chain");
  }
});

Deno.test("a descriptor that the device changed panics", () => {
  const bench = new Bench(0n);
  bench.enqueue("a", 3);
  const { descriptorTable } = bench.queue;
  bench.memory.ram.setUint16(descriptorTable + 12, 0);
  bench.use(0);
  panics(() => bench.queue.dequeue(), "remaining: 2");
});

Deno.test("more used than available panics", () => {
  const bench = new Bench(INDIRECT);
  bench.memory.ram.setUint16(bench.queue.usedRing + 2, 9);
  panics(() => bench.queue.enableIntr(), "used more than available");
});

Deno.test("without EVENT_IDX the flags suppress notifications", () => {
  const bench = new Bench(INDIRECT), { queue, memory } = bench;
  assertEquals(bench.availableFlags, VIRTQ_AVAIL_F_NO_INTERRUPT);
  assertEquals(queue.enableIntr(), false);
  assertEquals(bench.availableFlags, 0);
  bench.enqueue("a");
  queue.notify();
  memory.ram.setUint16(queue.usedRing, VIRTQ_USED_F_NO_NOTIFY);
  bench.enqueue("b");
  queue.notify();
  assertEquals(bench.notified, 1);
  assertEquals(queue.notifications, { sent: 1, suppressed: 1 });
  bench.use(0);
  assertEquals(queue.intrFilter(), true);
  assertEquals(bench.availableFlags, VIRTQ_AVAIL_F_NO_INTERRUPT);
  assertEquals(queue.enableIntr(), true, "something came meanwhile");
  queue.dequeue();
  assertEquals(queue.intrFilter(), false);
});

Deno.test("with EVENT_IDX the indices do", () => {
  const bench = new Bench(INDIRECT | EVENT_IDX), { queue, memory } = bench;
  // vq_used_cons_idx - vq_nentries - 1
  assertEquals(bench.usedEvent, 0xffff - 8);
  for (const cookie of ["a", "b", "c", "d"]) bench.enqueue(cookie);
  queue.notify();
  assertEquals(bench.notified, 1);
  bench.enqueue("e");
  queue.notify();
  assertEquals(bench.notified, 1, "avail_event is behind");
  memory.ram.setUint16(queue.usedRing + 4 + 8 * 8, 5);
  bench.enqueue("f");
  queue.notify();
  assertEquals(bench.notified, 2);
  assertEquals(queue.enableIntr(), false);
  assertEquals(bench.usedEvent, 0);
  assertEquals(queue.postponeIntr("long"), false);
  assertEquals(bench.usedEvent, 4);
  assertEquals(queue.postponeIntr("short"), false);
  assertEquals(bench.usedEvent, 1);
});

Deno.test("drain() gives back what never came, reinit() starts at 0", () => {
  const bench = new Bench(INDIRECT), { queue } = bench;
  bench.enqueue("a");
  bench.enqueue("b");
  bench.use(0);
  queue.dequeue();
  panics(() => queue.reinit(8), "reinit of a virtqueue in use");
  panics(() => queue.free(), "leaking 1 entries");
  assertEquals(queue.drain(), ["b"]);
  assert(queue.empty);
  assertEquals(queue.reinit(16), FreeBsdErrno.EINVAL);
  assertEquals(queue.reinit(8), 0);
  assertEquals([queue.availableIndex, queue.usedIndex], [0, 0]);
  const free = bench.memory.free;
  queue.free();
  assertEquals(bench.memory.free, free + 8192);
});
