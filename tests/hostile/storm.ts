/**
 * Storms: threads that do one thing without pause.
 *
 * @module
 */

import { withDeadline } from "../support/deadline.ts";

/** What a storm does. */
export type StormKind =
  /** Sends a message again and again on one connection, and reads nothing. */
  | {
    readonly kind: "messages";
    readonly socket: string;
    readonly message: Uint8Array;
  }
  /** Signals an eventfd. */
  | { readonly kind: "kicks"; readonly fd: number }
  /** Connects and leaves. */
  | { readonly kind: "connections"; readonly socket: string };

/** What the thread is told. */
export type StormOrder = StormKind & { readonly stop: Int32Array };

/** How long (ms) a storm may take to begin or to end. */
const PATIENCE = 10_000;

/** A storm that blows. */
export class Storm {
  readonly #worker: Worker;
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #failed: Promise<never>;

  private constructor() {
    this.#worker = new Worker(new URL("./storm_worker.ts", import.meta.url), {
      type: "module",
    });
    this.#failed = new Promise((_, reject) => {
      this.#worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
    });
    this.#failed.catch(() => {});
  }

  /** Begins; the thread runs when this resolves. */
  static async begin(kind: StormKind): Promise<Storm> {
    const storm = new Storm();
    const running = storm.#next();
    const order: StormOrder = { ...kind, stop: storm.#stop };
    storm.#worker.postMessage(order);
    await withDeadline(running, PATIENCE, "a storm to begin");
    return storm;
  }

  /** Ends; how much was done. */
  async end(): Promise<number> {
    const done = this.#next();
    Atomics.store(this.#stop, 0, 1);
    try {
      return await withDeadline(done, PATIENCE, "a storm to end") as number;
    } finally {
      this.#worker.terminate();
    }
  }

  #next(): Promise<unknown> {
    const message = new Promise((resolve) => {
      this.#worker.onmessage = ({ data }) => resolve(data);
    });
    return Promise.race([message, this.#failed]);
  }
}
