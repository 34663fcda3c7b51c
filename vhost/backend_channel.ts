/**
 * Messages of the back-end to the front-end, over a socket of their own
 * (`VHOST_USER_SET_BACKEND_REQ_FD`).
 *
 * Theory of operation: there is one kind of message, "the configuration
 * changed", so all that is kept is whether one is due. It is sent when it may
 * be (`permitted`: a ring runs), never waited for, and not again before the
 * last one is on its way: many changes make one message. No reply is asked
 * for; whatever arrives is read and thrown away, descriptors closed, so that
 * the peer never blocks.
 *
 * @module
 */

import { EPOLLIN, EPOLLOUT } from "../sys/epoll.ts";
import { SystemError } from "../sys/errno.ts";
import type { OwnedFd } from "../sys/fd.ts";
import type { Reactor, Watch } from "../sys/reactor.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { BackEndMessage, VHOST_USER_VERSION } from "./constants.ts";
import { encodeMessage } from "./message.ts";

const CONFIG_CHANGE = encodeMessage(
  BackEndMessage.CONFIG_CHANGE_MSG,
  VHOST_USER_VERSION,
);

/** The sending end of the back-end channel; there may be no socket yet. */
export class BackendChannel implements Disposable {
  readonly #reactor: Reactor;
  readonly #permitted: () => boolean;
  readonly #trash = new Uint8Array(4096);
  #socket: UnixSocket | null = null;
  #watch: Watch | null = null;
  #due = false;
  /** Bytes of a message that went out in part, still to be sent. */
  #rest: Uint8Array = new Uint8Array(0);
  #sent = 0;

  /**
   * A channel without a socket.
   *
   * @param permitted whether a message may be sent now
   */
  constructor(reactor: Reactor, permitted: () => boolean) {
    this.#reactor = reactor;
    this.#permitted = permitted;
  }

  /** Whether there is a socket. */
  get attached(): boolean {
    return this.#socket !== null;
  }

  /** Whether a change was not told to the front-end yet. */
  get due(): boolean {
    return this.#due;
  }

  /** Messages that were sent. */
  get sent(): number {
    return this.#sent;
  }

  /**
   * Uses this socket from now on; an older one is closed.
   *
   * @param fd taken over
   * @throws {SystemError} when it is no Unix stream socket; it is closed then
   */
  attach(fd: OwnedFd): void {
    let socket: UnixSocket;
    try {
      socket = UnixSocket.adopt(fd.fd);
    } catch (error) {
      fd.close();
      throw error;
    }
    fd.release();
    this.detach();
    this.#socket = socket;
    try {
      this.#watch = this.#reactor.watch(
        socket.fd,
        EPOLLIN,
        (events) => this.#ready(events),
      );
    } catch (error) {
      this.detach();
      throw error;
    }
    this.flush();
  }

  /** The configuration changed: says so, now or when it may. */
  configChanged(): void {
    this.#due = true;
    this.flush();
  }

  /** The front-end has read the configuration: nothing is due. */
  configRead(): void {
    this.#due = false;
  }

  /** Sends what is due, if it may be sent and the socket takes it. */
  flush(): void {
    if (this.#socket === null) return;
    try {
      if (this.#rest.length === 0 && this.#due && this.#permitted()) {
        this.#due = false;
        this.#rest = CONFIG_CHANGE;
      }
      this.#push(this.#socket);
    } catch (error) {
      this.#fail(error);
    }
  }

  #push(socket: UnixSocket): void {
    while (this.#rest.length > 0) {
      const n = socket.trySend(this.#rest);
      if (n < 0) {
        // Nothing went out of it: it can still be withheld.
        if (this.#rest === CONFIG_CHANGE) {
          this.#due = true;
          this.#rest = CONFIG_CHANGE.subarray(0, 0);
        }
        this.#watch?.modify(EPOLLIN | EPOLLOUT);
        return;
      }
      this.#rest = this.#rest.subarray(n);
      if (this.#rest.length === 0) this.#sent++;
    }
    this.#watch?.modify(EPOLLIN);
  }

  #ready(events: number): void {
    const socket = this.#socket;
    if (socket === null) return;
    if ((events & EPOLLOUT) !== 0) {
      this.#watch?.modify(EPOLLIN);
      this.flush();
    }
    if ((events & ~EPOLLOUT) !== 0 && this.#socket === socket) {
      this.#discard(socket);
    }
  }

  #discard(socket: UnixSocket): void {
    const fds: OwnedFd[] = [];
    try {
      const n = socket.tryReceive(this.#trash, fds);
      if (n === 0) this.detach();
    } catch (error) {
      this.#fail(error);
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  #fail(error: unknown): void {
    if (!(error instanceof SystemError)) throw error;
    // The front-end closed the channel or broke it: it does without.
    this.detach();
  }

  /** Closes the socket; a change that did not go out is due again. */
  detach(): void {
    if (this.#rest.length > 0) this.#due = true;
    this.#watch?.close();
    this.#watch = null;
    this.#socket?.close();
    this.#socket = null;
    this.#rest = CONFIG_CHANGE.subarray(0, 0);
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.detach();
  }
}
