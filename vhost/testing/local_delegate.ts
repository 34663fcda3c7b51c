/**
 * Answers requests about the configuration space in place of a session, in the
 * same thread.
 *
 * @module
 */

import { EPOLLET, EPOLLIN } from "../../sys/epoll.ts";
import { dupFd, OwnedFd } from "../../sys/fd.ts";
import type { Reactor } from "../../sys/reactor.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { ConfigAnswerer } from "../config_answerer.ts";
import type { ConfigDelegate, ConfigLoan } from "../data_plane.ts";
import type { RecordingPlane } from "./recording_plane.ts";
import { until } from "./until.ts";

/** Answers for a {@linkcode RecordingPlane}, which writes down what is written. */
export class LocalDelegate implements ConfigDelegate {
  /** Connections that were lent so far. */
  loans = 0;
  /** The loan of now. */
  loan: ConfigLoan | null = null;
  /** Why none is taken; `null`: they are. */
  refusal: Error | null = null;
  readonly #reactor: Reactor;
  readonly #plane: RecordingPlane;
  #finish: (() => void) | null = null;

  /** Watches connections with `reactor`. */
  constructor(reactor: Reactor, plane: RecordingPlane) {
    this.#reactor = reactor;
    this.#plane = plane;
  }

  answer(loan: ConfigLoan): Promise<void> {
    this.loans++;
    if (this.refusal !== null) return Promise.reject(this.refusal);
    this.loan = loan;
    const plane = this.#plane;
    const socket = new UnixSocket(new OwnedFd(dupFd(loan.fd)));
    const answerer = new ConfigAnswerer(socket, {
      get config() {
        return plane.config;
      },
      write: (offset, data) =>
        void plane.calls.push(`writeConfig ${offset} [${data}]`),
    }, loan);
    const { promise, resolve } = Promise.withResolvers<void>();
    const ready = (): void => {
      if (!answerer.serve()) this.#finish?.();
    };
    const watch = this.#reactor.watch(socket.fd, EPOLLIN | EPOLLET, ready);
    this.#finish = () => {
      this.#finish = this.loan = null;
      watch.close();
      socket.close();
      resolve();
    };
    return promise;
  }

  end(): void {
    this.#finish?.();
  }

  /** Waits until a connection is lent. */
  async lent(): Promise<ConfigLoan> {
    await until(() => this.loan !== null, "a loan");
    return this.loan!;
  }
}
