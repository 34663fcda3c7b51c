/**
 * Messages over a connected Unix socket: framing, descriptors, back-pressure.
 *
 * Theory of operation: a message is read in two parts, the header and as many
 * bytes as it announces, and never a byte more, so that the kernel hands every
 * descriptor out with the message it was sent with: it may come with any part
 * of that message. Descriptors belong to the {@linkcode Message} until a
 * handler takes them; the others are closed when the message is. Whatever
 * breaks off, those that had arrived are closed.
 *
 * A peer that sends without a pause would keep the thread to itself, since
 * bytes that are there are taken without a turn of the event loop: so after
 * {@linkcode MESSAGES_IN_A_ROW} messages `receive` waits for its turn.
 *
 * One side calls `receive` and `send` one after the other, never both at once.
 *
 * @module
 */

import { EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP } from "../sys/epoll.ts";
import { SystemError } from "../sys/errno.ts";
import type { OwnedFd } from "../sys/fd.ts";
import type { Reactor, Watch } from "../sys/reactor.ts";
import type { UnixSocket } from "../sys/unix_socket.ts";
import {
  MAX_FDS,
  VHOST_USER_HEADER_SIZE,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_REPLY,
} from "./constants.ts";
import { ProtocolError } from "./errors.ts";
import { decodeHeader } from "./message.ts";

/** Messages that are received before others get their turn. */
const MESSAGES_IN_A_ROW = 32;

/** A message as it was received, with the descriptors that came along. */
export class Message implements Disposable {
  /** Number of the message. */
  readonly request: number;
  /** Header flags. */
  readonly flags: number;
  /** The bytes after the header. */
  readonly payload: Uint8Array;
  readonly #fds: OwnedFd[];

  /** Takes over the descriptors. */
  constructor(
    request: number,
    flags: number,
    payload: Uint8Array,
    fds: OwnedFd[],
  ) {
    this.request = request;
    this.flags = flags;
    this.payload = payload;
    this.#fds = fds;
  }

  /** The sender wants an answer (valid once `REPLY_ACK` is negotiated). */
  get needReply(): boolean {
    return (this.flags & VHOST_USER_NEED_REPLY) !== 0;
  }

  /** The message is an answer. */
  get isReply(): boolean {
    return (this.flags & VHOST_USER_REPLY) !== 0;
  }

  /** Descriptors that nobody took yet. */
  get fdCount(): number {
    return this.#fds.length;
  }

  /** Hands all descriptors to the caller, in the order they were sent. */
  takeFds(): OwnedFd[] {
    return this.#fds.splice(0);
  }

  /** Closes the descriptors that nobody took. */
  close(): void {
    for (const fd of this.#fds.splice(0)) fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The peer is gone, in the ways in which the system says so. */
function isDisconnect(error: unknown): boolean {
  return error instanceof SystemError &&
    (error.kind === "ECONNRESET" || error.kind === "EPIPE");
}

/** One end of a vhost-user connection. Owns the socket. */
export class Connection implements Disposable {
  /** Watches the socket, and what else belongs to the session. */
  readonly reactor: Reactor;
  readonly #socket: UnixSocket;
  readonly #header = new Uint8Array(VHOST_USER_HEADER_SIZE);
  /** Reports once for each time that it is waited for. */
  #watch: Watch | null = null;
  #wake: (() => void) | null = null;
  #interrupted = false;
  /** Messages received since others had their turn. */
  #inARow = 0;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, reactor: Reactor) {
    this.#socket = socket;
    this.reactor = reactor;
  }

  /** The socket's descriptor; it stays owned by this object. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Whether the socket was closed. */
  get closed(): boolean {
    return this.#socket.closed;
  }

  /**
   * Waits for the next message.
   *
   * @returns `null` when the peer left between two messages, or after
   * {@linkcode interrupt}
   * @throws {ProtocolError} when the bytes are no message; the stream cannot
   * be followed any more
   */
  async receive(): Promise<Message | null> {
    const fds: OwnedFd[] = [];
    try {
      if (++this.#inARow > MESSAGES_IN_A_ROW && !this.#interrupted) {
        await this.#wait(EPOLLIN);
      }
      const got = await this.#fill(this.#header, fds, null);
      if (got < VHOST_USER_HEADER_SIZE) {
        if (got === 0 || this.#interrupted) return null;
        throw new ProtocolError(
          "truncated",
          null,
          `the front-end left after ${got} of ${VHOST_USER_HEADER_SIZE} header bytes`,
        );
      }
      const { request, flags, size } = decodeHeader(this.#header);
      const payload = new Uint8Array(size);
      const filled = await this.#fill(payload, fds, request);
      if (filled < size) {
        if (this.#interrupted) return null;
        throw new ProtocolError(
          "truncated",
          request,
          `the front-end left after ${filled} of ${size} payload bytes`,
        );
      }
      return new Message(request, flags, payload, fds.splice(0));
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  /** Fills `into`; fewer bytes mean the end of the stream or an interruption. */
  async #fill(
    into: Uint8Array,
    fds: OwnedFd[],
    request: number | null,
  ): Promise<number> {
    let got = 0;
    while (got < into.length) {
      if (this.#interrupted) return got;
      const n = this.#tryReceive(into.subarray(got), fds, request);
      if (n === 0) return got;
      if (n > 0) got += n;
      else await this.#wait(EPOLLIN);
    }
    return got;
  }

  #tryReceive(
    into: Uint8Array,
    fds: OwnedFd[],
    request: number | null,
  ): number {
    let n: number;
    try {
      n = this.#socket.tryReceive(into, fds, MAX_FDS);
    } catch (error) {
      if (isDisconnect(error)) return 0;
      if (
        error instanceof SystemError &&
        (error.kind === "EMSGSIZE" || error.kind === "EMFILE")
      ) {
        throw new ProtocolError("too-many-fds", request, error.message, {
          cause: error,
        });
      }
      throw error;
    }
    if (fds.length > MAX_FDS) {
      throw new ProtocolError(
        "too-many-fds",
        request,
        `${fds.length} file descriptors came along, more than ${MAX_FDS}`,
      );
    }
    return n;
  }

  /**
   * Sends a whole message; waits while the socket is full.
   *
   * @param fds sent with the first byte; they stay the caller's
   * @returns false when the peer is gone, or after {@linkcode interrupt}
   */
  async send(
    message: Uint8Array,
    fds: readonly number[] = [],
  ): Promise<boolean> {
    let sent = 0;
    while (sent < message.length) {
      if (this.#interrupted) return false;
      let n: number;
      try {
        n = this.#socket.trySend(
          message.subarray(sent),
          sent === 0 ? fds : [],
        );
      } catch (error) {
        if (isDisconnect(error)) return false;
        throw error;
      }
      if (n >= 0) sent += n;
      else await this.#wait(EPOLLOUT);
    }
    return true;
  }

  /**
   * Calls back when the peer is gone, once, unless `receive` or `send` is called
   * before: for a time in which somebody else reads.
   */
  whenGone(callback: () => void): void {
    this.#arm(EPOLLRDHUP);
    this.#wake = () => {
      this.#wake = null;
      callback();
    };
  }

  #arm(events: number): void {
    if (this.#watch === null) {
      const ready = (): void => this.#wake?.();
      this.#watch = this.reactor.watch(
        this.#socket.fd,
        events | EPOLLONESHOT,
        ready,
      );
    } else this.#watch.modify(events | EPOLLONESHOT);
  }

  #wait(events: number): Promise<void> {
    this.#inARow = 0;
    this.#arm(events);
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = null;
        resolve();
      };
    });
  }

  /** Ends `receive` and `send`, those under way and all later ones. */
  interrupt(): void {
    this.#interrupted = true;
    this.#wake?.();
  }

  /** Ends what is under way and closes the socket. */
  close(): void {
    this.interrupt();
    this.#watch?.close();
    this.#socket.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
