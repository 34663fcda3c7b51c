import { assert, assertEquals, assertRejects } from "@std/assert";
import { Reactor } from "../../sys/reactor.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { withDeadline } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { HostError } from "../error.ts";
import {
  ControlChannel,
  type Handlers,
  RemoteError,
} from "./control_channel.ts";

const LIMIT = 10_000;

/** Two channels that talk to each other. */
class Pair implements Disposable {
  readonly reactor = new Reactor();
  readonly near: ControlChannel;
  readonly far: ControlChannel;

  constructor(near: Handlers, far: Handlers) {
    const [a, b] = UnixSocket.pair();
    this.near = new ControlChannel(a, this.reactor, near);
    this.far = new ControlChannel(b, this.reactor, far);
  }

  [Symbol.dispose](): void {
    this.near.close();
    this.far.close();
    this.reactor.close();
  }
}

/** A channel and the raw other end. */
function rawPair(reactor: Reactor): [ControlChannel, UnixSocket] {
  const [a, b] = UnixSocket.pair();
  return [new ControlChannel(a, reactor, {}), b];
}

function write(socket: UnixSocket, text: string): void {
  const bytes = new TextEncoder().encode(text);
  assertEquals(socket.trySend(bytes), bytes.length);
}

Deno.test("both sides call each other", async () => {
  using pair = new Pair(
    { name: () => "near" },
    { sum: ({ a, b }) => Promise.resolve(Number(a) + Number(b)) },
  );
  const answers = await withDeadline(
    Promise.all([
      pair.near.call("sum", { a: 1, b: 2 }),
      pair.far.call("name"),
      pair.near.call("sum", { a: 3, b: 4 }),
    ]),
    LIMIT,
    "answers",
  );
  assertEquals(answers, [3, "near", 7]);
});

Deno.test("a slow call holds up no other", async () => {
  const slow = Promise.withResolvers<string>();
  using pair = new Pair({}, {
    slow: () => slow.promise,
    quick: () => undefined,
  });
  const first = pair.near.call("slow");
  assertEquals(await withDeadline(pair.near.call("quick"), LIMIT, "it"), null);
  slow.resolve("done");
  assertEquals(await withDeadline(first, LIMIT, "the slow one"), "done");
});

Deno.test("errors cross with kind and message", async () => {
  using pair = new Pair({}, {
    usage: () => {
      throw new HostError("usage", "no such thing");
    },
    other: () => Promise.reject(new Error("two\nlines")),
    odd: () => Promise.reject("text"),
  });
  for (
    const [method, kind, message] of [
      ["usage", "usage", "no such thing"],
      ["other", "failed", "two; lines"],
      ["odd", "failed", "text"],
      ["absent", "usage", 'There is no method "absent"'],
      ["toString", "usage", 'There is no method "toString"'],
    ]
  ) {
    const error = await assertRejects(
      () => withDeadline(pair.near.call(method), LIMIT, "an answer"),
      RemoteError,
    );
    assertEquals([error.kind, error.message], [kind, message]);
  }
});

Deno.test("notifications arrive in order, before the end", async () => {
  const seen: unknown[] = [];
  using pair = new Pair({ event: ({ n }) => void seen.push(n) }, {});
  pair.far.tell("unknown");
  for (let n = 0; n < 3; n++) pair.far.tell("event", { n });
  pair.far.close();
  pair.far.tell("event", { n: 99 });
  await withDeadline(pair.near.ended, LIMIT, "the end");
  assertEquals(seen, [0, 1, 2]);
  assertEquals(pair.near.problem, null);
});

Deno.test("a call that waits is refused when the other side goes", async () => {
  using pair = new Pair({}, { never: () => new Promise(() => {}) });
  const refusal = assertRejects(() => pair.near.call("never"), RemoteError);
  pair.far.close();
  const error = await withDeadline(refusal, LIMIT, "the refusal");
  assertEquals(error.kind, "ended");
  const late = await assertRejects(() => pair.near.call("never"), RemoteError);
  assertEquals(late.kind, "ended");
});

Deno.test("messages larger than the socket's buffer cross both ways", async () => {
  using pair = new Pair({}, { echo: ({ text }) => text });
  const texts = ["é", "b", "c"].map((letter) => letter.repeat(1_000_000));
  const echoes = await withDeadline(
    Promise.all(texts.map((text) => pair.near.call("echo", { text }))),
    LIMIT,
    "the echoes",
  );
  assert(echoes.every((echo, i) => echo === texts[i]));
});

Deno.test("text that is no message ends the channel, with the reason", async () => {
  for (
    const [text, problem] of [
      ["nonsense\n", /not valid JSON/],
      ["7\n", /"7" is no message/],
      ["null\n", /"null" is no message/],
      ["\xff\n", null],
    ] as const
  ) {
    using reactor = new Reactor();
    const [channel, raw] = rawPair(reactor);
    const refusal = assertRejects(() => channel.call("x"), RemoteError);
    if (problem === null) raw.trySend(new Uint8Array([0xff, 10]));
    else write(raw, text);
    await withDeadline(channel.ended, LIMIT, "the end");
    assert(channel.problem !== null);
    if (problem !== null) assert(problem.test(channel.problem));
    assertEquals((await refusal).message, channel.problem);
    raw.close();
  }
});

Deno.test("answers that nobody waits for are passed over", async () => {
  using reactor = new Reactor();
  const [channel, raw] = rawPair(reactor);
  write(raw, '{"id":7,"result":1}\n{"id":"x","error":{}}\n{}\n');
  write(raw, '{"id":1,"error":{"message":"no","data":{"kind":"k"}}}\n');
  const error = await assertRejects(
    () => withDeadline(channel.call("x"), LIMIT, "an answer"),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["k", "no"]);
  channel.close();
  raw.close();
});

Deno.test("a side that never reads ends the channel", async () => {
  using reactor = new Reactor();
  const [channel, raw] = rawPair(reactor);
  const text = "x".repeat(1000);
  for (let i = 0; i < 3000 && !channel.closed; i++) channel.tell("t", { text });
  await withDeadline(channel.ended, LIMIT, "the end");
  assertEquals(channel.problem, "The other side does not read");
  raw.close();
});

Deno.test("a line without end ends the channel", async () => {
  using reactor = new Reactor();
  const [channel, raw] = rawPair(reactor);
  const bytes = new Uint8Array(1 << 15).fill(97);
  let sent = 0;
  const flood = (async () => {
    while (!channel.closed) {
      sent += Math.max(raw.trySend(bytes), 0);
      await new Promise((resolve) => setTimeout(resolve));
    }
  })();
  await withDeadline(channel.ended, LIMIT, "the end");
  assert(sent <= 8 << 20, `${sent}`);
  assert(channel.problem!.includes("longer than"), channel.problem!);
  await flood.catch(() => {});
  raw.close();
});

Deno.test("channels leak no descriptors", async () => {
  await assertNoLeaks(async () => {
    using pair = new Pair({}, { x: () => 1 });
    await pair.near.call("x");
  });
});
