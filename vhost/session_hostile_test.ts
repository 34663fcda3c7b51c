/**
 * What a front-end must not do, as tables: each message is sent on a
 * connection that works, with and without a wish for an answer, and must lead
 * to exactly one of: refused (the connection goes on), ignored (the same,
 * without an answer), dropped. Whatever it leads to, no descriptor is left.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { EventFd } from "../sys/eventfd.ts";
import { openFdCount, OwnedFd } from "../sys/fd.ts";
import { mappingsOf } from "../sys/mapping.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import {
  FrontEndMessage,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "./constants.ts";
import { encodeMessage, encodeU64 } from "./message.ts";
import { Harness } from "./testing/harness.ts";
import {
  HOSTILE_MESSAGES,
  type HostileMessage,
  type Outcome,
} from "./testing/hostile_messages.ts";
import { TestRing } from "./testing/test_ring.ts";

const M = FrontEndMessage;

async function outcomeOf(ring: TestRing, ack: boolean): Promise<Outcome> {
  const { frontEnd } = ring.h;
  if (ack) {
    using reply = await frontEnd.receive();
    if (reply === null) return "dropped";
    assertEquals([reply.flags, reply.payload], [5, encodeU64(1n)]);
  } else {
    // Nothing but the answer to this may come back.
    await frontEnd.sendRaw(encodeMessage(M.GET_QUEUE_NUM, VHOST_USER_VERSION));
    using reply = await frontEnd.receive();
    if (reply === null) return "dropped";
    assertEquals([reply.request, reply.flags], [M.GET_QUEUE_NUM, 5]);
  }
  await ring.h.settled();
  return ack ? "refused" : "ignored";
}

async function attack(hostile: HostileMessage, ack: boolean): Promise<void> {
  await using ring = new TestRing();
  await ring.run();
  const { frontEnd, plane, done } = ring.h;
  const running = openFdCount();
  plane.takeCalls();
  using event = EventFd.create();
  const flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
  await frontEnd.sendRaw(
    encodeMessage(hostile.request, flags, hostile.payload),
    new Array(hostile.fds ?? 0).fill(event.fd),
  );
  const outcome = await outcomeOf(ring, ack);
  assertEquals(outcome, hostile.outcome[ack ? 0 : 1]);
  const { status } = ring.h;
  assertStringIncludes(status.lastError!, hostile.text);
  assertEquals(ring.h.session.dropped !== null, outcome === "dropped");
  if (outcome === "dropped") {
    await done;
    assertEquals(ring.h.session.dropped, status.lastError);
    assertEquals(plane.calls.at(-1), "reset");
    assertEquals(plane.regions.size, 0);
  } else {
    assertEquals(plane.calls, []);
    assertEquals(plane.running.size, 1);
    assertEquals(status.refused, ack ? 1 : 0);
    assertEquals(status.ignored, ack ? 0 : 1);
    assertEquals(openFdCount(), running + 1);
  }
}

await Harness.warmUp();

for (const ack of [true, false]) {
  const how = ack ? "asks for an answer" : "asks for no answer";
  Deno.test(`a hostile front-end that ${how}`, async (t) => {
    const fds = openFdCount();
    const mappings = mappingsOf("vhost-test");
    for (const hostile of HOSTILE_MESSAGES) {
      await t.step(hostile.name, () => attack(hostile, ack));
      assertEquals(openFdCount(), fds, hostile.name);
      assertEquals(mappingsOf("vhost-test"), mappings, hostile.name);
    }
  });
}

Deno.test("bytes that are no message end the connection", async (t) => {
  const header = (request: number, flags: number, size: number): Uint8Array => {
    const bytes = new Uint8Array(12);
    new Uint32Array(bytes.buffer).set([request, flags, size]);
    return bytes;
  };
  const cases: [string, Uint8Array, string][] = [
    ["version 0", header(1, 0, 0), "protocol version 0 is not 1"],
    ["version 2", header(1, 2, 0), "protocol version 2 is not 1"],
    ["a reply", header(1, 5, 0), "it is a reply to nothing"],
    ["too large", header(5, 1, 8105), "payload size 8105 exceeds 8104 bytes"],
    ["4 GiB", header(1, 1, 0xffff_ffff), "payload size 4294967295 exceeds"],
    [
      "text",
      new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
      "protocol version",
    ],
  ];
  const before = openFdCount();
  for (const [name, bytes, text] of cases) {
    await t.step(name, async () => {
      await using ring = new TestRing();
      await ring.run();
      using event = EventFd.create();
      await ring.h.frontEnd.sendRaw(bytes, [event.fd]);
      assertStringIncludes((await ring.h.dropped())!, text);
      assertEquals(ring.h.plane.running.size, 0);
    });
    assertEquals(openFdCount(), before);
  }
});

Deno.test("a front-end that hangs up in the middle of a message", async () => {
  const whole = encodeMessage(
    M.ADD_MEM_REG,
    VHOST_USER_VERSION,
    new Uint8Array(40),
  );
  const before = openFdCount();
  for (let length = 1; length < whole.length; length++) {
    await using ring = new TestRing();
    await ring.run();
    using event = EventFd.create();
    await ring.h.frontEnd.sendRaw(whole.subarray(0, length), [event.fd]);
    ring.h.frontEnd.close();
    await ring.h.done;
    assertStringIncludes(ring.h.status.lastError!, "the front-end left after");
  }
  assertEquals(openFdCount(), before);
});

Deno.test("more than 253 descriptors for one message end the connection", async () => {
  const before = openFdCount();
  {
    await using ring = new TestRing();
    await ring.run();
    using event = EventFd.create();
    const fds = new Array(200).fill(event.fd);
    const whole = encodeMessage(M.SET_MEM_TABLE, 1, new Uint8Array(24));
    await ring.h.frontEnd.sendRaw(whole.subarray(0, 8), fds);
    await ring.h.frontEnd.sendRaw(whole.subarray(8, 20), fds);
    assertStringIncludes(
      (await ring.h.dropped())!,
      "400 file descriptors came along, more than 253",
    );
  }
  assertEquals(openFdCount(), before);
});

Deno.test("the channel may be any socket, and does no harm", async () => {
  const before = openFdCount();
  {
    await using ring = new TestRing();
    await ring.run();
    const { frontEnd, session } = ring.h;
    // One whose other end is closed, and one that belongs to us both.
    const [gone, end] = UnixSocket.pair();
    end.close();
    await frontEnd.set(M.SET_BACKEND_REQ_FD, undefined, [gone.fd]);
    session.configChanged();
    gone.close();
    const [one, other] = UnixSocket.pair();
    await frontEnd.set(M.SET_BACKEND_REQ_FD, undefined, [one.fd]);
    using copy = new OwnedFd(one.fd).dup();
    one.close();
    session.configChanged();
    // Perhaps with the one that the first channel did not take.
    assert(other.tryReceive(new Uint8Array(64), []) >= 12);
    copy.close();
    other.close();
    await frontEnd.getFeatures();
  }
  assertEquals(openFdCount(), before);
});

Deno.test("a flood of messages that are ignored does not flood the log", async () => {
  await using ring = new TestRing();
  await ring.run();
  const { frontEnd, log } = ring.h;
  for (let i = 0; i < 200; i++) {
    await frontEnd.sendRaw(encodeMessage(1000 + i, VHOST_USER_VERSION));
  }
  await ring.h.settled();
  assertEquals(ring.h.status.ignored, 200);
  const lines = log.lines.filter((line) => line.startsWith("warn "));
  assertEquals(lines.length, 33);
  assertStringIncludes(lines[0], "warn message ignored");
  assertStringIncludes(lines[32], "counted, not logged");
  assert(Object.keys(ring.h.status.messages).length < 40);
});
