/**
 * The descriptors of front-ends that Workers signal, and what is done when one of
 * them keeps a Worker.
 *
 * Theory of operation. A front-end can fill the counter of an eventfd that it
 * shares with us, so that a Worker blocks when it signals. When an answer is late,
 * or a Worker of several devices stands still, full counters are emptied, and the
 * Worker goes on. Where it has other devices, too, their guests would wait each
 * time: such an eventfd is then signalled no more, until another one is set. No
 * front-end comes there by itself: it would take 2^64 signals that nobody reads.
 *
 * @module
 */

import { relieveEventFd } from "../sys/eventfd.ts";
import type { LogLevel } from "../virtqueue/device.ts";

/** Descriptors of a ring that runs; -1: none. */
export interface SignalledRing {
  /** Used-buffer notifications. */
  callFd: number;
  /** The one that is to follow. */
  nextCallFd: number;
  /** Errors. */
  errorFd: number;
}

/** Commands that replace a descriptor. */
export type SetSignalled = "set-call" | "set-error" | "set-log-fd";

/** The descriptors of one device that Workers may be signalling. */
export class Signalled {
  /** Those of rings, by ring that runs. */
  readonly rings: Map<number, SignalledRing> = new Map();
  /** Those that tell of the log. */
  logFds: number[] = [];
  readonly #mute: (type: SetSignalled, index: number) => Promise<unknown>;
  readonly #log: (level: LogLevel, message: string) => void;
  /** Descriptors that Workers are being told to signal no more. */
  readonly #muting = new Set<number>();

  /**
   * @param mute has Workers signal nothing in place of a descriptor
   * @param log takes what people should know
   */
  constructor(
    mute: (type: SetSignalled, index: number) => Promise<unknown>,
    log: (level: LogLevel, message: string) => void,
  ) {
    this.#mute = mute;
    this.#log = log;
  }

  /**
   * Empties counters that keep a Worker from going on.
   *
   * @param shared other devices are in the Worker
   */
  relieve(shared: boolean): void {
    const strike = (
      type: SetSignalled,
      index: number,
      fd: number,
      last: number,
    ): void => {
      if (fd < 0 || !relieveEventFd(fd)) return;
      // What is about to follow is not judged by what went before.
      if (shared && fd === last) void this.#silence(type, index, fd);
    };
    for (const [index, { callFd, nextCallFd, errorFd }] of this.rings) {
      const call = nextCallFd >= 0 ? nextCallFd : callFd;
      strike("set-call", index, callFd, call);
      strike("set-call", index, nextCallFd, call);
      strike("set-error", index, errorFd, errorFd);
    }
    const { logFds } = this;
    for (const fd of logFds) strike("set-log-fd", 0, fd, logFds.at(-1)!);
  }

  async #silence(
    type: SetSignalled,
    index: number,
    fd: number,
  ): Promise<void> {
    if (this.#muting.has(fd)) return;
    this.#muting.add(fd);
    const what = type === "set-log-fd"
      ? "log"
      : `${type === "set-call" ? "calls" : "errors"} of queue ${index}`;
    this.#log(
      "warn",
      `The eventfd for the ${what} was full and kept other devices waiting: ` +
        "it is signalled no more",
    );
    // The ring may have stopped, and the device ended.
    await this.#mute(type, index).catch(() => {});
    this.#muting.delete(fd);
  }
}
