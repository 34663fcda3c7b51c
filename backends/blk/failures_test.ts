import { assertEquals } from "@std/assert";
import { Errno } from "../../sys/errno.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import { Failures } from "./failures.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
} from "./protocol.ts";
import { BlkBench, header, pattern, ranges } from "./testing/bench.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

ringTest("Failures logs a cause once in a while, and how often it came", () => {
  const lines: string[] = [];
  let now = 0;
  const failures = new Failures({
    log: (level, message) => lines.push(`${level} ${message}`),
    resume: () => {},
  }, () => now);
  failures.failed("write", Errno.ENOSPC, 8192, 4096);
  for (let i = 0; i < 5; i++) failures.failed("write", Errno.ENOSPC, 0, 512);
  failures.failed("read", Errno.EIO, 0, 512);
  failures.failed("flush", Errno.EIO, 0, 0);
  now = 9_999;
  failures.failed("flush", Errno.EIO, 0, 0);
  now = 10_000;
  failures.failed("flush", Errno.EIO, 0, 0);
  assertEquals(lines, [
    "error write of 4096 bytes at 8192 failed: No space left on device (ENOSPC)",
    "error read of 512 bytes at 0 failed: Input/output error (EIO)",
    "error flush failed: Input/output error (EIO)",
    "error flush failed: Input/output error (EIO); 1 more like it before",
  ]);
});

/** A device that stops on errors, over a storage whose operations tests end. */
function stopping(features?: bigint): [BlkBench, FakeStorage] {
  const storage = new FakeStorage(2 ** 20);
  const bench = new BlkBench({
    storage,
    features,
    blk: { onError: "stop" },
  });
  return [bench, storage];
}

function write(bench: BlkBench, sector: number, data: Uint8Array): number {
  return bench.offer([
    { readable: header(VIRTIO_BLK_T_OUT, sector) },
    { readable: data },
    { writable: 1 },
  ]);
}

ringTest("on-error=report answers what failed, and says why", () => {
  const storage = new FakeStorage(2 ** 20);
  storage.immediate = true;
  using bench = new BlkBench({ storage });
  storage.errors.push(Errno.ENOSPC);
  assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_IOERR);
  assertEquals(bench.write(0, pattern(512, 1)).status, VIRTIO_BLK_S_OK);
  assertEquals(bench.lines, [
    "error write of 512 bytes at 0 failed: No space left on device (ENOSPC)",
  ]);
});

ringTest(
  "on-error=stop holds what failed and takes no more, until resume",
  () => {
    const [bench, storage] = stopping();
    using _ = bench;
    const data = [1, 2, 3].map((seed) => pattern(4096, seed));
    const tokens = data.map((bytes, i) => write(bench, 8 * i, bytes));
    bench.turn();
    storage.errors.push(Errno.EIO, 0, Errno.ENOSPC);
    for (let i = 0; i < 3; i++) storage.complete(0);
    const late = write(bench, 80, pattern(512, 9));
    bench.turn();
    assertEquals([...bench.reap().keys()], [tokens[1]]);
    assertEquals(bench.device.serve(bench.queues[0], 8), false);
    assertEquals(bench.device.status().heldRequests, 2);
    assertEquals(bench.lines, [
      "error write of 4096 bytes at 0 failed: Input/output error (EIO)",
      "error the disk is stopped; `ctl resume` has it go on",
      "error write of 4096 bytes at 8192 failed: No space left on device (ENOSPC)",
    ]);
    assertEquals(bench.device.command("resume"), { resumed: 2 });
    assertEquals(
      bench.lines.at(-1),
      "info the disk goes on: 2 requests were held",
    );
    assertEquals(bench.device.command("resume"), { resumed: 0 });
    assertEquals(bench.lines.length, 4);
    bench.turn();
    while (storage.pending.length > 0) storage.complete(0);
    bench.turn();
    const answers = bench.reap();
    assertEquals(
      [...answers].map(([token, { status }]) => [token, status]),
      [tokens[0], tokens[2], late].map((token) => [token, VIRTIO_BLK_S_OK]),
    );
    for (const [i, bytes] of data.entries()) {
      assertEquals(storage.disk.slice(4096 * i, 4096 * (i + 1)), bytes);
    }
  },
);

ringTest("on-error=stop: what fails again is held again", () => {
  const [bench, storage] = stopping();
  using _ = bench;
  const token = bench.offer([
    { readable: header(VIRTIO_BLK_T_DISCARD, 0) },
    { readable: ranges([0, 8, 0], [16, 8, 0]) },
    { writable: 1 },
  ]);
  bench.turn();
  storage.complete(0);
  storage.errors.push(Errno.EIO);
  storage.complete(0);
  bench.device.command("resume");
  storage.errors.push(Errno.EIO);
  storage.complete(0);
  assertEquals(bench.device.status().heldRequests, 1);
  bench.device.command("resume");
  storage.complete(0);
  storage.complete(0);
  bench.turn();
  assertEquals(bench.reap().get(token)?.status, VIRTIO_BLK_S_OK);
});

ringTest(
  "on-error=stop answers a flush that failed: it is not tried again",
  () => {
    const [bench, storage] = stopping();
    using _ = bench;
    const token = bench.offer([
      { readable: header(VIRTIO_BLK_T_FLUSH, 0) },
      { writable: 1 },
    ]);
    bench.turn();
    storage.errors.push(Errno.EIO);
    storage.complete(0);
    bench.turn();
    assertEquals(bench.reap().get(token)?.status, VIRTIO_BLK_S_IOERR);
    assertEquals(bench.device.status().heldRequests, 0);
  },
);

ringTest("on-error=stop: requests that are held end with their ring", () => {
  const [bench, storage] = stopping();
  using _ = bench;
  const token = write(bench, 0, pattern(512, 1));
  bench.turn();
  storage.errors.push(Errno.EIO);
  storage.complete(0);
  assertEquals(bench.queues[0].inFlight, 1);
  bench.device.quiesce(bench.queues[0]);
  assertEquals(bench.queues[0].inFlight, 0);
  bench.turn();
  assertEquals(bench.reap().get(token)?.status, VIRTIO_BLK_S_IOERR);
  assertEquals(bench.device.status().heldRequests, 0);
});
