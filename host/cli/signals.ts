/**
 * What signals mean to a server: SIGINT and SIGTERM stop it, the second one at
 * once; SIGHUP is a callback, unless it comes because the terminal was closed
 * that the server was started on: then it stops, as programs in the foreground do
 * (not under nohup).
 *
 * One Ctrl-C can come several times: from the terminal, and again from `deno
 * task` and from npx, which pass on what they get. So under these a signal that
 * comes just after the first one is an echo of it.
 *
 * @module
 */

import {
  hasTerminal,
  ignoresHangup,
  parentCommand,
} from "../../sys/process.ts";

/** For how long after the first signal others are its echoes, in ms. */
const ECHO = 200;

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
   * @param echo how long signals after the first one are echoes of it, in ms
   */
  constructor(
    onHangup: () => void,
    onHurry: () => void = () => {},
    echo: number = passesOn(parentCommand()) ? ECHO : 0,
  ) {
    // Before listening to any signal: the runtime then catches them all.
    const foreground = hasTerminal() && !ignoresHangup();
    const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
    this.stop = promise;
    let first = -1;
    for (const [signal, number] of STOP_SIGNALS) {
      this.#listen(signal, () => {
        const now = performance.now();
        if (first < 0) {
          first = now;
          resolve(signal);
        } else if (now - first >= echo) {
          // Requests may hang for as long as a disk does.
          onHurry();
          Deno.exit(128 + number);
        }
      });
    }
    this.#listen("SIGHUP", () => {
      if (!foreground || hasTerminal()) return onHangup();
      if (first < 0) first = performance.now();
      resolve("SIGHUP");
    });
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

/** Whether a command line is that of `deno task` or of npx. */
function passesOn([program = "", subcommand]: readonly string[]): boolean {
  return /(?:^|\/)deno$/.test(program) && subcommand === "task" ||
    /^npm\b/.test(program);
}
