import { assertEquals, assertThrows } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount, OwnedFd } from "../sys/fd.ts";
import { Reactor } from "../sys/reactor.ts";
import { SystemError } from "../sys/errno.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { BackendChannel } from "./backend_channel.ts";
import { until } from "./testing/until.ts";

const MESSAGE = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
const reactor = new Reactor();

class Ends implements Disposable {
  permitted = true;
  /** How often the channel asked whether it may. */
  asked = 0;
  readonly channel = new BackendChannel(reactor, () => {
    this.asked++;
    return this.permitted;
  });
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
  await until(() => !channel.due, "a message that waited");
  assertEquals(channel.sent, sent + 1);
  assertEquals(ends.received(), MESSAGE);
});

Deno.test("a change that waited is withheld if it may not be sent any more", async () => {
  using ends = new Ends();
  const { channel } = ends;
  while (!channel.due) channel.configChanged();
  ends.permitted = false;
  const { asked } = ends;
  ends.received();
  await until(() => ends.asked > asked, "the channel to try again");
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
  const bytes = new Uint8Array(20_000);
  for (let i = 0; i < 50; i++) {
    await until(
      () => ends.peer.trySend(bytes, [event.fd, event.fd]) > 0,
      "room for a reply",
    );
  }
  ends.channel.configChanged();
  assertEquals(ends.received(), MESSAGE);
  ends.peer.close();
  await until(() => !ends.channel.attached, "the end of the channel");
  assertEquals(openFdCount(), before - 1);
});

Deno.test("a channel that breaks is given up, and can be replaced", async () => {
  using ends = new Ends();
  ends.peer.close();
  ends.channel.configChanged();
  await until(() => !ends.channel.attached, "the end of the channel");
  using again = new Ends();
  const [ours, theirs] = UnixSocket.pair();
  ends.channel.attach(new OwnedFd(ours.fd).dup());
  again.channel.attach(new OwnedFd(ours.fd).dup());
  ours.close();
  const bytes = new Uint8Array(100);
  // The first channel of `again` was closed for its second.
  assertEquals(again.peer.tryReceive(bytes, []), 0);
  // What the broken channel did not take goes out over the new one.
  assertEquals(theirs.tryReceive(bytes, []), 12);
  again.channel.configChanged();
  assertEquals(theirs.tryReceive(bytes, []), 12);
  theirs.close();
});

Deno.test("attach() refuses what is no connected Unix stream socket", () => {
  const before = openFdCount();
  using channel = new BackendChannel(reactor, () => true);
  assertThrows(() => channel.attach(EventFd.create()), SystemError);
  assertEquals(channel.attached, false);
  assertEquals(openFdCount(), before);
});
