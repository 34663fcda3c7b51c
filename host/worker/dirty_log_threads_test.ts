/** The dirty log under two threads, which mark pages whose bits share each byte. */

import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { mapAnonymous } from "../../sys/mapping.ts";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import type { MarkingTask } from "./testing/marking_worker.ts";

const SIZE = 1 << 17, ROUNDS = 10;
const SCRIPT = new URL("./testing/marking_worker.ts", import.meta.url);

/** Starts a thread; resolves when it has done its rounds. */
function mark(task: MarkingTask): Promise<void> {
  const worker = new Worker(SCRIPT, { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(task);
  });
}

Deno.test("no mark is lost between two threads", async () => {
  using mapping = mapAnonymous(SIZE);
  const bits = new Uint8Array(mapping.buffer);
  const rounds = new SharedArrayBuffer(8);
  const shared = new Int32Array(rounds);
  const { address } = mapping;
  const task = { address, size: SIZE, rounds, count: ROUNDS };
  const threads = Promise.all([0, 4].map((half) => mark({ ...task, half })));
  const whole = new Uint8Array(SIZE).fill(0xff);
  for (let round = 1; round <= ROUNDS; round++) {
    bits.fill(0);
    Atomics.store(shared, 0, round);
    await waitUntil(() => Atomics.load(shared, 1) === 2 * round, {
      what: `the end of round ${round}`,
      timeout: 30_000,
      interval: 2,
    });
    assertEquals(Buffer.compare(bits, whole), 0, `round ${round}`);
  }
  await withDeadline(threads, 30_000, "the threads to end");
});
