/**
 * docs/protocol.md says what is served and what is not: here its rows are those
 * of the specifications, and each is tried.
 */

import { assert, assertEquals } from "@std/assert";
import { deviceType } from "../../host/device_types.ts";
import { featureNames } from "../../host/features.ts";
import { WorkerPlane } from "../../host/worker_plane.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { openFdCount } from "../../sys/fd.ts";
import {
  BackEndMessage,
  FrontEndMessage,
  ProtocolFeature,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
  VIRTIO_ID_NET,
} from "../../vhost/constants.ts";
import { encodeMessage, encodeU64 } from "../../vhost/message.ts";
import { LOG_ALL_BIT, PROTOCOL_FEATURES_BIT } from "../../vhost/state.ts";
import { Harness } from "../../vhost/testing/harness.ts";
import { TestRing } from "../../vhost/testing/test_ring.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  BACK_END_MESSAGES,
  COMMON_FEATURES,
  DEVICE_FEATURES,
  FRONT_END_MESSAGES,
  type Named,
  PROTOCOL_FEATURES,
} from "./specification.ts";

const ROOT = new URL("../../", import.meta.url);
const PAGE = Deno.readTextFileSync(new URL("docs/protocol.md", ROOT));
/** Bits of vhost-user itself. */
const OWN = LOG_ALL_BIT | PROTOCOL_FEATURES_BIT;
/** Features of vhost-user are a number of so many bits. */
const FEATURE_BITS = 64;

interface Row {
  readonly number: number;
  readonly name: string;
  readonly offered: string;
  readonly rest: readonly string[];
}

/** The rows of the table under a heading. */
function tableOf(heading: string): Row[] {
  const section = PAGE.split(/^#+ /m)
    .find((part) => part.startsWith(`${heading}\n`));
  assert(section !== undefined, `there is no "${heading}"`);
  return section.split("\n").filter((line) => /^\| +\d/.test(line))
    .map((line) => {
      const [number, name, offered, ...rest] = line.split("|").slice(1, -1)
        .map((cell) => cell.trim());
      return { number: Number(number), name, offered, rest };
    });
}

/** A table names what the specification names, and the constants do. */
function assertNames(
  rows: readonly Row[],
  specified: readonly Named[],
  constants?: Record<string, number>,
): void {
  const named = rows.map(({ name, number }): Named => [name, number]);
  assertEquals<readonly Named[]>(named, specified);
  if (constants === undefined) return;
  const ours = Object.entries(constants).toSorted((a, b) => a[1] - b[1]);
  assertEquals<readonly Named[]>(ours, specified);
}

/** Every row names a test that there is, or says why not. */
function assertReasons(rows: readonly Row[]): void {
  for (const { name, offered, rest } of rows) {
    const where = rest.at(-1)!;
    const files = [...where.matchAll(/`((?:[a-z]+\/)+\w+(?:\.ts)?)`/g)];
    if (["no", "refused", "dropped"].includes(offered)) {
      assert(where.length > 0, `no reason for ${name}`);
    } else assert(files.length > 0, `no test is named for ${name}`);
    for (const [, file] of files) Deno.statSync(new URL(file, ROOT));
  }
}

const UNSERVED = "it was not negotiated and is not served";

/** How a message is sent. */
interface Sent {
  /** Bytes of the payload. */
  readonly size: number;
  /** Descriptors that come along. */
  readonly fds: readonly number[];
  /** With a wish for an answer. */
  readonly ack: boolean;
}

/** Sends a message; whether it is served, and else what came of it. */
async function outcomeOf(request: number, sent: Sent): Promise<string> {
  await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
  const { frontEnd } = h;
  await frontEnd.handshake();
  await frontEnd.setFeatures(frontEnd.features);
  const before = openFdCount();
  const flags = VHOST_USER_VERSION | (sent.ack ? VHOST_USER_NEED_REPLY : 0);
  const message = encodeMessage(request, flags, new Uint8Array(sent.size));
  await frontEnd.sendRaw(message, sent.fds);
  // Without an answer to it, the next one is that to this.
  if (!sent.ack) {
    const next = encodeMessage(FrontEndMessage.GET_QUEUE_NUM, flags);
    await frontEnd.sendRaw(next);
  }
  using reply = await frontEnd.receive();
  if (h.status.lastError?.endsWith(UNSERVED) !== true) return "yes";
  if (reply === null) {
    assert((await h.dropped())?.endsWith(UNSERVED));
    return "dropped";
  }
  const { refused, ignored } = h.status;
  if (sent.ack) {
    assertEquals([reply.request, reply.payload], [request, encodeU64(1n)]);
    assertEquals([refused, ignored], [1, 0]);
  } else {
    assertEquals(reply.request, FrontEndMessage.GET_QUEUE_NUM);
    assertEquals([refused, ignored], [0, 1]);
  }
  assert(h.log.lines.some((line) => line.includes(UNSERVED)));
  // The session goes on, with nothing of the message left.
  await h.settled();
  assertEquals(openFdCount(), before);
  return "refused";
}

Deno.test("messages of the front-end: served, refused, or the end", async () => {
  const rows = tableOf("Messages of the front-end");
  const specified = FRONT_END_MESSAGES
    .map(({ name, number }): Named => [name, number]);
  assertNames(rows, specified, FrontEndMessage);
  assertReasons(rows);
  await Harness.warmUp();
  using event = EventFd.create();
  const descriptors = openFdCount();
  for (const [i, { number, name, offered }] of rows.entries()) {
    const { size, replies } = FRONT_END_MESSAGES[i];
    if (offered !== "yes") {
      assertEquals(offered, replies ? "dropped" : "refused", name);
      assert(size !== undefined, `no payload of ${name} is known`);
    }
    for (const ack of [true, false]) {
      const sent: Sent[] = [{ size: 0, fds: [], ack }];
      // As the specification has it, with a descriptor.
      if (offered !== "yes") sent.push({ size: size!, fds: [event.fd], ack });
      // A message that is served, but was not right, may well have no answer.
      else if (!ack) continue;
      for (const how of sent) {
        const outcome = await outcomeOf(number, how);
        assertEquals(outcome, offered, `${name}, ${JSON.stringify(how)}`);
      }
    }
    assertEquals(openFdCount(), descriptors, `descriptors of ${name}`);
  }
});

Deno.test("messages of the front-end: not without their feature", async () => {
  for (
    const { number, name, rest: [needs] } of tableOf(
      "Messages of the front-end",
    )
  ) {
    if (needs === "") continue;
    await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
    const bit = ProtocolFeature[needs as keyof typeof ProtocolFeature];
    const protocolFeatures = ~(1n << BigInt(bit));
    await h.frontEnd.handshake({ protocolFeatures });
    const flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
    await h.frontEnd.sendRaw(encodeMessage(number, flags));
    (await h.frontEnd.receive())?.close();
    assert(
      h.status.lastError?.endsWith(`${needs} was not negotiated`),
      `${name}: ${h.status.lastError}`,
    );
  }
});

Deno.test("messages of the back-end: those that are sent, and no others", async () => {
  const rows = tableOf("Messages of the back-end");
  assertNames(rows, BACK_END_MESSAGES, BackEndMessage);
  assertReasons(rows);
  await using ring = new TestRing({
    deviceId: VIRTIO_ID_NET,
    features: 1n << 32n,
    config: new Uint8Array(12),
  });
  const { frontEnd, plane, session } = ring.h;
  const sent = new Set<number>();
  const next = async (): Promise<boolean> => {
    using message = await frontEnd.receiveFromChannel();
    if (message === null) return false;
    assertEquals([message.isReply, message.payload.length], [false, 0]);
    sent.add(message.request);
    return true;
  };
  await ring.run();
  session.configChanged();
  assert(await next());
  // A request that fails, a ring that stops, a device that is reset.
  await frontEnd.sendRaw(encodeMessage(99, VHOST_USER_VERSION));
  await frontEnd.getVringBase(0);
  await frontEnd.resetDevice();
  assertEquals(plane.running.size, 0);
  // The session closes the channel when it ends.
  await session.stop();
  while (await next());
  assertEquals(
    rows.map(({ number, offered }) => [number, offered]),
    rows.map(({ number }) => [number, sent.has(number) ? "yes" : "no"]),
  );
});

Deno.test("protocol features: offered, or refused by name", async () => {
  const rows = tableOf("Protocol features");
  assertNames(rows, PROTOCOL_FEATURES, ProtocolFeature);
  assertReasons(rows);
  for (const deviceId of [VIRTIO_ID_NET, 2]) {
    const kinds = deviceId === VIRTIO_ID_NET ? ["yes", "net"] : ["yes"];
    await using h = Harness.open({ deviceId });
    const offered = await h.frontEnd.getProtocolFeatures();
    for (const { number, name, offered: kind } of rows) {
      const here = (offered >> BigInt(number) & 1n) === 1n;
      assertEquals(here, kinds.includes(kind), name);
    }
    assertEquals(offered >> BigInt(rows.length), 0n);
  }
  for (const { number, name, offered } of rows) {
    if (offered !== "no") continue;
    await using h = Harness.open();
    await h.frontEnd.setProtocolFeatures(1n << BigInt(number));
    assert((await h.dropped())!.includes(`protocol features ${name} were`));
  }
});

/** The features of a device with these options. */
async function featuresOf(
  type: string,
  options: Readonly<Record<string, unknown>>,
): Promise<bigint> {
  const plane = await WorkerPlane.start({
    module: new URL(`backends/${type}/mod.ts`, ROOT).href,
    options,
    log() {},
  });
  try {
    return plane.features | OWN;
  } finally {
    await plane.close();
  }
}

/** What every optional feature of a device takes. */
const EVERYTHING: Readonly<Record<string, Readonly<Record<string, unknown>>>> =
  {
    blk: { readonly: true, queues: 2 },
    net: { mtu: 9000, mac: "52:54:00:00:00:01", speed: 1000 },
    scsi: {},
    balloon: {},
  };

Deno.test("feature bits: offered, with an option, or not", async (t) => {
  using directory = TemporaryDirectory.make("table");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(1 << 20));
  const common = tableOf("Feature bits of every device");
  assertNames(common, COMMON_FEATURES);
  assertReasons(common);
  for (const { number, name } of common) {
    assertEquals(featureNames("", 1n << BigInt(number)), [name]);
  }
  const options = {
    blk: { path },
    scsi: { path },
    net: { backend: "echo" },
    balloon: {},
  };
  for (const [type, least] of Object.entries(options)) {
    await t.step(type, async () => {
      const own = tableOf(type);
      assertReasons(own);
      assertNames(own, DEVICE_FEATURES[type]);
      const named = own.filter(({ number }) => number < FEATURE_BITS);
      assertEquals(
        [...deviceType(type)!.features],
        named.map(({ number, name }) => [number, name]),
      );
      for (const { name, offered } of own.slice(named.length)) {
        assertEquals(offered, "no", `${name} does not fit in`);
      }
      const rows = [...own, ...common];
      const plain = await featuresOf(type, least);
      const all = await featuresOf(type, { ...least, ...EVERYTHING[type] });
      for (let bit = 0; bit < FEATURE_BITS; bit++) {
        const row = rows.find(({ number }) => number === bit);
        const has = (mask: bigint) => (mask >> BigInt(bit) & 1n) === 1n;
        const what = `bit ${bit} of ${type} (${row?.name})`;
        assertEquals(has(plain), row?.offered === "yes", what);
        if (row?.offered !== "option") continue;
        if (row.name === "MQ" && type === "net") continue; // needs a TAP
        assert(has(all), `${what} is not offered with its option`);
      }
    });
  }
});

Deno.test("feature bits that are not offered are refused by number", async () => {
  const common = tableOf("Feature bits of every device");
  const bits = new Set<number>();
  for (const rows of [common, ...Object.keys(DEVICE_FEATURES).map(tableOf)]) {
    for (const { number, offered } of rows) {
      if (offered === "no" && number < FEATURE_BITS) bits.add(number);
    }
  }
  for (const number of bits) {
    await using h = Harness.open({ features: 1n << 32n });
    h.frontEnd.acks = false;
    await h.frontEnd.setFeatures(1n << BigInt(number));
    assert((await h.dropped())!.includes(`feature bits ${number} were`));
  }
});
