/**
 * Races: a second processor of the guest that changes what the device reads.
 *
 * @module
 */

import { withDeadline } from "../support/deadline.ts";
import type { HostileGuest } from "./guest.ts";

/** A word of guest memory that is changed, and to what. */
export interface RacingWord {
  /** Guest address, a multiple of 4. */
  readonly at: number;
  /** What it is set to, one after the other in no order. */
  readonly values: readonly number[];
}

/** What the thread is told; addresses are those of this process. */
export interface RaceOrder {
  readonly stop: Int32Array;
  readonly words: readonly {
    readonly address: number;
    readonly values: readonly number[];
  }[];
}

/** How long (ms) a race may take to begin or to end. */
const PATIENCE = 10_000;

/**
 * Runs `body` while a thread changes words of guest memory.
 *
 * @returns how many words were written
 */
export async function race(
  guest: HostileGuest,
  words: readonly RacingWord[],
  body: () => Promise<void>,
): Promise<number> {
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL("./race_worker.ts", import.meta.url), {
    type: "module",
  });
  const next = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
    });
  const order: RaceOrder = {
    stop,
    words: words.map(({ at, values }) => ({
      address: hostAddress(guest, at),
      values,
    })),
  };
  const running = next();
  worker.postMessage(order);
  await withDeadline(running, PATIENCE, "a race to begin");
  const done = next();
  try {
    await body();
  } finally {
    Atomics.store(stop, 0, 1);
  }
  // Only then is the memory the guest's alone, and may go.
  const writes = await withDeadline(done, PATIENCE, "a race to end");
  return writes as number;
}

function hostAddress(guest: HostileGuest, at: number): number {
  const region = guest.regions.find(({ guestAddress, size }) =>
    at >= guestAddress && at + 4 <= guestAddress + size
  );
  if (region === undefined || at % 4 !== 0) {
    throw new RangeError(`Cannot race for the word at 0x${at.toString(16)}`);
  }
  return region.hostAddress + (at - region.guestAddress);
}
