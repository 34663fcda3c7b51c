/**
 * What a handler of a front-end message is.
 *
 * @module
 */

import { fdName, isEventFd, type OwnedFd } from "../../sys/fd.ts";
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import type { SessionState } from "../state.ts";

/** A reply with descriptors. */
export interface Reply {
  /** The bytes after the header. */
  readonly payload: Uint8Array;
  /** Sent along, then closed. */
  readonly fds: readonly OwnedFd[];
}

/** A reply or its payload, or nothing for messages without one of their own. */
export type HandlerResult = Uint8Array | Reply | void;

/** How one message is served. */
export interface Handler {
  /** Protocol feature bit that must be acknowledged before the message. */
  readonly requires?: number;
  /** The message demands a reply of its own, whatever its flags say. */
  readonly replies?: boolean;
  /**
   * The message demands an answer, whatever its flags say, and this is a number:
   * 0, or another one where the front-end looks at it.
   */
  readonly acknowledged?: boolean;
  /** Most descriptors that may come along; none where it is absent. */
  readonly maxFds?: number;
  /**
   * Does what the message asks. Descriptors that it does not take are closed.
   *
   * @throws {ProtocolError} to refuse it
   */
  run(
    state: SessionState,
    message: Message,
  ): HandlerResult | Promise<HandlerResult>;
}

/** Handlers by message number. */
export type HandlerTable = readonly (readonly [number, Handler])[];

/**
 * The one descriptor that must come with a message.
 *
 * @throws {ProtocolError} of kind `fd-count`
 */
export function takeFd(message: Message): OwnedFd {
  if (message.fdCount !== 1) {
    throw new ProtocolError(
      "fd-count",
      message.request,
      `${message.fdCount} file descriptors came along, not 1`,
    );
  }
  return message.takeFds()[0];
}

/**
 * The eventfd that must come with a message. Nothing else is taken: a pipe or a
 * socket that is full would block whoever signals it, a file would grow, and
 * whether they block is the front-end's to change at any time.
 *
 * @throws {ProtocolError} of kind `fd-count` or `fd-kind`
 */
export function takeEventFd(message: Message): OwnedFd {
  const fd = takeFd(message);
  if (isEventFd(fd.fd)) return fd;
  const name = fdName(fd.fd);
  fd.close();
  throw new ProtocolError(
    "fd-kind",
    message.request,
    `the file descriptor is "${name}", not an eventfd`,
  );
}

/** Refuses a message for what is wrong with a descriptor. */
export function badFd(message: Message, cause: unknown): ProtocolError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ProtocolError("fd-kind", message.request, reason, { cause });
}
