/**
 * A thread that marks pages in a dirty log, for tests: half of those of each byte.
 *
 * @module
 */

import { detachMemory, viewMemory } from "../../../sys/mapping.ts";
import { DIRTY_LOG_PAGE, DirtyLog } from "../../../virtqueue/dirty_log.ts";

/** What the thread is to do. */
export interface MarkingTask {
  /** Address of the log. */
  readonly address: number;
  /** Bytes of the log. */
  readonly size: number;
  /** First of the four pages of each byte: 0 or 4. */
  readonly half: number;
  /** The round that may begin, and how many threads have ended it. */
  readonly rounds: SharedArrayBuffer;
  /** Number of rounds. */
  readonly count: number;
}

declare const self: {
  onmessage: ((event: MessageEvent<MarkingTask>) => void) | null;
  postMessage(value: unknown): void;
  close(): void;
};

self.onmessage = ({ data: { address, size, half, rounds, count } }) => {
  const view = viewMemory(address, size);
  const log = new DirtyLog(new Uint8Array(view));
  const shared = new Int32Array(rounds);
  for (let round = 1; round <= count; round++) {
    // No sleep: both begin at once.
    while (Atomics.load(shared, 0) < round);
    for (let byte = 0; byte < size; byte++) {
      log.mark((8 * byte + half) * DIRTY_LOG_PAGE, 4 * DIRTY_LOG_PAGE);
    }
    Atomics.add(shared, 1, 1);
  }
  detachMemory(view);
  self.postMessage("done");
  self.close();
};
