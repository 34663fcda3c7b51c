/**
 * A client of the QEMU Machine Protocol (QEMU docs/interop/qmp-spec.rst):
 * JSON objects, one a line; commands answered by id, events at any time.
 *
 * @module
 */

import { DeadlineError, withDeadline } from "../../support/deadline.ts";

/** Why a command failed. */
export type QmpErrorKind = "refused" | "timeout" | "closed";

/** A failed command, or a wait for an event that did not come. */
export class QmpError extends Error {
  /** What class of failure this is; stable. */
  readonly kind: QmpErrorKind;

  /**
   * @param kind what class of failure this is
   * @param message what was asked and what QEMU said
   */
  constructor(kind: QmpErrorKind, message: string) {
    super(message);
    this.name = "QmpError";
    this.kind = kind;
  }
}

/** An event of QEMU. */
export interface QmpEvent {
  /** Its name, `RESET` say. */
  readonly event: string;
  /** What it carries. */
  readonly data: Record<string, unknown>;
}

interface Reply {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Record<string, unknown>;
  readonly QMP?: unknown;
}

interface Waiter {
  readonly accepts: (reply: Reply | null) => boolean;
  readonly wake: (reply: Reply | null) => void;
}

const DEFAULT_TIMEOUT = 10_000;

/** A connection to QEMU's monitor. */
export class QmpClient implements AsyncDisposable {
  /** All events so far. */
  readonly events: QmpEvent[] = [];
  #connection: Deno.UnixConn;
  #reading: Promise<void>;
  #waiters = new Set<Waiter>();
  #ended = false;
  #greeted = false;
  #id = 0;
  #taken = new Map<string, number>();

  private constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
    this.#reading = this.#read();
  }

  /**
   * Takes a connection whose other end is QEMU and ends the negotiation of
   * capabilities.
   *
   * @throws {QmpError} when QEMU sends no greeting
   */
  static async open(connection: Deno.UnixConn): Promise<QmpClient> {
    const client = new QmpClient(connection);
    try {
      if (!client.#greeted) {
        await client.#wait(
          (reply) => reply?.QMP !== undefined,
          DEFAULT_TIMEOUT,
          "QEMU's greeting",
        );
      }
      await client.execute("qmp_capabilities");
      return client;
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Runs a command.
   *
   * @returns what QEMU returns
   * @throws {QmpError} `refused` with QEMU's own words, `timeout`, `closed`
   */
  async execute(
    command: string,
    args: Record<string, unknown> = {},
    timeout = DEFAULT_TIMEOUT,
  ): Promise<unknown> {
    const id = ++this.#id;
    const waiting = this.#wait(
      (reply) => reply?.id === id,
      timeout,
      `the reply to ${command}`,
    );
    waiting.catch(() => {}); // seen below, after the write
    const line = JSON.stringify({ execute: command, arguments: args, id });
    try {
      await this.#write(new TextEncoder().encode(line + "\n"));
    } catch (error) {
      throw new QmpError(
        "closed",
        `QEMU did not take ${command}: ${(error as Error).message}`,
      );
    }
    const reply = await waiting;
    if (reply.error !== undefined) {
      throw new QmpError(
        "refused",
        `QEMU refused ${command}: ${reply.error.desc}`,
      );
    }
    return reply.return;
  }

  /**
   * Runs a command of the human monitor.
   *
   * @returns what it prints
   */
  async human(commandLine: string): Promise<string> {
    return String(
      await this.execute("human-monitor-command", {
        "command-line": commandLine,
      }),
    );
  }

  /**
   * The next event of this name: one that came since the last call for the
   * same name, or else the next to come.
   *
   * @throws {QmpError} `timeout` or `closed`
   */
  async event(name: string, timeout = DEFAULT_TIMEOUT): Promise<QmpEvent> {
    const from = this.#taken.get(name) ?? 0;
    const find = () =>
      this.events.findIndex((event, i) => i >= from && event.event === name);
    if (find() < 0) {
      await this.#wait(
        (reply) => reply?.event === name,
        timeout,
        `the event ${name}`,
      );
    }
    const at = find();
    this.#taken.set(name, at + 1);
    return this.events[at];
  }

  /** Closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#connection.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    await this.#reading;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      at += await this.#connection.write(bytes.subarray(at));
    }
  }

  async #wait(
    accepts: (reply: Reply | null) => boolean,
    timeout: number,
    what: string,
  ): Promise<Reply> {
    const { promise, resolve } = Promise.withResolvers<Reply | null>();
    const waiter: Waiter = { accepts, wake: resolve };
    this.#waiters.add(waiter);
    if (this.#ended) resolve(null);
    try {
      const reply = await withDeadline(promise, timeout, what);
      if (reply === null) {
        throw new QmpError("closed", `QEMU closed its monitor before ${what}`);
      }
      return reply;
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new QmpError("timeout", error.message);
    } finally {
      this.#waiters.delete(waiter);
    }
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    const into = new Uint8Array(16_384);
    let text = "";
    try {
      while (true) {
        const length = await this.#connection.read(into);
        if (length === null) break;
        text += decoder.decode(into.subarray(0, length), { stream: true });
        const lines = text.split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) this.#take(JSON.parse(line) as Reply);
      }
    } catch (error) {
      // Closed by us, or by QEMU's end.
      if (error instanceof SyntaxError) throw error;
    } finally {
      this.#ended = true;
      for (const waiter of this.#waiters) waiter.wake(null);
    }
  }

  #take(reply: Reply): void {
    if (reply.QMP !== undefined) this.#greeted = true;
    if (reply.event !== undefined) {
      this.events.push({ event: reply.event, data: reply.data ?? {} });
    }
    for (const waiter of this.#waiters) {
      if (waiter.accepts(reply)) waiter.wake(reply);
    }
  }
}
