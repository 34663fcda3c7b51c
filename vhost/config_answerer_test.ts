import { assertEquals } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { ConfigAnswerer } from "./config_answerer.ts";
import {
  FrontEndMessage,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_REPLY,
  VHOST_USER_VERSION,
} from "./constants.ts";
import type { ConfigLoan } from "./data_plane.ts";
import {
  encodeConfig,
  encodeMessage,
  encodeReply,
  encodeU64,
} from "./message.ts";

const { GET_CONFIG, SET_CONFIG, GET_STATUS } = FrontEndMessage;
const CONFIG = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const ACK = encodeReply(SET_CONFIG, encodeU64(0n));

function get(offset: number, size: number): Uint8Array {
  const payload = encodeConfig(offset, 0, new Uint8Array(size));
  return encodeMessage(GET_CONFIG, VHOST_USER_VERSION, payload);
}

function set(offset: number, data: Uint8Array, flags: number): Uint8Array {
  const payload = encodeConfig(offset, 0, data);
  return encodeMessage(SET_CONFIG, VHOST_USER_VERSION | flags, payload);
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Both ends of a connection that is lent. */
class Lent implements Disposable {
  readonly theirs: UnixSocket;
  readonly ours: UnixSocket;
  readonly loan: ConfigLoan;
  readonly answerer: ConfigAnswerer;
  /** What was written, as `offset [bytes]`. */
  readonly writes: string[] = [];

  constructor(acknowledges = true) {
    const [ours, theirs] = UnixSocket.pair();
    this.ours = ours;
    this.theirs = theirs;
    const counts = new Uint32Array(new SharedArrayBuffer(8));
    this.loan = { fd: ours.fd, acknowledges, counts };
    this.answerer = new ConfigAnswerer(ours, {
      config: CONFIG,
      write: (offset, data) => void this.writes.push(`${offset} [${data}]`),
    }, this.loan);
  }

  /** What one end has to read: all of it. */
  #read(socket: UnixSocket): Uint8Array {
    const bytes = new Uint8Array(8192), fds: OwnedFd[] = [];
    const n = socket.tryReceive(bytes, fds);
    for (const fd of fds) fd.close();
    return bytes.subarray(0, Math.max(n, 0));
  }

  /** What was answered. */
  answers(): Uint8Array {
    return this.#read(this.theirs);
  }

  /** What the session finds. */
  left(): Uint8Array {
    return this.#read(this.ours);
  }

  [Symbol.dispose](): void {
    this.ours.close();
    this.theirs.close();
  }
}

Deno.test("reads are answered, and nothing is left of them", () => {
  using lent = new Lent();
  assertEquals(lent.answerer.serve(), true, "nothing is there");
  for (const [offset, size] of [[0, 16], [4, 4], [15, 1], [12, 8], [20, 4]]) {
    lent.theirs.trySend(get(offset, size));
    assertEquals(lent.answerer.serve(), true);
    const data = new Uint8Array(size);
    data.set(CONFIG.subarray(offset, offset + size));
    const expected = encodeReply(GET_CONFIG, encodeConfig(offset, 0, data));
    assertEquals(lent.answers(), expected);
  }
  assertEquals([...lent.loan.counts], [5, 0]);
  assertEquals(lent.left(), new Uint8Array(0));
});

Deno.test("writes are applied, and acknowledged where they ask for it", () => {
  using lent = new Lent();
  lent.theirs.trySend(set(4, CONFIG.subarray(0, 4), VHOST_USER_NEED_REPLY));
  assertEquals(lent.answerer.serve(), true);
  assertEquals(lent.answers(), ACK);
  lent.theirs.trySend(set(14, CONFIG.subarray(0, 4), 0));
  lent.theirs.trySend(set(16, CONFIG.subarray(0, 4), VHOST_USER_NEED_REPLY));
  assertEquals(lent.answerer.serve(), true);
  assertEquals(lent.answers(), ACK);
  assertEquals(lent.writes, ["4 [1,2,3,4]", "14 [1,2]"]);
  assertEquals([...lent.loan.counts], [0, 3]);
});

Deno.test("writes are not acknowledged where that was not negotiated", () => {
  using lent = new Lent(false);
  lent.theirs.trySend(set(4, CONFIG.subarray(0, 4), VHOST_USER_NEED_REPLY));
  assertEquals(lent.answerer.serve(), true);
  assertEquals(lent.answers(), new Uint8Array(0));
  assertEquals(lent.writes, ["4 [1,2,3,4]"]);
});

Deno.test("all that is there is answered, in its order", () => {
  using lent = new Lent();
  const asked = concat(
    get(0, 1),
    set(4, CONFIG.subarray(0, 4), VHOST_USER_NEED_REPLY),
    get(1, 1),
  );
  lent.theirs.trySend(asked);
  assertEquals(lent.answerer.serve(), true);
  const reply = (offset: number): Uint8Array =>
    encodeReply(
      GET_CONFIG,
      encodeConfig(offset, 0, CONFIG.slice(offset, offset + 1)),
    );
  assertEquals(lent.answers(), concat(reply(0), ACK, reply(1)));
});

const WRITE = set(0, CONFIG, 0);
const short = encodeConfig(0, 0, CONFIG).subarray(0, 20);
/** What the session must deal with. */
const FOREIGN: readonly (readonly [string, Uint8Array])[] = [
  ["another request", encodeMessage(GET_STATUS, VHOST_USER_VERSION)],
  ["half a header", WRITE.subarray(0, 6)],
  ["a header alone", WRITE.subarray(0, 12)],
  ["half a payload", WRITE.subarray(0, 30)],
  ["a reply", encodeMessage(GET_CONFIG, VHOST_USER_REPLY | 1, short)],
  ["another version", encodeMessage(GET_CONFIG, 2, short)],
  ["a payload that is too long", new Uint8Array(12).fill(0xff)],
  ["a read of too few bytes", encodeMessage(GET_CONFIG, 1, short)],
  ["a write of too few bytes", encodeMessage(SET_CONFIG, 1, short)],
  ["a payload that is none", encodeMessage(SET_CONFIG, 1)],
  ["a read of nothing", get(0, 0)],
  ["a read that leaves the space", get(250, 16)],
  ["a write of more than is looked at", set(0, new Uint8Array(4000), 0)],
];
for (const [name, bytes] of FOREIGN) {
  Deno.test(`it is left to the session: ${name}`, () => {
    using lent = new Lent();
    lent.theirs.trySend(concat(get(0, 1), bytes));
    assertEquals(lent.answerer.serve(), false);
    assertEquals(lent.answers().length, 25);
    assertEquals([...lent.loan.counts], [1, 0]);
    assertEquals(lent.writes, []);
    assertEquals(lent.left(), bytes);
  });
}

Deno.test("it is left to the session: a message with descriptors", () => {
  using lent = new Lent();
  using event = EventFd.create();
  lent.theirs.trySend(WRITE, [event.fd]);
  assertEquals(lent.answerer.serve(), false);
  const bytes = new Uint8Array(100), fds: OwnedFd[] = [];
  assertEquals(lent.ours.tryReceive(bytes, fds), WRITE.length);
  assertEquals(fds.length, 1);
  fds[0].close();
});

Deno.test("it is left to the session: the end of the stream", () => {
  using lent = new Lent();
  lent.theirs.trySend(get(0, 1));
  lent.theirs.close();
  assertEquals(lent.answerer.serve(), false);
});

Deno.test("an answer that finds no room is left to the session", () => {
  using lent = new Lent();
  const junk = new Uint8Array(32_768);
  while (lent.ours.trySend(junk) >= 0);
  while (lent.ours.trySend(junk.subarray(0, 1)) >= 0);
  lent.theirs.trySend(get(0, 16));
  assertEquals(lent.answerer.serve(), false);
  assertEquals([...lent.loan.counts], [0, 0]);
  assertEquals(lent.left(), get(0, 16));
});

Deno.test("a front-end that never pauses goes back to the session", () => {
  using lent = new Lent();
  const many = concat(...Array.from({ length: 40 }, () => get(0, 1)));
  lent.theirs.trySend(many);
  assertEquals(lent.answerer.serve(), false);
  assertEquals([...lent.loan.counts], [32, 0]);
  assertEquals(lent.left(), many.subarray(32 * get(0, 1).length));
});

Deno.test("what is behind a message that fills the look is not forgotten", () => {
  for (const size of [487, 488, 489]) {
    using lent = new Lent();
    lent.theirs.trySend(concat(set(0, new Uint8Array(size), 0), get(0, 1)));
    const served = lent.answerer.serve();
    // Either it is answered, or the session finds it.
    const left = lent.ours.tryPeek(new Uint8Array(4)) > 0;
    assertEquals(
      [served, lent.loan.counts[1]],
      [!left, left ? 0 : 1],
      `${size}`,
    );
  }
});
