/**
 * Fuzzes a vhost-user session: messages and descriptors.
 *
 * Theory of operation. Both ends of a socket pair are in this process; the data
 * plane records and checks what it is asked. An input is a beginning (a part of
 * a good handshake) and messages, all of which are in the socket before the
 * session looks at the first. When it waits for more, its answers are read and
 * judged, and the front-end leaves; then the session must have given back all
 * of its rings and regions.
 *
 * An audit counts descriptors and mappings of the process, and has another
 * front-end go through a whole handshake.
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import { expect, type Observer, type Target } from "../engine/target.ts";
import { EventFd } from "../../../sys/eventfd.ts";
import { dupFd, OwnedFd } from "../../../sys/fd.ts";
import { createMemfd } from "../../../sys/memfd.ts";
import { Reactor } from "../../../sys/reactor.ts";
import { createPipe } from "../../../sys/spawn.ts";
import {
  createFullEventFd,
  openPath,
} from "../../../sys/testing/odd_descriptors.ts";
import { UnixSocket } from "../../../sys/unix_socket.ts";
import { ConfigAnswerer } from "../../../vhost/config_answerer.ts";
import { Connection } from "../../../vhost/connection.ts";
import type { ConfigDelegate } from "../../../vhost/data_plane.ts";
import { Session } from "../../../vhost/session.ts";
import { FrontEnd, SharedRegion } from "../../../vhost/testing/front_end.ts";
import {
  type PlaneCall,
  RecordingPlane,
} from "../../../vhost/testing/recording_plane.ts";
import { type Resources, resources } from "../../support/leaks.ts";
import {
  ACKNOWLEDGED,
  encode,
  type FdKindName,
  type FuzzMessage,
  MEMFD_SIZE,
  mustRefuse,
  OFFERED,
  readMessage,
  REPLYING,
  SMALL_MEMFD_SIZE,
} from "./messages.ts";
import { BEGINNINGS, SESSION_SEEDS } from "./seeds.ts";

/** Calls of the data plane that may fail without anything being left behind. */
const FAILING: readonly (PlaneCall | null)[] = [
  null,
  null,
  null,
  "startRing",
  "addRegion",
  "negotiate",
  "setCall",
  "setError",
  "setUsedLog",
  "writeConfig",
  "command",
];
/** Turns of the event loop that a session may take for its messages. */
const MOST_TURNS = 5_000;
const HEAD = 12;

/** The failure of the data plane that an input asks for. */
const planned = new Error("The data plane fails as planned");

/** A reply as it came. */
interface Reply {
  readonly request: number;
  readonly flags: number;
  readonly payload: Uint8Array;
}

/** The target. */
export class SessionTarget implements Target {
  readonly name = "session";
  readonly header = 5;
  readonly record = 16;
  readonly maxRecords = 20;
  readonly guides: readonly string[] = ["/vhost/", "/sys/"];
  readonly seeds: readonly Uint8Array[] = SESSION_SEEDS;
  readonly #stack = new DisposableStack();
  readonly #reactor = this.#stack.use(new Reactor());
  readonly #fds: Readonly<Record<FdKindName, OwnedFd | UnixSocket>>;
  #before: Resources | null = null;

  /** Opens the descriptors that inputs send. */
  constructor() {
    const [read] = createPipe().map((end) => this.#stack.use(end));
    const [left] = UnixSocket.pair().map((end) => this.#stack.use(end));
    this.#fds = {
      "eventfd": this.#stack.use(EventFd.create()),
      "full eventfd": this.#stack.use(createFullEventFd(true)),
      "memfd": this.#stack.use(createMemfd("fuzz", MEMFD_SIZE)),
      "small memfd": this.#stack.use(createMemfd("fuzz", SMALL_MEMFD_SIZE)),
      "socket": left,
      "pipe": read,
      "file": this.#stack.use(openPath("/dev/null", 2)),
    };
  }

  async run(input: Uint8Array, observer: Observer): Promise<void> {
    const bytes = new Bytes(input);
    const queueCount = 1 + bytes.u8() % 4;
    const plane = new RecordingPlane({
      features: OFFERED,
      queueCount,
      deviceId: bytes.u8() % 2,
      config: new Uint8Array(64),
    });
    const beginning = BEGINNINGS[bytes.u8() % BEGINNINGS.length];
    const failing = FAILING[bytes.u8() % FAILING.length];
    if (failing !== null) plane.fail(failing, planned);
    const late = bytes.u8();
    if ((late & 16) !== 0) plane.configDelegate = delegateOf(plane);
    const messages = beginning.map((record) => readMessage(new Bytes(record)));
    while (!bytes.done) messages.push(readMessage(bytes));

    const [ours, theirs] = UnixSocket.pair();
    const session = new Session(new Connection(ours, this.#reactor), plane);
    let sent: readonly FuzzMessage[];
    let replies: Reply[];
    let failure: unknown = null;
    let over = false;
    try {
      sent = this.#send(theirs, messages, observer);
      const waiting = this.#reactor.size;
      const done = session.run().catch((error) => failure = error)
        .finally(() => over = true);
      if (late % 2 === 1) session.configChanged();
      for (let turn = 0; !over && this.#reactor.size === waiting; turn++) {
        expect(turn < MOST_TURNS, () => "The session does not come to rest");
        await null;
      }
      if (late % 4 === 3) session.configChanged();
      replies = receive(theirs);
      if (late % 8 === 7) await session.stop().catch(() => {});
      else theirs.close();
      await done;
    } finally {
      theirs.close();
    }
    observer.say?.(`${replies.length} replies; ${session.dropped ?? "left"}`);
    if (failure !== null && failure !== planned) throw failure;
    expect(
      plane.violations.length === 0,
      () => `The session broke a contract: ${plane.violations}`,
    );
    expect(
      plane.regions.size === 0 && plane.running.size === 0,
      () => `${plane.regions.size} regions, ${plane.running.size} rings left`,
    );
    JSON.stringify(session.status());
    judge(sent, replies, queueCount);
    note(plane, session, observer);
  }

  /** Sends messages; those that there was room for. */
  #send(
    socket: UnixSocket,
    messages: readonly FuzzMessage[],
    observer: Observer,
  ): FuzzMessage[] {
    const sent: FuzzMessage[] = [];
    for (const message of messages) {
      const { request, fds, payload, flags, size } = message;
      observer.say?.(
        `message ${request}, flags ${flags}, ${size} bytes [${payload}], ` +
          `descriptors [${fds}]`,
      );
      const bytes = encode(message);
      const n = socket.trySend(bytes, fds.map((kind) => this.#fds[kind].fd));
      sent.push(message);
      if (n < bytes.length) break;
    }
    return sent;
  }

  async audit(): Promise<void> {
    await this.#handshake();
    const now = resources();
    const before = this.#before ?? now;
    this.#before = now;
    expect(
      now.descriptors <= before.descriptors && now.mappings <= before.mappings,
      () =>
        `Leaked: ${before.descriptors} → ${now.descriptors} descriptors, ` +
        `${before.mappings} → ${now.mappings} mappings`,
    );
  }

  /** A front-end that does everything right is served. */
  async #handshake(): Promise<void> {
    const [ours, theirs] = UnixSocket.pair();
    const plane = new RecordingPlane({ features: OFFERED, queueCount: 2 });
    const session = new Session(new Connection(ours, this.#reactor), plane);
    using region = SharedRegion.create(0x10000, 0x10000);
    using frontEnd = FrontEnd.connect(theirs, this.#reactor);
    const done = session.run();
    await frontEnd.handshake();
    const layout = {
      size: 8,
      descriptorTable: 0x10000,
      availableRing: 0x11000,
      usedRing: 0x12000,
    };
    await frontEnd.start([region], new Map([[0, layout]]));
    expect(plane.running.size === 1, () => "The next ring does not run");
    await frontEnd.stop();
    frontEnd.close();
    await done;
  }

  close(): void {
    this.#stack.dispose();
  }
}

/** Answers what is there in place of a session, and gives the connection back. */
function delegateOf(plane: RecordingPlane): ConfigDelegate {
  return {
    answer(loan) {
      using socket = new UnixSocket(new OwnedFd(dupFd(loan.fd)));
      const write = (offset: number, data: Uint8Array): void =>
        void plane.writeConfig(offset, data).catch(() => {});
      new ConfigAnswerer(socket, { config: plane.config, write }, loan).serve();
      return Promise.resolve();
    },
    end() {},
  };
}

/** The replies that are there. */
function receive(socket: UnixSocket): Reply[] {
  const chunks: number[] = [];
  const buffer = new Uint8Array(65536);
  const fds: OwnedFd[] = [];
  try {
    for (;;) {
      const n = socket.tryReceive(buffer, fds);
      if (n <= 0) break;
      for (let i = 0; i < n; i++) chunks.push(buffer[i]);
    }
  } catch {
    // The session left while messages were on their way.
  }
  for (const fd of fds) fd.close();
  const all = new Uint8Array(chunks);
  const given = fds.length;
  const view = new DataView(all.buffer);
  const replies: Reply[] = [];
  let at = 0;
  while (at + HEAD <= all.length) {
    const size = view.getUint32(at + 8, true);
    replies.push({
      request: view.getUint32(at, true),
      flags: view.getUint32(at + 4, true),
      payload: all.subarray(at + HEAD, at + HEAD + size),
    });
    at += HEAD + size;
  }
  expect(at === all.length, () => "The last reply is cut off");
  const giving = replies.filter(({ request }) => request === 31).length;
  expect(given === giving, () => `Replies came with ${given} descriptors`);
  return replies;
}

/** Each reply belongs to a message, in order, and says what it may say. */
function judge(
  sent: readonly FuzzMessage[],
  replies: readonly Reply[],
  queueCount: number,
): void {
  let next = 0;
  // Behind a length that is not true nobody knows where messages begin.
  const lie = sent.findIndex(({ size, payload }) => size !== payload.length);
  const known = lie < 0 ? sent : sent.slice(0, lie);
  for (const { request, flags, payload } of replies) {
    expect(flags === 5, () => `A reply to ${request} has flags ${flags}`);
    let message: FuzzMessage | undefined;
    while (next < known.length && message === undefined) {
      const candidate = known[next++];
      const wanted = REPLYING.has(candidate.request) ||
        candidate.request === ACKNOWLEDGED ||
        (candidate.flags & 8) !== 0;
      if (candidate.request === request && wanted) message = candidate;
    }
    if (message === undefined && lie >= 0) return;
    expect(
      message !== undefined,
      () => `A reply to ${request} that nobody asked for`,
    );
    const fault = mustRefuse(message, queueCount);
    if (REPLYING.has(request)) {
      expect(fault === null, () => `${request} was answered: ${fault}`);
      const length = request === 31 ? message.payload.length : 8;
      if (request === 24) continue;
      expect(
        payload.length === length,
        () => `A reply to ${request}: ${payload}`,
      );
    } else {
      const value = payload.length === 8 ? payload[0] : -1;
      expect(
        value === 0 || value === 1,
        () => `An answer to ${request}: ${payload}`,
      );
      expect(
        value === 1 || fault === null,
        () => `${request} was accepted: ${fault}`,
      );
    }
  }
}

/** What the session went through, as states. */
function note(
  plane: RecordingPlane,
  session: Session,
  observer: Observer,
): void {
  let previous = 0;
  for (const call of plane.calls) {
    const name = call.slice(0, call.indexOf(" ") + 1 || undefined);
    let hash = 7;
    for (let i = 0; i < name.length; i++) {
      hash = Math.imul(hash, 31) + name.charCodeAt(i) | 0;
    }
    observer.reached((hash ^ previous) >>> 0);
    previous = hash << 1;
  }
  // Without what the message brought along.
  const reason = (session.dropped ?? "").replaceAll(/0x[\da-f]+|[^a-z ]/gi, "")
    .slice(0, 80);
  let hash = 3;
  for (let i = 0; i < reason.length; i++) {
    hash = Math.imul(hash, 33) + reason.charCodeAt(i) | 0;
  }
  observer.reached(hash >>> 0);
}
