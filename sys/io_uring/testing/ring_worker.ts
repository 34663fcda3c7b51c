/**
 * A Worker that owns a ring: it sleeps in `wait` until an eventfd is written
 * to, and writes to another one.
 *
 * @module
 */

import { currentThreadId } from "../../process.ts";
import { IoUring } from "../io_uring.ts";

/** What the Worker is told first. */
export interface RingWorkerOrder {
  /** An eventfd to watch. */
  kick: number;
  /** An eventfd to signal after each event. */
  call: number;
  /** After how many answers it ends. */
  rounds: number;
  /** Setup flags of the ring. */
  flags?: number;
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<RingWorkerOrder>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

scope.onmessage = (event) => {
  const { kick, call, rounds, flags } = event.data;
  using ring = new IoUring({ entries: 4, flags });
  let events = 0;
  const source = ring.register(() => {
    events++;
    ring.signal(call);
  });
  ring.watch(kick, source, 0);
  scope.postMessage({ thread: currentThreadId() });
  while (events < rounds) {
    ring.wait(-1);
    ring.reap(8);
  }
  ring.submit();
  scope.postMessage({ events, failed: ring.failedSignals });
  scope.close();
};
