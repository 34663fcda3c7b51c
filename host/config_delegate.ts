/**
 * A data Worker that answers requests about the configuration space, as the
 * session's delegate.
 *
 * @module
 */

import type { ConfigDelegate, ConfigLoan } from "../vhost/data_plane.ts";
import type { WorkerChannel } from "./worker/channel.ts";

/** Lends connections to a Worker, one at a time. */
export class WorkerConfigDelegate implements ConfigDelegate {
  readonly #channel: WorkerChannel;
  #loan: PromiseWithResolvers<void> | null = null;

  /** @param channel of the device's one Worker */
  constructor(channel: WorkerChannel) {
    this.#channel = channel;
    channel.onLoanOver = () => this.#loan?.resolve();
    channel.failed.then((error) => this.#loan?.reject(error));
  }

  async answer(loan: ConfigLoan): Promise<void> {
    const over = this.#loan = Promise.withResolvers<void>();
    await Promise.all([
      this.#channel.request({ type: "answer-config", loan }),
      over.promise,
    ]);
  }

  end(): void {
    const over = this.#loan;
    if (over === null) return;
    this.#channel.request({ type: "end-loan" })
      .then(() => over.resolve(), over.reject);
  }
}
