import { assert, assertEquals } from "@std/assert";
import { Errno } from "../../sys/errno.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { DataFile } from "../../sys/file.ts";
import { IoTable } from "../../sys/io_table.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import { probeNowait } from "../../sys/nowait.ts";
import { skipUnless } from "../../tests/support/skip.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { STORAGE_FLUSH, STORAGE_READ } from "./storage.ts";
import { UringEngine } from "./uring_engine.ts";

const UNIT = 4096;
/** More reads than any count of tries that the engine waits for. */
const MANY = 64;

/** Whether reads of temporary files can complete inside a submission. */
function readsInline(): boolean {
  if (!IoUring.supported()) return false;
  using directory = TemporaryDirectory.make("inline");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(UNIT));
  using file = DataFile.open(path);
  return probeNowait(file).read;
}

const inline = skipUnless(
  readsInline(),
  "needs io_uring, and a temporary directory that is read without waiting",
);

/** An engine over a file in the page cache, and the ring that it shares. */
class Bench implements Disposable {
  readonly ring = new IoUring();
  readonly engine: UringEngine;
  /** What the ring answers instead of the truth. */
  answer: number | null = null;
  /** Results, in the order of their arrival. */
  readonly results: number[] = [];
  readonly #directory = TemporaryDirectory.make("uring");
  readonly #memory = mapAnonymous(UNIT);
  readonly #table = new IoTable(MANY, 1);

  /** @param hanging what is read in place of the image */
  constructor(hanging?: EventFd) {
    const path = this.#directory.file("disk.img");
    Deno.writeFileSync(path, new Uint8Array(UNIT));
    const register = this.ring.register.bind(this.ring);
    this.ring.register = (handler) =>
      register((token, result, flags) =>
        handler(token, this.answer ?? result, flags)
      );
    if (hanging !== undefined) {
      const { registerFile } = this.ring;
      this.ring.registerFile = () => registerFile.call(this.ring, hanging.fd);
    }
    this.engine = new UringEngine(DataFile.open(path), this.ring, {
      blockSize: 512,
      share: false,
      nowait: { read: true, write: false },
    });
    this.engine.attach(this.#table);
    this.engine.onComplete = (_slot, result) => this.results.push(result);
  }

  read(slot = 0): void {
    const { words } = this.#table.iovecs;
    const at = this.#table.iovecs.wordOffset(slot);
    words[at] = this.#memory.address;
    words[at + 1] = this.#memory.address / 4294967296;
    words[at + 2] = UNIT;
    this.#table.lengths[slot] = UNIT;
    this.#table.counts[slot] = 1;
    this.engine.submit(slot, STORAGE_READ);
  }

  /** A sleep of the loop, in which it submits and reaps. */
  sleep(): void {
    this.ring.wait(10_000);
    this.ring.reap(MANY);
  }

  /** Has the engine learn that answers do not come inline. */
  flush(): void {
    this.engine.submit(0, STORAGE_FLUSH);
    for (let i = 0; i < MANY && this.results.length === 0; i++) {
      if (this.engine.poll() === 0) this.sleep();
    }
    assertEquals(this.results.splice(0), [0]);
    this.engine.poll();
  }

  [Symbol.dispose](): void {
    this.engine.close();
    this.ring.close();
    this.#table[Symbol.dispose]();
    this.#memory.unmap();
    this.#directory[Symbol.dispose]();
  }
}

inline.test("UringEngine: what others submit does not make it wait for company", () => {
  using watched = EventFd.create();
  using bench = new Bench();
  bench.ring.watch(watched.fd, bench.ring.register(() => {}), 0);
  assertEquals(bench.engine.poll(), 0);
  bench.read();
  assertEquals(bench.engine.poll(), 1);
  assertEquals(bench.results, [UNIT]);
});

inline.test("UringEngine finds out again that answers come inline", () => {
  using bench = new Bench();
  bench.flush();
  let sleeps = 0;
  for (; sleeps < MANY; sleeps++) {
    bench.read();
    if (bench.engine.poll() === 1) break;
    bench.sleep();
    bench.engine.poll();
  }
  assert(sleeps < MANY, "no answer came inline");
  assertEquals(bench.results.length, sleeps + 1);
});

inline.test("UringEngine submits though the loop never sleeps", () => {
  using bench = new Bench();
  bench.flush();
  bench.read();
  for (let turn = 0; turn < 8 && bench.results.length === 0; turn++) {
    bench.engine.poll();
  }
  assertEquals(bench.results, [UNIT]);
});

skipUnless(IoUring.supported(), "io_uring is not available").test(
  "UringEngine does again what was interrupted",
  () => {
    using bench = new Bench();
    bench.answer = -Errno.EINTR;
    bench.read();
    bench.engine.poll();
    if (bench.results.length === 0) bench.sleep();
    assertEquals(bench.results.splice(0), [UNIT]);
    bench.engine.submit(0, STORAGE_FLUSH);
    bench.engine.poll();
    if (bench.results.length === 0) bench.sleep();
    assertEquals(bench.results, [0]);
  },
);

const uring = skipUnless(IoUring.supported(), "io_uring is not available");

uring.test("UringEngine cancelled: a read that hangs ends undone", () => {
  using event = EventFd.create({ nonblocking: false });
  using bench = new Bench(event);
  bench.read();
  bench.ring.submit();
  assertEquals(bench.engine.poll(), 0);
  bench.engine.cancel(0);
  bench.sleep();
  bench.engine.poll();
  assertEquals(bench.results, [-Errno.ECANCELED]);
  // The next one in its place is like any other.
  bench.read();
  bench.ring.submit();
  bench.engine.poll();
  assertEquals(bench.results.length, 1);
  bench.engine.cancel(0);
  bench.engine.cancel(0);
  bench.sleep();
  assertEquals(bench.results, [-Errno.ECANCELED, -Errno.ECANCELED]);
});

uring.test("UringEngine cancelled: what was not submitted is not", () => {
  using event = EventFd.create();
  using bench = new Bench(event);
  event.signal();
  bench.read();
  bench.engine.submit(1, STORAGE_FLUSH);
  for (const slot of [0, 1]) bench.engine.cancel(slot);
  // What does nothing is submitted in their place; being asked again changes nothing.
  bench.ring.submit();
  for (const slot of [0, 1]) bench.engine.cancel(slot);
  for (let i = 0; i < MANY && bench.results.length < 2; i++) bench.sleep();
  assertEquals(bench.results, [-Errno.ECANCELED, -Errno.ECANCELED]);
  assertEquals(event.drain(), 1);
});

uring.test("UringEngine cancelled: what ended all the same ended so", () => {
  const cases: [answer: number, result: number][] = [
    [UNIT, UNIT],
    [-Errno.EIO, -Errno.EIO],
    [-Errno.EINTR, -Errno.ECANCELED],
    [-Errno.EAGAIN, -Errno.ECANCELED],
    [-Errno.EINVAL, -Errno.ECANCELED],
    [UNIT - 512, -Errno.ECANCELED],
  ];
  for (const [answer, result] of cases) {
    using bench = new Bench();
    bench.answer = answer;
    bench.read();
    bench.ring.submit();
    bench.engine.cancel(0);
    for (let i = 0; i < MANY && bench.results.length === 0; i++) bench.sleep();
    assertEquals(bench.results, [result]);
    assertEquals(bench.engine.status().shortTransfers, 0);
  }
});
