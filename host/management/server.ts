/**
 * The management socket: newline-delimited JSON-RPC 2.0, many clients.
 *
 * Theory of operation: each client has a task that reads a line, answers it and
 * writes the response before it reads the next line. A slow client therefore
 * waits for itself only. The number of clients and the length of a line are
 * bounded. A client that breaks the framing (too long a line, text that is no
 * UTF-8, descriptors) is told so, where that is possible, and dropped: what
 * comes after cannot be trusted to be the start of a request.
 *
 * @module
 */

import { EPOLLIN } from "../../sys/epoll.ts";
import type { Reactor, Watch } from "../../sys/reactor.ts";
import { UnixListener, type UnixSocket } from "../../sys/unix_socket.ts";
import { HostError, messageOf } from "../error.ts";
import type { Logger } from "../log.ts";
import { answer, failure, INVALID_REQUEST, RpcError } from "./json_rpc.ts";
import { LineChannel } from "./line_channel.ts";
import type { Methods } from "./methods.ts";

/** Clients that are connected at the same time, at most. */
export const MAXIMUM_CLIENTS = 32;
/** How long nobody is accepted after the process ran out of descriptors, in ms. */
const PAUSE = 1000;

/** Serves {@linkcode Methods} on a Unix socket. */
export class ManagementServer implements Disposable {
  readonly #listener: UnixListener;
  readonly #methods: Methods;
  readonly #reactor: Reactor;
  readonly #log: Logger;
  readonly #clients = new Set<LineChannel>();
  #watch: Watch;
  #pause: ReturnType<typeof setTimeout> | undefined;

  private constructor(
    listener: UnixListener,
    methods: Methods,
    reactor: Reactor,
    log: Logger,
  ) {
    this.#listener = listener;
    this.#methods = methods;
    this.#reactor = reactor;
    this.#log = log;
    this.#watch = this.#accept();
  }

  /**
   * Listens; the socket file has mode 0600.
   *
   * @throws {SystemError} when the path is too long, or somebody listens there
   */
  static listen(
    path: string,
    methods: Methods,
    reactor: Reactor,
    log: Logger,
  ): ManagementServer {
    const listener = UnixListener.listen(path, { mode: 0o600 });
    return ManagementServer.adopt(listener, methods, reactor, log);
  }

  /** Serves a socket that listens already; it is taken over. */
  static adopt(
    listener: UnixListener,
    methods: Methods,
    reactor: Reactor,
    log: Logger,
  ): ManagementServer {
    try {
      return new ManagementServer(listener, methods, reactor, log);
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** The path of the socket. */
  get path(): string {
    return this.#listener.path;
  }

  /** Number of clients that are connected. */
  get clients(): number {
    return this.#clients.size;
  }

  /** Lets all clients go, closes the socket and removes its file. */
  close(): void {
    clearTimeout(this.#pause);
    this.#watch.close();
    this.#listener.close();
    for (const client of this.#clients) client.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #accept(): Watch {
    return this.#reactor.watch(this.#listener.fd, EPOLLIN, () => {
      try {
        for (;;) {
          const socket = this.#listener.tryAccept();
          if (socket === null) return;
          this.#admit(socket);
        }
      } catch (error) {
        this.#log.error(`Cannot accept a client: ${messageOf(error)}`);
        this.#watch.close();
        this.#pause = setTimeout(() => this.#watch = this.#accept(), PAUSE);
      }
    });
  }

  #admit(socket: UnixSocket): void {
    const channel = new LineChannel(socket, this.#reactor);
    if (this.#clients.size >= MAXIMUM_CLIENTS) {
      this.#log.warn(`Refused a client: ${MAXIMUM_CLIENTS} are connected`);
      channel.close();
      return;
    }
    this.#clients.add(channel);
    this.#serve(channel).catch((error) =>
      this.#log.debug(`A client was dropped: ${messageOf(error)}`)
    ).finally(() => {
      this.#clients.delete(channel);
      channel.close();
    });
  }

  async #serve(channel: LineChannel): Promise<void> {
    for (;;) {
      const line = await this.#nextLine(channel);
      if (line === null) return;
      if (line.trim() === "") continue;
      const response = await answer(line, (method, params) => {
        this.#log.debug("Called", { method });
        return this.#methods.call(method, params);
      });
      if (channel.closed) return;
      if (response !== null) await channel.writeLine(response);
    }
  }

  async #nextLine(channel: LineChannel): Promise<string | null> {
    try {
      return await channel.readLine();
    } catch (error) {
      if (error instanceof HostError) {
        const refusal = new RpcError(INVALID_REQUEST, error.message);
        await channel.writeLine(failure(null, refusal));
      }
      throw error;
    }
  }
}
