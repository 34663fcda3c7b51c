/**
 * What a supervisor and a device process say to each other: JSON-RPC 2.0, one
 * message a line, both ways, over a socket pair.
 *
 * Theory of operation: each side calls methods of the other one and tells it
 * things (a notification has no answer). Calls are performed as they arrive, and
 * answered as they end, so a slow one holds up nothing. A message is written at
 * once as far as the socket takes it; what is left waits for the socket. When
 * the other side is gone, or says something that is no message, the channel
 * ends: every call that waits is refused, and {@linkcode ControlChannel.ended}
 * resolves. Who owns the channel decides what the end means.
 *
 * The messages are not checked against schemas here: both sides are the same
 * program, and what leaves it is checked where it leaves.
 *
 * @module
 */

import { EPOLLIN, EPOLLOUT } from "../../sys/epoll.ts";
import type { Reactor, Watch } from "../../sys/reactor.ts";
import type { UnixSocket } from "../../sys/unix_socket.ts";
import { messageOf } from "../error.ts";

/** Parameters of a call or a notification. */
export type Params = Readonly<Record<string, unknown>>;

/** What this side does when the other one asks, by method name. */
export type Handlers = Readonly<
  Record<string, (params: Params) => unknown | Promise<unknown>>
>;

/** An error that the other side answered with, or the end of the channel. */
export class RemoteError extends Error {
  /** Kind of the error on the other side; `ended` is our own. */
  readonly kind: string;

  /**
   * @param kind stable name
   * @param message for people
   */
  constructor(kind: string, message: string) {
    super(message);
    this.name = "RemoteError";
    this.kind = kind;
  }
}

/** Characters of a message, at most. */
const MAXIMUM_MESSAGE = 4 << 20;
/** Messages that wait to be sent, at most. */
const MAXIMUM_UNSENT = 1000;
const CHUNK = 1 << 15;
/** The method failed or refused. */
const REFUSED = -32000;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Params;
  readonly result?: unknown;
  readonly error?: {
    readonly message?: unknown;
    readonly data?: { readonly kind?: unknown };
  };
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** One side of the conversation; owns the socket. */
export class ControlChannel implements Disposable {
  /** Resolves when nothing can come from the other side any more. */
  readonly ended: Promise<void>;
  /** What the other side did wrong, after the end. */
  problem: string | null = null;
  #end!: () => void;
  readonly #socket: UnixSocket;
  readonly #handlers: Handlers;
  readonly #watch: Watch;
  readonly #chunk = new Uint8Array(CHUNK);
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  readonly #encoder = new TextEncoder();
  readonly #waiting = new Map<number, Waiting>();
  #received = "";
  #unsent: Uint8Array[] = [];
  #lastId = 0;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, reactor: Reactor, handlers: Handlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.ended = new Promise((resolve) => this.#end = resolve);
    this.#watch = reactor.watch(socket.fd, EPOLLIN, () => this.#ready());
  }

  /** True when the channel has ended. */
  get closed(): boolean {
    return this.#socket.closed;
  }

  /**
   * Calls a method of the other side, and waits until that answers or is gone.
   *
   * @throws {RemoteError} with the other side's kind and message when it
   * refuses, `ended` when it is gone
   */
  async call(method: string, params: Params = {}): Promise<unknown> {
    const id = ++this.#lastId;
    try {
      return await new Promise((resolve, reject) => {
        if (this.closed) return reject(this.#gone());
        this.#waiting.set(id, { resolve, reject });
        this.#send({ method, params, id });
      });
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Tells the other side; nothing when it is gone. */
  tell(method: string, params: Params = {}): void {
    if (!this.closed) this.#send({ method, params });
  }

  /** Ends the channel. */
  close(): void {
    if (this.closed) return;
    this.#watch.close();
    this.#socket.close();
    for (const { reject } of this.#waiting.values()) reject(this.#gone());
    this.#waiting.clear();
    this.#end();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #gone(): RemoteError {
    return new RemoteError("ended", this.problem ?? "The other side is gone");
  }

  #fail(problem: string): void {
    this.problem ??= problem;
    this.close();
  }

  #send(message: Record<string, unknown>): void {
    if (this.#unsent.length >= MAXIMUM_UNSENT) {
      return this.#fail("The other side does not read");
    }
    const text = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.#unsent.push(this.#encoder.encode(text + "\n"));
    if (this.#unsent.length === 1) this.#flush();
  }

  /** Sends what the socket takes. */
  #flush(): void {
    try {
      while (this.#unsent.length > 0) {
        const [first] = this.#unsent;
        const sent = this.#socket.trySend(first);
        if (sent < 0) return this.#watch.modify(EPOLLIN | EPOLLOUT);
        if (sent === first.length) this.#unsent.shift();
        else this.#unsent[0] = first.subarray(sent);
      }
      this.#watch.modify(EPOLLIN);
    } catch {
      // It has hung up. What it said before is still to be read, then the end.
      this.#unsent = [];
      this.#watch.modify(EPOLLIN);
    }
  }

  #ready(): void {
    if (this.#unsent.length > 0) this.#flush();
    try {
      const count = this.#socket.tryReceive(this.#chunk, [], 0);
      if (count === 0) return this.close();
      if (count > 0) this.#take(this.#chunk.subarray(0, count));
    } catch (error) {
      this.#fail(messageOf(error));
    }
  }

  #take(bytes: Uint8Array): void {
    this.#received += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#received.split("\n");
    this.#received = lines.pop()!;
    if (this.#received.length > MAXIMUM_MESSAGE) {
      throw new Error(`A message is longer than ${MAXIMUM_MESSAGE} characters`);
    }
    for (const line of lines) {
      const message: unknown = JSON.parse(line);
      if (typeof message !== "object" || message === null) {
        throw new Error(`"${line}" is no message`);
      }
      if (!this.closed) this.#receive(message as Message);
    }
  }

  #receive({ id, method, params, result, error }: Message): void {
    if (method !== undefined) {
      void this.#perform(method, params ?? {}, id);
      return;
    }
    const waiting = this.#waiting.get(id!);
    if (waiting === undefined) return;
    if (error === undefined) return waiting.resolve(result);
    waiting.reject(
      new RemoteError(String(error.data?.kind), String(error.message)),
    );
  }

  async #perform(method: string, params: Params, id?: number): Promise<void> {
    try {
      if (!Object.hasOwn(this.#handlers, method)) {
        throw new RemoteError("usage", `There is no method "${method}"`);
      }
      const result = await this.#handlers[method](params) ?? null;
      if (id !== undefined && !this.closed) this.#send({ result, id });
    } catch (error) {
      if (id === undefined || this.closed) return;
      const { kind = "failed" } = Object(error) as { kind?: unknown };
      const message = messageOf(error);
      this.#send({ error: { code: REFUSED, message, data: { kind } }, id });
    }
  }
}
