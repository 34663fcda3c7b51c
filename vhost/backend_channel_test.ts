import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount, OwnedFd } from "../sys/fd.ts";
import { Reactor } from "../sys/reactor.ts";
import { SystemError } from "../sys/errno.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { BackendChannel } from "./backend_channel.ts";

const MESSAGE = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
const reactor = new Reactor();

class Ends implements Disposable {
  permitted = true;
  readonly channel = new BackendChannel(reactor, () => this.permitted);
  readonly peer: UnixSocket;

  constructor() {
    const [ours, theirs] = UnixSocket.pair();
    this.channel.attach(new OwnedFd(ours.fd).dup());
    ours.close();
    this.peer = theirs;
  }

  /** What has arrived at the peer. */
  received(): number[] {
    const all: number[] = [];
    const bytes = new Uint8Array(4096);
    for (;;) {
      const n = this.peer.tryReceive(bytes, []);
      if (n <= 0) return all;
      all.push(...bytes.subarray(0, n));
    }
  }

  /** Waits until `condition` holds, which events of the sockets bring about. */
  async until(condition: () => boolean): Promise<void> {
    const end = performance.now() + 10_000;
    while (!condition()) {
      assert(performance.now() < end, "it did not come to pass in 10 s");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  [Symbol.dispose](): void {
    this.channel.detach();
    this.peer.close();
  }
}

Deno.test("a change is sent at once when it may be", () => {
  using ends = new Ends();
  ends.channel.configChanged();
  assertEquals(ends.received(), MESSAGE);
  assertEquals(ends.channel.due, false);
  assertEquals(ends.channel.sent, 1);
});

Deno.test("a change is withheld until it may be sent", () => {
  using ends = new Ends();
  ends.permitted = false;
  ends.channel.configChanged();
  ends.channel.configChanged();
  ends.channel.flush();
  assertEquals(ends.received(), []);
  ends.permitted = true;
  ends.channel.flush();
  assertEquals(ends.received(), MESSAGE);
  ends.permitted = false;
  ends.channel.configChanged();
  ends.channel.configRead();
  ends.permitted = true;
  ends.channel.flush();
  assertEquals(ends.received(), []);
});

Deno.test("a change waits for a socket that is full, and many make one", async () => {
  using ends = new Ends();
  const { channel } = ends;
  while (!channel.due) channel.configChanged();
  const { sent } = channel;
  for (let i = 0; i < 100; i++) channel.configChanged();
  assertEquals(channel.sent, sent);
  assertEquals(ends.received().length, 12 * sent);
  await ends.until(() => !channel.due);
  assertEquals(channel.sent, sent + 1);
  assertEquals(ends.received(), MESSAGE);
});

Deno.test("a change that waited is withheld if it may not be sent any more", async () => {
  using ends = new Ends();
  const { channel } = ends;
  while (!channel.due) channel.configChanged();
  ends.permitted = false;
  ends.received();
  // The socket becomes writable; a reply that is thrown away shows the turn.
  ends.peer.trySend(new Uint8Array(20));
  const [ours, theirs] = UnixSocket.pair();
  await reactor.readable(ours.fd, { signal: AbortSignal.timeout(20) })
    .catch(() => {});
  ours.close();
  theirs.close();
  assertEquals(ends.received(), []);
  assertEquals(channel.due, true);
  ends.permitted = true;
  channel.flush();
  assertEquals(ends.received(), MESSAGE);
});

Deno.test("what comes back is read and thrown away, descriptors closed", async () => {
  using ends = new Ends();
  const before = openFdCount();
  using event = EventFd.create();
  for (let i = 0; i < 50; i++) {
    await ends.until(() =>
      ends.peer.trySend(new Uint8Array(20_000), [event.fd, event.fd]) > 0
    );
  }
  ends.channel.configChanged();
  assertEquals(ends.received(), MESSAGE);
  ends.peer.close();
  await ends.until(() => !ends.channel.attached);
  assertEquals(openFdCount(), before - 1);
});

Deno.test("a channel that breaks is given up, and can be replaced", async () => {
  using ends = new Ends();
  ends.peer.close();
  ends.channel.configChanged();
  await ends.until(() => !ends.channel.attached);
  using again = new Ends();
  const [ours, theirs] = UnixSocket.pair();
  ends.channel.attach(new OwnedFd(ours.fd).dup());
  again.channel.attach(new OwnedFd(ours.fd).dup());
  ours.close();
  const bytes = new Uint8Array(100);
  // The first channel of `again` was closed for its second.
  assertEquals(again.peer.tryReceive(bytes, []), 0);
  ends.channel.configChanged();
  again.channel.configChanged();
  assert(theirs.tryReceive(bytes, []) >= 12);
  theirs.close();
});

Deno.test("attach() refuses what is no connected Unix stream socket", () => {
  const before = openFdCount();
  using channel = new BackendChannel(reactor, () => true);
  assertThrows(() => channel.attach(EventFd.create()), SystemError);
  assertEquals(channel.attached, false);
  assertEquals(openFdCount(), before);
});
