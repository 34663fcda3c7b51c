/**
 * A session's connection in the loop of a data Worker, for as long as nothing
 * but requests about the configuration space comes.
 *
 * @module
 */

import { OwnedFd } from "../../sys/fd.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { ConfigAnswerer } from "../../vhost/config_answerer.ts";
import type { ConfigLoan } from "../../vhost/data_plane.ts";
import { writeWords } from "../../virtqueue/config_words.ts";
import type { VirtioDevice } from "../../virtqueue/device.ts";
import type { DataLoop } from "./data_loop.ts";

/** A connection that is answered here. */
export class LentConnection implements Disposable {
  readonly #loop: DataLoop;
  /** The session's, which keeps it open: it is never closed here. */
  readonly #socket: UnixSocket;
  readonly #token: number;
  #ended = false;

  /**
   * @param device has words that the driver writes
   * @param over called when something came that is the session's
   * @throws {SystemError} when it cannot be watched
   */
  constructor(
    loop: DataLoop,
    device: VirtioDevice,
    loan: ConfigLoan,
    over: () => void,
  ) {
    const { config, driverWords = [] } = device;
    this.#loop = loop;
    this.#socket = new UnixSocket(new OwnedFd(loan.fd));
    const answerer = new ConfigAnswerer(this.#socket, {
      config,
      write: (offset, data) => writeWords(config, driverWords, offset, data),
    }, loan);
    try {
      this.#token = loop.watch(loan.fd, () => {
        if (answerer.serve()) return;
        this[Symbol.dispose]();
        over();
      }, true);
    } catch (error) {
      this.#socket.release();
      throw error;
    }
  }

  /** Gives the connection back; does nothing the second time. */
  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#loop.unwatch(this.#token);
    this.#socket.release();
  }
}
