/**
 * Requests about the configuration space, answered where the rings are served.
 *
 * Theory of operation. A driver that reads and writes the configuration space
 * between its requests makes two messages for each of them. A session would
 * answer from the main thread, whose waiting takes a thread more. So a session
 * may lend its connection to the thread of the rings, which is awake: there a
 * {@linkcode ConfigAnswerer} looks at what came, before it takes anything. A
 * request of these two that is there as a whole, without descriptors, is taken
 * and answered. Anything else stays in the socket, untouched, and the connection
 * goes back to the session, which finds it there: also what is only begun, what
 * breaks a rule, the end of the stream, and an answer that the socket has no room
 * for. So the order of messages is kept, and all that can go wrong with one is
 * dealt with in one place.
 *
 * @module
 */

import { SystemError } from "../sys/errno.ts";
import type { UnixSocket } from "../sys/unix_socket.ts";
import { answerConfigRead, decodeConfigWrite } from "./config_space.ts";
import {
  FrontEndMessage,
  VHOST_USER_HEADER_SIZE,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_REPLY,
} from "./constants.ts";
import type { ConfigLoan } from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import { decodeHeader, encodeReply, encodeU64 } from "./message.ts";

/** Messages that are answered before others get their turn. */
const MESSAGES_IN_A_ROW = 32;
/** What is looked at: more than the longest of these messages. */
const LOOK_BYTES = 512;

const { GET_CONFIG, SET_CONFIG } = FrontEndMessage;
const SUCCESS = encodeReply(SET_CONFIG, encodeU64(0n));

/** Index of a message in {@linkcode ConfigLoan.counts}. */
export const COUNTED: readonly number[] = [GET_CONFIG, SET_CONFIG];

/** The configuration space of a device, as its own thread has it. */
export interface ConfigSpace {
  /** The bytes of now. */
  readonly config: Uint8Array;
  /** The driver wrote. */
  write(offset: number, data: Uint8Array): void;
}

/** Answers requests about a configuration space. */
export class ConfigAnswerer {
  readonly #socket: UnixSocket;
  readonly #space: ConfigSpace;
  readonly #loan: ConfigLoan;
  readonly #bytes = new Uint8Array(LOOK_BYTES);

  /** @param socket the connection of the loan; it stays the caller's */
  constructor(socket: UnixSocket, space: ConfigSpace, loan: ConfigLoan) {
    this.#socket = socket;
    this.#space = space;
    this.#loan = loan;
  }

  /**
   * Answers what is there. To be called whenever something arrived.
   *
   * @returns false when something else is there, or the end: for the session
   */
  serve(): boolean {
    try {
      for (let i = 0; i < MESSAGES_IN_A_ROW; i++) {
        const there = this.#socket.tryPeek(this.#bytes);
        if (there < 0) return true;
        const size = this.#answer(there);
        if (size === 0) return false;
        // What comes after this look is told of again.
        if (size === there && there < LOOK_BYTES) return true;
      }
    } catch (error) {
      const known = error instanceof ProtocolError ||
        error instanceof SystemError;
      if (!known) throw error;
    }
    return false;
  }

  /** Answers and takes the first message; its size, or 0. */
  #answer(there: number): number {
    if (there < VHOST_USER_HEADER_SIZE) return 0;
    const { request, flags, size } = decodeHeader(this.#bytes);
    const end = VHOST_USER_HEADER_SIZE + size;
    if (end > there || (flags & VHOST_USER_REPLY) !== 0) return 0;
    const payload = this.#bytes.subarray(VHOST_USER_HEADER_SIZE, end);
    let reply: Uint8Array | null;
    if (request === GET_CONFIG) {
      const data = answerConfigRead(this.#space.config, request, payload);
      if (data.length === 0) return 0;
      reply = encodeReply(request, data);
    } else if (request === SET_CONFIG) {
      const write = decodeConfigWrite(this.#space.config, request, payload);
      if (write.data.length > 0) this.#space.write(write.offset, write.data);
      const wanted = (flags & VHOST_USER_NEED_REPLY) !== 0;
      reply = wanted && this.#loan.acknowledges ? SUCCESS : null;
    } else return 0;
    const { counts } = this.#loan, index = COUNTED.indexOf(request);
    // Before: who has the answer may ask for the count.
    Atomics.add(counts, index, 1);
    if (reply !== null && !this.#send(reply)) {
      Atomics.sub(counts, index, 1);
      return 0;
    }
    this.#socket.tryReceive(this.#bytes.subarray(0, end), [], 0);
    return end;
  }

  /** So little goes as a whole, or not at all. */
  #send(reply: Uint8Array): boolean {
    try {
      return this.#socket.trySend(reply) >= 0;
    } catch (error) {
      if (error instanceof SystemError) return false;
      throw error;
    }
  }
}
