/**
 * The dirty log under three parties at a time: two threads mark pages whose bits
 * share each byte, while a front-end takes marks out.
 */

import { assertEquals } from "@std/assert";
import { mapAnonymous } from "../../sys/mapping.ts";
import { withDeadline } from "../../tests/support/deadline.ts";
import type { MarkingTask } from "./testing/marking_worker.ts";

const SIZE = 4096, ROUNDS = 100;
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

Deno.test("no mark is lost between two threads that mark and one that takes", async () => {
  using mapping = mapAnonymous(SIZE);
  const bits = new Uint8Array(mapping.buffer);
  const rounds = new SharedArrayBuffer(8);
  const shared = new Int32Array(rounds);
  const { address } = mapping;
  const task = { address, size: SIZE, rounds, count: ROUNDS };
  const threads = Promise.all([0, 4].map((half) => mark({ ...task, half })));
  const taken = new Uint8Array(SIZE);
  const whole = new Uint8Array(SIZE).fill(0xff);
  let early = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    taken.fill(0);
    Atomics.store(shared, 0, round);
    const end = performance.now() + 30_000;
    for (let done = false; !done;) {
      done = Atomics.load(shared, 1) === 2 * round;
      for (let at = 0; at < SIZE; at++) {
        const marks = Atomics.exchange(bits, at, 0);
        taken[at] |= marks;
        if (marks !== 0 && marks !== 0xff) early++;
      }
      if (!done && performance.now() > end) throw new Error("no round ends");
      // Workers begin when this thread rests.
      if (round === 1) await new Promise((resolve) => setTimeout(resolve));
    }
    assertEquals(taken, whole, `round ${round}`);
  }
  await withDeadline(threads, 30_000, "the threads to end");
  console.log(`${early} bytes were taken with some of their marks`);
});
