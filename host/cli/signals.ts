/**
 * What signals mean to a server: SIGINT and SIGTERM stop it, the second one at
 * once; SIGHUP is a callback.
 *
 * @module
 */

const STOP_SIGNALS: ReadonlyMap<Deno.Signal, number> = new Map([
  ["SIGINT", 2],
  ["SIGTERM", 15],
]);

/** Listens for signals until it is disposed of. */
export class ServerSignals implements Disposable {
  /** Resolves with the first signal that asks to stop. */
  readonly stop: Promise<Deno.Signal>;
  readonly #listeners: [Deno.Signal, () => void][] = [];

  /**
   * Starts to listen.
   *
   * @param onHangup called for each SIGHUP
   * @param onHurry called before the second signal ends this process
   */
  constructor(onHangup: () => void, onHurry: () => void = () => {}) {
    const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
    this.stop = promise;
    let stopping = false;
    for (const [signal, number] of STOP_SIGNALS) {
      this.#listen(signal, () => {
        // Requests may hang for as long as a disk does.
        if (stopping) {
          onHurry();
          Deno.exit(128 + number);
        }
        stopping = true;
        resolve(signal);
      });
    }
    this.#listen("SIGHUP", onHangup);
  }

  #listen(signal: Deno.Signal, listener: () => void): void {
    Deno.addSignalListener(signal, listener);
    this.#listeners.push([signal, listener]);
  }

  /** Gives the signals their old meaning back. */
  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) {
      Deno.removeSignalListener(signal, listener);
    }
  }
}
