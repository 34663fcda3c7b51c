import { assert, assertEquals, assertRejects } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount, type OwnedFd } from "../sys/fd.ts";
import { Reactor } from "../sys/reactor.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { Connection } from "./connection.ts";
import { MAX_FDS, MAX_PAYLOAD_SIZE } from "./constants.ts";
import { ProtocolError, type ProtocolErrorKind } from "./errors.ts";
import { encodeMessage, encodeU64 } from "./message.ts";

/** One for all: a reactor gives its descriptors back some time after close. */
const reactor = new Reactor();

class Ends implements Disposable {
  readonly reactor = reactor;
  readonly connection: Connection;
  readonly peer: UnixSocket;

  constructor() {
    const [ours, theirs] = UnixSocket.pair();
    this.connection = new Connection(ours, this.reactor);
    this.peer = theirs;
  }

  sendAll(bytes: Uint8Array, fds: readonly number[] = []): void {
    assertEquals(this.peer.trySend(bytes, fds), bytes.length);
  }

  [Symbol.dispose](): void {
    this.connection.close();
    this.peer.close();
  }
}

async function assertDropped(
  received: Promise<unknown>,
  kind: ProtocolErrorKind,
  text: string,
): Promise<void> {
  const error = await assertRejects(() => received, ProtocolError, text);
  assertEquals(error.kind, kind);
  assertEquals(error.consequence, "drop");
}

/** Lets the other side run until it waits. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("receive() reads a message that comes byte by byte", async () => {
  using ends = new Ends();
  using event = EventFd.create();
  const bytes = encodeMessage(13, 1, encodeU64(0x1122n));
  const received = ends.connection.receive();
  for (let i = 0; i < bytes.length; i++) {
    await turn();
    ends.sendAll(bytes.subarray(i, i + 1), i === 15 ? [event.fd] : []);
  }
  using message = await received;
  assert(message !== null);
  assertEquals(message.request, 13);
  assertEquals(message.payload, encodeU64(0x1122n));
  assertEquals(message.fdCount, 1);
});

Deno.test("receive() gives each message the descriptors sent with it", async () => {
  using ends = new Ends();
  const events = [1, 2, 3].map(() => EventFd.create());
  const [first, second, third] = events;
  ends.sendAll(encodeMessage(12, 1, encodeU64(0n)), [first.fd, second.fd]);
  ends.sendAll(encodeMessage(13, 1, encodeU64(1n)));
  ends.sendAll(encodeMessage(14, 1, encodeU64(2n)), [third.fd]);
  const counts: number[] = [];
  for (let i = 0; i < 3; i++) {
    using message = await ends.connection.receive();
    assert(message !== null);
    const fds = message.takeFds();
    counts.push(fds.length);
    assertEquals(message.fdCount, 0);
    for (const fd of fds) {
      const event = new EventFd(fd.release());
      event.signal();
      event.close();
    }
  }
  assertEquals(counts, [2, 0, 1]);
  assertEquals(events.map((event) => event.drain()), [1, 1, 1]);
  for (const event of events) event.close();
});

Deno.test("receive() tells the end of the stream from a broken message", async () => {
  {
    using ends = new Ends();
    ends.sendAll(encodeMessage(1, 1));
    ends.peer.close();
    (await ends.connection.receive())?.close();
    assertEquals(await ends.connection.receive(), null);
  }
  {
    using ends = new Ends();
    ends.sendAll(encodeMessage(1, 1).subarray(0, 5));
    ends.peer.close();
    await assertDropped(
      ends.connection.receive(),
      "truncated",
      "Cannot serve a message: the front-end left after 5 of 12 header bytes",
    );
  }
  {
    using ends = new Ends();
    ends.sendAll(encodeMessage(2, 1, encodeU64(0n)).subarray(0, 15));
    ends.peer.close();
    await assertDropped(
      ends.connection.receive(),
      "truncated",
      "VHOST_USER_SET_FEATURES: the front-end left after 3 of 8 payload bytes",
    );
  }
});

Deno.test("receive() closes the descriptors of what it refuses", async () => {
  const before = openFdCount();
  {
    using event = EventFd.create();
    const large = encodeMessage(5, 1);
    new DataView(large.buffer).setUint32(8, MAX_PAYLOAD_SIZE + 1, true);
    const old = encodeMessage(12, 0, encodeU64(0n));
    const part = encodeMessage(12, 1, encodeU64(0n)).subarray(0, 14);
    for (const bytes of [large, old, part]) {
      using ends = new Ends();
      ends.sendAll(bytes, [event.fd, event.fd, event.fd]);
      ends.peer.close();
      await assertRejects(() => ends.connection.receive(), ProtocolError);
      assertEquals(ends.connection.closed, false);
    }
    using ends = new Ends();
    ends.sendAll(part, [event.fd]);
    const received = ends.connection.receive();
    await turn();
    ends.connection.interrupt();
    assertEquals(await received, null);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("receive() limits the descriptors of one message", async () => {
  const before = openFdCount();
  {
    using ends = new Ends();
    using event = EventFd.create();
    const many = new Array(MAX_FDS).fill(event.fd);
    const bytes = encodeMessage(5, 1, new Uint8Array(100));
    ends.sendAll(bytes, many);
    {
      using message = await ends.connection.receive();
      assertEquals(message?.fdCount, MAX_FDS);
    }
    ends.sendAll(bytes.subarray(0, 20), many);
    ends.sendAll(bytes.subarray(20), [event.fd]);
    await assertDropped(
      ends.connection.receive(),
      "too-many-fds",
      `VHOST_USER_SET_MEM_TABLE: ${MAX_FDS + 1} file descriptors came along`,
    );
  }
  assertEquals(openFdCount(), before);
});

Deno.test("send() waits for a peer that is slow, and goes on", async () => {
  using ends = new Ends();
  using event = EventFd.create();
  const payload = new Uint8Array(4 << 20).map((_, i) => i * 7);
  const sent = ends.connection.send(payload, [event.fd]);
  const got = new Uint8Array(payload.length);
  const fds: OwnedFd[] = [];
  let at = 0;
  while (at < got.length) {
    const n = ends.peer.tryReceive(got.subarray(at), fds);
    if (n > 0) at += n;
    else await ends.reactor.readable(ends.peer.fd);
  }
  assertEquals(await sent, true);
  assert(got.every((byte, i) => byte === payload[i]));
  assertEquals(fds.length, 1);
  fds[0].close();
});

Deno.test("send() says when the peer is gone, or when it is interrupted", async () => {
  {
    using ends = new Ends();
    ends.peer.close();
    assertEquals(await ends.connection.send(encodeMessage(1, 5)), false);
  }
  {
    using ends = new Ends();
    const sent = ends.connection.send(new Uint8Array(4 << 20));
    await turn();
    ends.connection.interrupt();
    assertEquals(await sent, false);
  }
  {
    using ends = new Ends();
    const sent = ends.connection.send(new Uint8Array(4 << 20));
    await turn();
    ends.peer.close();
    assertEquals(await sent, false);
  }
});

Deno.test("interrupt() ends a wait, and all later ones", async () => {
  using ends = new Ends();
  const received = ends.connection.receive();
  await turn();
  ends.connection.interrupt();
  assertEquals(await received, null);
  ends.sendAll(encodeMessage(1, 1));
  assertEquals(await ends.connection.receive(), null);
  assertEquals(await ends.connection.send(encodeMessage(1, 5)), false);
});

Deno.test("receive() leaves others their turn, whatever a peer sends", async () => {
  using ends = new Ends();
  const many = new Uint8Array(12 * 100);
  for (let i = 0; i < 100; i++) many.set(encodeMessage(3, 1), 12 * i);
  const limit = 100_000;
  let received = 0, enough = false;
  const done = (async () => {
    while (!enough && received < limit) {
      using message = await ends.connection.receive();
      assert(message !== null);
      // The socket is never empty.
      if (++received % 100 === 0) ends.sendAll(many);
    }
  })();
  ends.sendAll(many);
  // Without turns of the event loop this timer fires when all is over.
  await turn();
  enough = true;
  await done;
  assert(received < limit, "nobody else had a turn");
});
