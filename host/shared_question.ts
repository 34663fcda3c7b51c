/**
 * A question that is asked once at a time, for everybody who wants the answer.
 *
 * Theory of operation. Whoever asks while nobody waits has it asked at once. Who
 * comes while an answer is awaited waits for the one after it, since the answer
 * that is under way may be older than the question; all of them share that. So
 * somebody who answers late, or never, has one question before him, however often
 * he is asked; and who gives up waiting leaves nothing behind.
 *
 * @module
 */

import { HostError } from "./error.ts";

interface Waiter<T> {
  resolve(answer: T): void;
  reject(reason: unknown): void;
}

/** Asks for all who want to know. */
export class SharedQuestion<T> {
  readonly #put: () => Promise<T>;
  /** Who gets the answer that is awaited, and who the one after it. */
  #present: Set<Waiter<T>> | null = null;
  #next = new Set<Waiter<T>>();

  /** @param put asks, whenever nobody is being asked */
  constructor(put: () => Promise<T>) {
    this.#put = put;
  }

  /**
   * The answer, as of now or later.
   *
   * @param limit milliseconds; without it, as long as it takes
   * @throws {HostError} of kind `device` when there is none in that time
   */
  async ask(limit?: number): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const waiter = { resolve, reject };
    this.#next.add(waiter);
    if (this.#present === null) void this.#begin();
    if (limit === undefined) return await promise;
    const timer = setTimeout(() => {
      this.#next.delete(waiter);
      this.#present?.delete(waiter);
      reject(new HostError("device", `No answer in ${limit} ms`));
    }, limit);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async #begin(): Promise<void> {
    while (this.#next.size > 0) {
      this.#present = this.#next;
      this.#next = new Set();
      try {
        const answer = await this.#put();
        for (const { resolve } of this.#present) resolve(answer);
      } catch (error) {
        for (const { reject } of this.#present) reject(error);
      }
    }
    this.#present = null;
  }
}
