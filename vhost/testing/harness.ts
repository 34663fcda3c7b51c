/**
 * A session and its front-end at the two ends of a socket pair, for tests.
 *
 * @module
 */

import { Reactor } from "../../sys/reactor.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { Connection } from "../connection.ts";
import type { KeptRings } from "../kept_rings.ts";
import { Session, type SessionStatus } from "../session.ts";
import type { SessionLog } from "../state.ts";
import { FrontEnd } from "./front_end.ts";
import {
  RecordingPlane,
  type RecordingPlaneOptions,
} from "./recording_plane.ts";

/**
 * One for all: a reactor gives its descriptors back some time after its close,
 * which tests that count descriptors could not tell from a leak.
 */
const reactor = new Reactor();

/** A log that is kept. */
export class KeptLog implements SessionLog {
  /** Lines as `level message {fields}`. */
  readonly lines: string[] = [];

  #add(level: string, message: string, fields?: object): void {
    const rest = fields === undefined ? "" : ` ${JSON.stringify(fields)}`;
    this.lines.push(`${level} ${message}${rest}`);
  }

  debug(message: string, fields?: object): void {
    this.#add("debug", message, fields);
  }

  info(message: string, fields?: object): void {
    this.#add("info", message, fields);
  }

  warn(message: string, fields?: object): void {
    this.#add("warn", message, fields);
  }

  error(message: string, fields?: object): void {
    this.#add("error", message, fields);
  }
}

/** Both ends of a connection, and the data plane behind it. */
export class Harness implements AsyncDisposable {
  /** Watches both ends. */
  readonly reactor: Reactor = reactor;
  readonly plane: RecordingPlane;
  readonly log: KeptLog = new KeptLog();
  readonly session: Session;
  readonly frontEnd: FrontEnd;
  /** Resolves when the session is over. */
  readonly done: Promise<void>;
  #failureSeen = false;

  private constructor(
    plane: RecordingPlane,
    kept: KeptRings | null = null,
  ) {
    const [ours, theirs] = UnixSocket.pair();
    this.plane = plane;
    this.session = new Session(new Connection(ours, reactor), plane, {
      log: this.log,
      kept,
      ringHint: "rings are made by tests",
    });
    this.frontEnd = FrontEnd.connect(theirs, reactor);
    this.done = this.session.run();
    this.done.catch(() => {});
  }

  /** Connects; nothing was said yet. */
  static open(
    options: RecordingPlaneOptions = {},
    kept: KeptRings | null = null,
  ): Harness {
    return new Harness(new RecordingPlane(options), kept);
  }

  /**
   * Makes what is made once, so that descriptors can be counted from here on.
   */
  static async warmUp(): Promise<void> {
    await using h = Harness.open();
    await h.frontEnd.handshake();
  }

  /** Connects another front-end to a data plane that served one before. */
  static reopen(plane: RecordingPlane): Harness {
    return new Harness(plane);
  }

  /** The facts of the session. */
  get status(): SessionStatus {
    return this.session.status();
  }

  /**
   * Waits until the session has taken up all that was sent: answers come in
   * order, so it is enough to have one.
   */
  async settled(): Promise<void> {
    await this.frontEnd.getFeatures();
  }

  /** Waits for the session to drop the connection; what it says of it. */
  async dropped(): Promise<string | null> {
    await this.frontEnd.closedByPeer();
    await this.done;
    return this.status.lastError;
  }

  /** Waits for the session to fail; with what. */
  async failed(): Promise<unknown> {
    this.#failureSeen = true;
    try {
      await this.done;
    } catch (error) {
      return error;
    }
    throw new Error("The session did not fail");
  }

  /** Leaves, and waits until nothing of the session is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.frontEnd.close();
    try {
      await this.done;
    } catch (error) {
      if (!this.#failureSeen) throw error;
    }
    if (this.plane.violations.length > 0) {
      throw new Error(`Contract broken: ${this.plane.violations.join(", ")}`);
    }
  }
}
