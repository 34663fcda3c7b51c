import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { openFdCount } from "../sys/fd.ts";
import {
  FrontEndMessage,
  ProtocolFeature,
  SERVED_PROTOCOL_FEATURES,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_REPLY,
  VHOST_USER_VERSION,
} from "./constants.ts";
import { encodeConfig, encodeMessage, encodeU64 } from "./message.ts";
import { FrontEndError } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { LocalDelegate } from "./testing/local_delegate.ts";
import { TestRing } from "./testing/test_ring.ts";

const { GET_CONFIG, SET_CONFIG, GET_QUEUE_NUM, SET_STATUS, GET_STATUS } =
  FrontEndMessage;
const { GET_FEATURES } = FrontEndMessage;
const END = encodeMessage(GET_FEATURES, VHOST_USER_VERSION);
const CONFIG = Uint8Array.from({ length: 16 }, (_, i) => i + 1);

/** A ring, and who answers for its session. */
class Lending implements AsyncDisposable {
  readonly ring = new TestRing({ config: CONFIG });
  readonly delegate = new LocalDelegate(this.ring.h.reactor, this.ring.h.plane);

  constructor() {
    this.ring.h.plane.configDelegate = this.delegate;
  }

  /** Asks until the connection is lent. */
  async lend(): Promise<void> {
    const { frontEnd } = this.ring.h;
    await frontEnd.getConfig(0, 16);
    await frontEnd.setConfig(0, CONFIG);
    await this.delegate.lent();
  }

  /** Messages of a kind that were served, whoever did it. */
  served(name: string): number | undefined {
    return this.ring.h.status.messages[`VHOST_USER_${name}`];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ring[Symbol.asyncDispose]();
  }
}

Deno.test("a connection is lent while the configuration is asked for", async () => {
  await using lending = new Lending();
  const { delegate, ring } = lending, { frontEnd, plane } = ring.h;
  await ring.run();
  await lending.lend();
  assertEquals([...delegate.loan!.counts], [0, 0]);
  for (let i = 0; i < 3; i++) {
    assertEquals(await frontEnd.getConfig(4, 4), CONFIG.slice(4, 8));
    await frontEnd.setConfig(4, CONFIG.slice(0, 4));
  }
  assertEquals([...delegate.loan!.counts], [3, 3]);
  assertEquals(delegate.loans, 1);
  assertEquals(
    plane.takeCalls().filter((call) => call.startsWith("writeConfig 4")).length,
    3,
  );
  assertEquals([lending.served("GET_CONFIG"), lending.served("SET_CONFIG")], [
    4,
    4,
  ]);
});

Deno.test("whatever else comes brings the connection back, in its order", async () => {
  await using lending = new Lending();
  const { delegate, ring } = lending, { frontEnd } = ring.h;
  await ring.run();
  for (let round = 1; round <= 3; round++) {
    await lending.lend();
    assertEquals(delegate.loans, round);
    await frontEnd.setVringEnable(0, round % 2 === 0);
    assertEquals(delegate.loan, null);
    assertEquals(await frontEnd.getConfig(0, 1), CONFIG.slice(0, 1));
    assertEquals(delegate.loan, null, "one request is not enough");
    await frontEnd.setVringEnable(0, true);
  }
  assertEquals(lending.served("GET_CONFIG"), 6);
});

Deno.test("a connection is lent only while a ring runs", async () => {
  await using lending = new Lending();
  const { ring, delegate } = lending, { frontEnd } = ring.h;
  await ring.prepare();
  for (let i = 0; i < 5; i++) await frontEnd.getConfig(0, 16);
  await ring.start();
  await lending.lend();
  await frontEnd.getVringBase(0);
  for (let i = 0; i < 5; i++) await frontEnd.getConfig(0, 16);
  await ring.h.settled();
  assertEquals(delegate.loans, 1);
});

for (
  const [name, end] of [
    ["the session is stopped", (h: Harness) => h.session.stop()],
    ["the front-end leaves", (h: Harness) => h.frontEnd.close()],
  ] as const
) {
  Deno.test(`a loan ends when ${name}`, async () => {
    await Harness.warmUp();
    const before = openFdCount();
    {
      await using lending = new Lending();
      await lending.ring.run();
      await lending.lend();
      await end(lending.ring.h);
      await lending.ring.h.done;
      assertEquals(lending.delegate.loan, null);
    }
    assertEquals(openFdCount(), before, "descriptors leaked");
  });
}

Deno.test("a session that cannot lend answers itself", async () => {
  await using lending = new Lending();
  const { ring, delegate } = lending, { frontEnd, log } = ring.h;
  delegate.refusal = new Error("no descriptor is left");
  await ring.run();
  for (let i = 0; i < 5; i++) {
    assertEquals(await frontEnd.getConfig(0, 16), CONFIG);
  }
  assertEquals(delegate.loans, 1, "it is not tried again");
  assertEquals(log.lines.filter((line) => line.startsWith("warn")), [
    'warn the session answers all messages itself {"reason":"no descriptor is left"}',
  ]);
});

Deno.test("what is refused is refused, lent or not", async () => {
  await using lending = new Lending();
  const { frontEnd } = lending.ring.h;
  await lending.ring.run();
  await lending.lend();
  const refused = await frontEnd.set(SET_CONFIG, new Uint8Array(3)).catch((
    error,
  ) => error);
  assertEquals(refused instanceof FrontEndError, true);
  assertStringIncludes(
    (lending.ring.h.status.lastError)!,
    "payload is 3 bytes, less than 12",
  );
});

/** One message of a front-end, and where it is cut in two. */
interface Step {
  readonly bytes: Uint8Array;
  /** Of its length; 1: not at all. */
  readonly cut: number;
}

function steps(): fc.Arbitrary<Step[]> {
  const flags = fc.constantFrom(
    VHOST_USER_VERSION,
    VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
  );
  const access = fc.tuple(
    fc.constantFrom(0, 4, 8, 15, 16, 200),
    fc.constantFrom(0, 1, 4, 8, 16, 60, 256),
  ).map(([offset, size]) => encodeConfig(offset, 0, new Uint8Array(size)));
  const config = (request: number): fc.Arbitrary<Uint8Array> =>
    fc.tuple(flags, access).map(([flags, payload]) =>
      encodeMessage(request, flags, payload)
    );
  const other = fc.constantFrom(
    encodeMessage(GET_STATUS, VHOST_USER_VERSION),
    encodeMessage(GET_QUEUE_NUM, VHOST_USER_VERSION),
    encodeMessage(
      SET_STATUS,
      VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
      encodeU64(7n),
    ),
    // Refused, and after that dropped.
    encodeMessage(
      SET_CONFIG,
      VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
      new Uint8Array(5),
    ),
  );
  const last = fc.constantFrom(
    encodeMessage(GET_CONFIG, VHOST_USER_VERSION, new Uint8Array(5)),
    encodeMessage(GET_CONFIG, VHOST_USER_VERSION | VHOST_USER_REPLY),
    encodeMessage(SET_CONFIG, 7, new Uint8Array(20)),
    encodeMessage(GET_STATUS, VHOST_USER_VERSION),
  );
  const cut = (bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Step> =>
    fc.record({ bytes, cut: fc.constantFrom(1, 1, 1, 0.2, 0.5, 0.9) });
  const some = fc.oneof(
    { weight: 4, arbitrary: config(GET_CONFIG) },
    { weight: 4, arbitrary: config(SET_CONFIG) },
    { weight: 1, arbitrary: other },
  );
  return fc.tuple(fc.array(cut(some), { maxLength: 25 }), cut(last))
    .map(([all, end]) => [...all, end]);
}

/** All that a front-end and a device see of a conversation. */
async function play(
  steps: readonly Step[],
  acks: boolean,
  lends: boolean,
): Promise<{ seen: unknown; loans: number }> {
  await using lending = new Lending();
  const { ring, delegate } = lending, { frontEnd, plane, session } = ring.h;
  if (!lends) plane.configDelegate = null;
  await ring.run(
    acks ? {} : {
      protocolFeatures: SERVED_PROTOCOL_FEATURES &
        ~(1n << BigInt(ProtocolFeature.REPLY_ACK)),
    },
  );
  const answers: string[] = [];
  for (const { bytes, cut } of steps) {
    const at = Math.floor(bytes.length * cut);
    for (const part of [bytes.subarray(0, at), bytes.subarray(at)]) {
      if (part.length === 0) continue;
      // It may be gone: what is wrong ends the connection.
      await frontEnd.sendRaw(part).catch(() => {});
      // The other side may have its turn, or may not.
      if (cut < 0.9) await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
  await frontEnd.sendRaw(END).catch(() => {});
  for (;;) {
    const message = await frontEnd.receive();
    if (message === null || message.request === GET_FEATURES) break;
    answers.push(`${message.request} ${message.flags} [${message.payload}]`);
  }
  const { messages, refused, ignored, lastError } = ring.h.status;
  return {
    seen: {
      answers,
      calls: plane.takeCalls(),
      dropped: session.dropped,
      messages: Object.entries(messages).sort(),
      counts: [refused, ignored, lastError],
    },
    loans: delegate.loans,
  };
}

Deno.test("a front-end cannot tell whether its connection is lent", async () => {
  let loans = 0;
  await fc.assert(
    fc.asyncProperty(steps(), fc.boolean(), async (steps, acks) => {
      const alone = await play(steps, acks, false);
      const lent = await play(steps, acks, true);
      assertEquals(lent.seen, alone.seen);
      loans += lent.loans;
    }),
    { numRuns: 60 },
  );
  assertEquals(loans > 60, true, `${loans} loans`);
});
