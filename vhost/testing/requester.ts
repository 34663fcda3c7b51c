/**
 * Requests of a front-end and what comes back, for tests.
 *
 * Theory of operation: one request at a time. With `REPLY_ACK` negotiated,
 * requests ask for an answer and wait for it, unless `acks` is false, when
 * they are sent as QEMU sends most: without. Every wait has an end.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import type { Connection, Message } from "../connection.ts";
import {
  messageName,
  ProtocolFeature,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "../constants.ts";
import { encodeMessage } from "../message.ts";

/** The back-end answered a request with a failure, or with nonsense. */
export class FrontEndError extends Error {
  override readonly name = "FrontEndError";
}

/** Milliseconds after which a wait is given up. */
const PATIENCE = 10_000;

/**
 * Waits for a promise, but not for ever.
 *
 * @param what is waited for, for the error
 */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new FrontEndError(`No ${what} within ${PATIENCE} ms`)),
    PATIENCE,
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Sends requests and receives replies over a connection, which it owns. */
export class Requester implements Disposable {
  /** Ask for answers where `REPLY_ACK` is negotiated. */
  acks = true;
  /** Protocol features acknowledged. */
  protocolFeatures = 0n;
  readonly #connection: Connection;

  /** Takes over the connection. */
  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Whether a protocol feature was acknowledged. */
  negotiated(bit: number): boolean {
    return (this.protocolFeatures >> BigInt(bit) & 1n) === 1n;
  }

  /** Sends bytes as they are. */
  async sendRaw(bytes: Uint8Array, fds: readonly number[] = []): Promise<void> {
    if (
      !await within(this.#connection.send(bytes, fds), "room in the socket")
    ) {
      throw new FrontEndError("The back-end closed the connection");
    }
  }

  /** The next message of the back-end; `null` when it closed the connection. */
  receive(): Promise<Message | null> {
    return within(this.#connection.receive(), "message of the back-end");
  }

  /** Resolves when the back-end closed the connection, throwing away replies. */
  async closedByPeer(): Promise<void> {
    for (;;) {
      using message = await this.receive();
      if (message === null) return;
    }
  }

  /** Sends a request that has a reply of its own; its payload. */
  async get(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<Uint8Array> {
    await this.sendRaw(
      encodeMessage(request, VHOST_USER_VERSION, payload),
      fds,
    );
    return await this.#reply(request);
  }

  /** As {@linkcode Requester.get}, with the descriptors that come along. */
  async getWithFds(
    request: number,
    payload: Uint8Array,
  ): Promise<{ payload: Uint8Array; fds: OwnedFd[] }> {
    await this.sendRaw(encodeMessage(request, VHOST_USER_VERSION, payload));
    using message = await this.#replyTo(request);
    return { payload: message.payload, fds: message.takeFds() };
  }

  async #reply(request: number): Promise<Uint8Array> {
    using message = await this.#replyTo(request);
    return message.payload;
  }

  async #replyTo(request: number): Promise<Message> {
    const message = await this.receive();
    if (message === null) {
      throw new FrontEndError(
        `The back-end closed the connection after ${messageName(request)}`,
      );
    }
    if (message.request !== request || !message.isReply || message.needReply) {
      message.close();
      throw new FrontEndError(
        `The reply to ${messageName(request)} is message ${message.request} ` +
          `with flags 0x${message.flags.toString(16)}`,
      );
    }
    return message;
  }

  /**
   * Sends a request without a reply of its own; waits for the answer where
   * there will be one.
   *
   * @throws {FrontEndError} when it was refused
   */
  async set(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<void> {
    const ack = this.acks && this.negotiated(ProtocolFeature.REPLY_ACK);
    const flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
    await this.sendRaw(encodeMessage(request, flags, payload), fds);
    if (!ack) return;
    const result = u64(await this.#reply(request));
    if (result !== 0n) {
      throw new FrontEndError(
        `The back-end refused ${messageName(request)} with ${result}`,
      );
    }
  }

  /** Closes the connection. */
  close(): void {
    this.#connection.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The number that is the payload of a reply. */
export function u64(payload: Uint8Array): bigint {
  if (payload.length !== 8) {
    throw new FrontEndError(`A number is ${payload.length} bytes, not 8`);
  }
  return new DataView(payload.buffer, payload.byteOffset).getBigUint64(0, true);
}
