/**
 * A vhost-user session: one connection of a front-end, from its first message
 * to the last descriptor that is closed.
 *
 * Theory of operation: {@linkcode Session.run} takes one message at a time
 * from the connection, has its handler change the state and the data plane,
 * and answers; the next message is not looked at before. While a front-end asks
 * about the configuration space again and again, the connection is lent to the
 * data plane, where that can answer itself (see `config_answerer.ts`), until
 * something else comes. When the front-end
 * leaves, breaks the protocol, or {@linkcode Session.stop} is called, memory
 * leaves in order: every ring is drained and stopped, every region is given up
 * by the data plane and then unmapped, descriptors are closed, the device is
 * reset, and the socket is closed last, so that a front-end that connects
 * again finds everything free.
 *
 * @module
 */

import { COUNTED } from "./config_answerer.ts";
import type { Connection, Message } from "./connection.ts";
import {
  FrontEndMessage,
  ProtocolFeature,
  protocolFeatureList,
} from "./constants.ts";
import type {
  ConfigDelegate,
  DataPlane,
  DataPlaneEvents,
} from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import { CONFIG_HANDLERS } from "./handlers/config.ts";
import type { Handler, Reply } from "./handlers/handler.ts";
import { INFLIGHT_HANDLERS } from "./handlers/inflight.ts";
import { LOG_HANDLERS } from "./handlers/log.ts";
import { MEMORY_HANDLERS, removeRegion } from "./handlers/memory.ts";
import { NET_HANDLERS } from "./handlers/net.ts";
import { NEGOTIATION_HANDLERS } from "./handlers/negotiation.ts";
import { RING_HANDLERS } from "./handlers/rings.ts";
import type { KeptRings } from "./kept_rings.ts";
import { dropLog, replaceLogFd } from "./log_area.ts";
import { encodeReply, encodeU64 } from "./message.ts";
import { stopRing } from "./rings.ts";
import { type SessionLog, SessionState } from "./state.ts";
import { SessionCounts, type SessionStatus, sessionStatus } from "./status.ts";

export type { SessionLog, SessionStatus };

const HANDLERS: ReadonlyMap<number, Handler> = new Map([
  ...NEGOTIATION_HANDLERS,
  ...CONFIG_HANDLERS,
  ...MEMORY_HANDLERS,
  ...NET_HANDLERS,
  ...RING_HANDLERS,
  ...INFLIGHT_HANDLERS,
  ...LOG_HANDLERS,
]);

/** Not served, and a front-end that sends one waits for a payload. */
const UNANSWERABLE: ReadonlySet<number> = new Set([
  FrontEndMessage.IOTLB_MSG,
  FrontEndMessage.CREATE_CRYPTO_SESSION,
  FrontEndMessage.POSTCOPY_ADVISE,
  FrontEndMessage.POSTCOPY_END,
  FrontEndMessage.GET_SHARED_OBJECT,
  FrontEndMessage.SET_DEVICE_STATE_FD,
  FrontEndMessage.CHECK_DEVICE_STATE,
  FrontEndMessage.GET_SHMEM_CONFIG,
  FrontEndMessage.GET_VRING_BASE_SKIP_DRAIN,
]);

const SUCCESS = encodeU64(0n);
const FAILURE = encodeU64(1n);

/** Requests about the configuration after which the connection is lent. */
const CONFIG_IN_A_ROW = 2;

/** Lines about refused and ignored messages that a session writes at most. */
const MAX_COMPLAINTS = 32;

/** What a session may be given beside connection and data plane. */
export interface SessionOptions {
  /** Where log lines go. Default: nowhere. */
  readonly log?: SessionLog;
  /** Where packed rings are tracked that the front-end does not track itself. */
  readonly kept?: KeptRings | null;
  /**
   * Where the number of rings comes from, and how to change it: for the message
   * about a ring that there is not.
   */
  readonly ringHint?: string;
}

const SILENT: SessionLog = {
  debug() {},
  info() {},
  warn() {},
  error() {},
};

/**
 * One connection of a front-end.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Reactor } from "../sys/reactor.ts";
 * import { UnixSocket } from "../sys/unix_socket.ts";
 * import { Connection } from "./connection.ts";
 * import { Session } from "./session.ts";
 * import { FrontEnd } from "./testing/front_end.ts";
 * import { RecordingPlane } from "./testing/recording_plane.ts";
 *
 * using reactor = new Reactor();
 * const [ours, theirs] = UnixSocket.pair();
 * const plane = new RecordingPlane({ queueCount: 2 });
 * const session = new Session(new Connection(ours, reactor), plane);
 * const done = session.run();
 *
 * const frontEnd = FrontEnd.connect(theirs, reactor);
 * await frontEnd.handshake();
 * assertEquals(await frontEnd.getQueueNum(), 2);
 * frontEnd.close();
 * await done;
 * ```
 */
export class Session implements DataPlaneEvents {
  readonly #connection: Connection;
  readonly #state: SessionState;
  readonly #counts = new SessionCounts();
  #run: Promise<void> | null = null;
  #dropped: string | null = null;
  #spoke = false;
  #stopped = false;
  /** Requests about the configuration since anything else came. */
  #configInARow = 0;
  /** Who answers such requests now, where not the session itself. */
  #delegate: ConfigDelegate | null = null;
  #lends = true;

  /**
   * Takes over the connection. The data plane serves this session alone until
   * {@linkcode Session.run} is over.
   *
   * @throws {RangeError} when the data plane has more than 256 queues
   */
  constructor(
    connection: Connection,
    plane: DataPlane,
    options: SessionOptions = {},
  ) {
    this.#connection = connection;
    this.#state = new SessionState(
      plane,
      options.log ?? SILENT,
      connection.reactor,
      options.kept,
    );
    this.#state.ringHint = options.ringHint ?? "";
  }

  /**
   * Serves the front-end until it leaves, breaks the protocol, or
   * {@linkcode Session.stop} is called. Then nothing of it is left.
   *
   * @throws what the data plane threw: it cannot be relied on any more. Memory
   * that it did not give up stays mapped.
   */
  run(): Promise<void> {
    this.#run ??= this.#serve();
    return this.#run;
  }

  /**
   * Drains the rings and closes the connection.
   *
   * @returns when {@linkcode Session.run} is over, in the same way
   */
  stop(): Promise<void> {
    this.#stopped = true;
    this.#connection.interrupt();
    this.#delegate?.end();
    return this.run();
  }

  /** The configuration space changed: the front-end is told when it may be. */
  configChanged(): void {
    this.#state.channel.configChanged();
  }

  /** Why the connection was dropped; `null` while it was not. */
  get dropped(): string | null {
    return this.#dropped;
  }

  /**
   * Whether anything came. Another server that looks whether somebody listens
   * connects as well, and is no front-end.
   */
  get spoke(): boolean {
    return this.#spoke;
  }

  async #serve(): Promise<void> {
    const { log } = this.#state;
    const failures: unknown[] = [];
    try {
      while (await this.#next());
      if (this.#spoke) log.info("front-end disconnected");
      else log.debug("a connection ended without a message");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#counts.lastError = reason;
      this.#dropped = reason;
      this.#spoke = true;
      log.error("connection dropped", { reason });
      if (!(error instanceof ProtocolError)) failures.push(error);
    }
    failures.push(...await this.#tearDown());
    if (failures.length > 0) throw failures[0];
  }

  /** Receives and serves one message; false when there are no more. */
  async #next(): Promise<boolean> {
    if (this.#configInARow >= CONFIG_IN_A_ROW) await this.#lend();
    using message = await this.#connection.receive();
    if (message === null) return false;
    if (!this.#spoke) this.#state.log.info("front-end connected");
    this.#spoke = true;
    let reply: Uint8Array | Reply | null;
    try {
      reply = await this.#handle(message);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      reply = this.#refuse(message, error);
    }
    // Nothing of the message is left when its answer arrives.
    message.close();
    if (reply === null) return true;
    const { payload, fds } = reply instanceof Uint8Array
      ? { payload: reply, fds: [] }
      : reply;
    try {
      return await this.#connection.send(
        encodeReply(message.request, payload),
        fds.map(({ fd }) => fd),
      );
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  /** Lends the connection to whoever answers requests about the configuration. */
  async #lend(): Promise<void> {
    const { plane, rings, log } = this.#state;
    const delegate = plane.configDelegate ?? null;
    this.#configInARow = 0;
    if (delegate === null || !this.#lends || this.#stopped) return;
    if (!rings.some((ring) => ring.running)) return;
    this.#delegate = delegate;
    // Whoever has it may be kept from noticing.
    this.#connection.whenGone(() => delegate.end());
    try {
      await delegate.answer({
        fd: this.#connection.fd,
        acknowledges: this.#state.negotiated(ProtocolFeature.REPLY_ACK),
        counts: this.#counts.delegated,
      });
    } catch (error) {
      // It does not matter who answers.
      this.#lends = false;
      const reason = error instanceof Error ? error.message : String(error);
      log.warn("the session answers all messages itself", { reason });
    } finally {
      this.#delegate = null;
    }
  }

  /** Has a message served; its answer, or `null` where none is due. */
  async #handle(message: Message): Promise<Uint8Array | Reply | null> {
    const handler = this.#handlerOf(message);
    const result = await handler.run(this.#state, message);
    this.#counts.served(message.request);
    this.#configInARow = COUNTED.includes(message.request)
      ? this.#configInARow + 1
      : 0;
    if (handler.replies) return result ?? new Uint8Array(0);
    return handler.acknowledged || this.#wantsAck(message) ? SUCCESS : null;
  }

  #handlerOf(message: Message): Handler {
    const { request } = message;
    if (message.isReply) {
      throw new ProtocolError(
        "unexpected-reply",
        request,
        "it is a reply to nothing",
      );
    }
    const handler = HANDLERS.get(request);
    if (handler === undefined || !this.#state.offers(handler.requires)) {
      throw new ProtocolError(
        "unsupported",
        request,
        "it was not negotiated and is not served",
      );
    }
    if (
      handler.requires !== undefined &&
      !this.#state.negotiated(handler.requires)
    ) {
      const [name] = protocolFeatureList(1n << BigInt(handler.requires));
      throw new ProtocolError(
        "not-negotiated",
        request,
        `protocol feature ${name} was not negotiated`,
      );
    }
    const maxFds = handler.maxFds ?? 0;
    if (message.fdCount > maxFds) {
      throw new ProtocolError(
        "fd-count",
        request,
        `${message.fdCount} file descriptors came along, more than ${maxFds}`,
      );
    }
    return handler;
  }

  #wantsAck(message: Message): boolean {
    return message.needReply &&
      this.#state.negotiated(ProtocolFeature.REPLY_ACK);
  }

  /** Answers a failed request where that is possible, else throws. */
  #refuse(message: Message, error: ProtocolError): Uint8Array | null {
    this.#counts.lastError = error.message;
    const { request } = message;
    const demandsReply = UNANSWERABLE.has(request) ||
      HANDLERS.get(request)?.replies === true;
    if (error.consequence === "drop" || demandsReply) throw error;
    if (this.#wantsAck(message)) {
      this.#counts.refused++;
      this.#complain("request refused", error);
      return FAILURE;
    }
    // Whoever did not ask would take a refusal for consent.
    const demandsAck = HANDLERS.get(request)?.acknowledged === true;
    if (error.consequence === "refuse" || demandsAck) throw error;
    this.#counts.ignored++;
    this.#complain("message ignored", error);
    return null;
  }

  #complain(what: string, error: ProtocolError): void {
    const { refused, ignored } = this.#counts;
    if (refused + ignored > MAX_COMPLAINTS) return;
    this.#state.log.warn(what, { reason: error.message });
    if (refused + ignored === MAX_COMPLAINTS) {
      this.#state.log.warn("further complaints are counted, not logged");
    }
  }

  /** Gives everything back; what goes wrong is collected. */
  async #tearDown(): Promise<unknown[]> {
    const state = this.#state;
    const failures: unknown[] = [];
    const attempt = async (step: () => void | Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    for (const ring of state.rings) await attempt(() => stopRing(state, ring));
    // Memory that a ring may still be using stays mapped.
    if (failures.length === 0) {
      for (const region of [...state.memory.regions]) {
        await attempt(() => removeRegion(state, region));
      }
    }
    if (failures.length === 0) {
      await attempt(() => dropLog(state));
      if (state.logFd !== null) await attempt(() => replaceLogFd(state, null));
    }
    if (failures.length === 0) {
      state.inflight?.release();
      state.kept?.release();
    }
    await attempt(() => state.channel.detach());
    if (failures.length === 0) {
      for (const ring of state.rings) await attempt(() => ring.close());
      await attempt(() => state.plane.reset());
    }
    await attempt(() => this.#connection.close());
    return failures;
  }

  /** The facts of the session as it is now. */
  status(): SessionStatus {
    return sessionStatus(this.#state, this.#counts);
  }
}
