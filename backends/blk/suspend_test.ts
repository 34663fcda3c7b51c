/** Requests of a ring that is suspended: they stay in flight, and are done later. */

import { assertEquals } from "@std/assert";
import { Errno } from "../../sys/errno.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";
import { FakeStorage } from "../storage/testing/fake_storage.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "./protocol.ts";
import {
  BlkBench,
  header,
  MODERN_WCE,
  pattern,
  ranges,
} from "./testing/bench.ts";

/** A device over a storage whose operations tests end. */
function tracked(
  onError: "stop" | "report" = "report",
  queues = 1,
): [BlkBench, FakeStorage] {
  const storage = new FakeStorage(2 ** 20);
  const bench = new BlkBench({
    storage,
    features: MODERN_WCE,
    blk: { onError, queues },
    tracked: true,
  });
  return [bench, storage];
}

function write(
  bench: BlkBench,
  sector: number,
  data: Uint8Array,
  queue = 0,
): number {
  return bench.offer(
    [{ readable: header(VIRTIO_BLK_T_OUT, sector) }, { readable: data }, {
      writable: 1,
    }],
    true,
    queue,
  );
}

/** The storage ends an operation, well or with an error. */
function end(storage: FakeStorage, index: number, error = 0): void {
  storage.errors.push(error);
  storage.complete(index);
}

function statuses(bench: BlkBench, queue = 0): [number, number][] {
  return [...bench.reap(queue)].map(([token, { status }]) => [token, status]);
}

ringTest(
  "BlkDevice suspended: what is cancelled stays in flight, what is done does not",
  () => {
    const [bench, storage] = tracked();
    using _ = bench;
    const data = [1, 2, 3].map((seed) => pattern(4096, seed));
    const tokens = data.map((bytes, i) => write(bench, 8 * i, bytes));
    bench.turn();
    const [queue] = bench.queues;
    bench.device.suspend(queue);
    assertEquals([storage.cancelled.length, queue.inFlight], [3, 3]);
    end(storage, 0, Errno.ECANCELED);
    end(storage, 0);
    end(storage, 0, Errno.EIO);
    assertEquals(queue.inFlight, 0);
    bench.publish();
    assertEquals(statuses(bench), [
      [tokens[1], VIRTIO_BLK_S_OK],
      [tokens[2], VIRTIO_BLK_S_IOERR],
    ]);
    assertEquals(bench.lines.length, 1);

    bench.goOn();
    assertEquals(bench.queues[0].recovering, 1);
    bench.turn();
    end(storage, 0);
    bench.turn();
    assertEquals(statuses(bench), [[tokens[0], VIRTIO_BLK_S_OK]]);
    assertEquals(storage.disk.slice(0, 4096), data[0]);
    assertEquals(bench.requests.writes, 2);
  },
);

ringTest("BlkDevice suspended: requests that are held stay in flight", () => {
  const [bench, storage] = tracked("stop");
  using _ = bench;
  const data = pattern(4096, 1);
  const token = write(bench, 0, data);
  const late = write(bench, 8, data);
  bench.turn();
  end(storage, 0, Errno.ENOSPC);
  const [queue] = bench.queues;
  bench.device.suspend(queue);
  assertEquals([queue.inFlight, bench.device.status().heldRequests], [1, 0]);
  // One that fails now is not held for anybody either.
  end(storage, 0, Errno.ENOSPC);
  assertEquals([queue.inFlight, bench.device.status().heldRequests], [0, 0]);
  bench.publish();
  assertEquals(statuses(bench), []);

  bench.goOn();
  bench.turn();
  end(storage, 0);
  end(storage, 0);
  bench.turn();
  assertEquals(statuses(bench), [
    [token, VIRTIO_BLK_S_OK],
    [late, VIRTIO_BLK_S_OK],
  ]);
});

ringTest("BlkDevice suspended: requests of several steps begin again", () => {
  const [bench, storage] = tracked();
  using _ = bench;
  bench.device.writeConfig(32, new Uint8Array([0])); // Writethrough.
  const data = pattern(4096, 1);
  const written = write(bench, 0, data);
  const discarded = bench.offer([
    { readable: header(VIRTIO_BLK_T_DISCARD, 0) },
    { readable: ranges([64, 8], [128, 8]) },
    { writable: 1 },
  ]);
  bench.turn();
  bench.device.suspend(bench.queues[0]);
  // Both do their first step, and no second one.
  end(storage, 0);
  end(storage, 0);
  assertEquals([storage.pending.length, bench.queues[0].inFlight], [0, 0]);
  bench.publish();
  assertEquals(statuses(bench), []);

  bench.goOn();
  storage.immediate = true;
  bench.turn();
  assertEquals(statuses(bench), [
    [written, VIRTIO_BLK_S_OK],
    [discarded, VIRTIO_BLK_S_OK],
  ]);
  // Two steps that were in vain, and all four again.
  assertEquals(storage.log.map(({ offset }) => offset / 512), [
    ...[0, 64],
    ...[0, 0, 64, 128],
  ]);
});

ringTest(
  "BlkDevice suspended: flushes are waited for; what somebody else cancels stays",
  () => {
    const [bench, storage] = tracked("stop");
    using _ = bench;
    const flush = () =>
      bench.offer([
        { readable: header(VIRTIO_BLK_T_FLUSH, 0) },
        { writable: 1 },
      ]);
    const [failed, left] = [flush(), flush()];
    bench.turn();
    bench.device.suspend(bench.queues[0]);
    // What they are about may be in this host's page cache alone.
    assertEquals(storage.cancelled, []);
    end(storage, 0, Errno.EIO);
    end(storage, 0, Errno.ECANCELED);
    bench.publish();
    assertEquals(statuses(bench), [[failed, VIRTIO_BLK_S_IOERR]]);
    bench.goOn();
    storage.immediate = true;
    bench.turn();
    assertEquals(statuses(bench), [[left, VIRTIO_BLK_S_OK]]);
  },
);

ringTest("BlkDevice suspended: the other queues go on", () => {
  const [bench, storage] = tracked("stop", 2);
  using _ = bench;
  const data = pattern(512, 1);
  const tokens = [0, 1].map((queue) => write(bench, 8 * queue, data, queue));
  bench.turn();
  bench.device.suspend(bench.queues[0]);
  assertEquals(storage.cancelled, [storage.log[0].slot]);
  end(storage, 0, Errno.ECANCELED);
  end(storage, 0);
  bench.publish();
  assertEquals(statuses(bench, 0), []);
  assertEquals(statuses(bench, 1), [[tokens[1], VIRTIO_BLK_S_OK]]);
});

ringTest(
  "BlkDevice suspended: a read that was cancelled is done as a whole",
  () => {
    const [bench, storage] = tracked();
    using _ = bench;
    storage.disk.set(pattern(4096, 7));
    const token = bench.offer([
      { readable: header(VIRTIO_BLK_T_IN, 0) },
      { writable: 4096 },
      { writable: 1 },
    ]);
    bench.turn();
    bench.device.suspend(bench.queues[0]);
    bench.device.suspend(bench.queues[0]);
    assertEquals(storage.cancelled.length, 2);
    end(storage, 0, Errno.ECANCELED);
    bench.goOn();
    storage.immediate = true;
    bench.turn();
    const answer = bench.reap().get(token)!;
    assertEquals([answer.status, answer.length], [VIRTIO_BLK_S_OK, 4097]);
    assertEquals(answer.data, pattern(4096, 7));
  },
);
