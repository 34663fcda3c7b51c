/**
 * Lines of text over a Unix socket, both ways, in bounded memory.
 *
 * Theory of operation: reading and writing happen on demand. Nothing is read
 * before somebody asks for a line, and a line is written before the next one is
 * asked for, so a peer that sends without reading fills its own socket buffer
 * and not our memory. At most one of the two is under way at any time; while it
 * has to wait, one watch of the reactor is open.
 *
 * @module
 */

import { EPOLLIN, EPOLLOUT } from "../../sys/epoll.ts";
import type { OwnedFd } from "../../sys/fd.ts";
import type { Reactor, Watch } from "../../sys/reactor.ts";
import type { UnixSocket } from "../../sys/unix_socket.ts";
import { HostError } from "../error.ts";

/** Bytes of one line that is received, at most, its line feed not counted. */
export const MAXIMUM_LINE = 1 << 20;

const LINE_FEED = 10;
const CHUNK = 1 << 16;

/** A socket as a stream of lines; owns the socket. */
export class LineChannel implements Disposable {
  readonly #socket: UnixSocket;
  readonly #reactor: Reactor;
  readonly #maximum: number;
  readonly #chunk = new Uint8Array(CHUNK);
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  readonly #encoder = new TextEncoder();
  /** Received, and not returned yet: `#filled` bytes. */
  #received = new Uint8Array(CHUNK);
  #filled = 0;
  /** Bytes of `#received` that are known to hold no line feed. */
  #searched = 0;
  #ended = false;
  #wake: (() => void) | null = null;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, reactor: Reactor, maximum = MAXIMUM_LINE) {
    this.#socket = socket;
    this.#reactor = reactor;
    this.#maximum = maximum;
  }

  /** True after {@linkcode close}. */
  get closed(): boolean {
    return this.#socket.closed;
  }

  /**
   * The next line without its line feed; what stands before the end of the
   * stream is a line, too.
   *
   * @returns `null` at the end of the stream, or after {@linkcode close}
   * @throws {HostError} of kind `management` when a line is too long or no
   * UTF-8
   * @throws {SystemError} when the connection broke, or descriptors came
   */
  async readLine(): Promise<string | null> {
    for (;;) {
      if (this.closed) return null;
      const line = this.#takeLine();
      if (line !== null) return this.#decode(line);
      if (this.#ended) return null;
      await this.#receive();
    }
  }

  /**
   * Writes a line, and waits until the kernel has all of it.
   *
   * @throws {HostError} of kind `management` when the channel is closed
   * @throws {SystemError} when the connection broke
   */
  async writeLine(text: string): Promise<void> {
    let rest = this.#encoder.encode(text + "\n");
    while (rest.length > 0) {
      if (this.closed) {
        throw new HostError("management", "The connection was closed");
      }
      const sent = this.#socket.trySend(rest);
      if (sent >= 0) rest = rest.subarray(sent);
      else await this.#ready(EPOLLOUT);
    }
  }

  /** Closes the socket and ends whatever waits for it. */
  close(): void {
    this.#socket.close();
    this.#wake?.();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #takeLine(): Uint8Array | null {
    const feed = this.#received.subarray(0, this.#filled)
      .indexOf(LINE_FEED, this.#searched);
    this.#searched = this.#filled;
    const whole = this.#ended && this.#filled > 0;
    if (feed < 0 && !whole) {
      if (this.#filled > this.#maximum) throw this.#tooLong();
      return null;
    }
    const end = feed < 0 ? this.#filled : feed;
    if (end > this.#maximum) throw this.#tooLong();
    const line = this.#received.slice(0, end);
    const next = Math.min(end + 1, this.#filled);
    this.#received.copyWithin(0, next, this.#filled);
    this.#filled -= next;
    this.#searched = 0;
    return line;
  }

  #tooLong(): HostError {
    return new HostError(
      "management",
      `A line is longer than ${this.#maximum} bytes`,
    );
  }

  #decode(line: Uint8Array): string {
    try {
      return this.#decoder.decode(line);
    } catch {
      throw new HostError("management", "A line is no UTF-8");
    }
  }

  async #receive(): Promise<void> {
    const fds: OwnedFd[] = [];
    const count = this.#socket.tryReceive(this.#chunk, fds, 0);
    if (count < 0) return await this.#ready(EPOLLIN);
    if (count === 0) {
      this.#ended = true;
      return;
    }
    if (this.#filled + count > this.#received.length) {
      const grown = new Uint8Array(2 * this.#received.length + count);
      grown.set(this.#received.subarray(0, this.#filled));
      this.#received = grown;
    }
    this.#received.set(this.#chunk.subarray(0, count), this.#filled);
    this.#filled += count;
  }

  /** Resolves on one of `events`, when the peer hung up, or on `close`. */
  async #ready(events: number): Promise<void> {
    let watch: Watch | undefined;
    try {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        watch = this.#reactor.watch(this.#socket.fd, events, () => resolve());
      });
    } finally {
      this.#wake = null;
      watch?.close();
    }
  }
}
