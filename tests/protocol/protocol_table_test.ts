/**
 * docs/protocol.md says what is served and what is not: here each of its rows is
 * tried.
 */

import { assert, assertEquals } from "@std/assert";
import { deviceType } from "../../host/device_types.ts";
import { WorkerPlane } from "../../host/worker_plane.ts";
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
import { TemporaryDirectory } from "../support/temporary_directory.ts";

const ROOT = new URL("../../", import.meta.url);
const PAGE = Deno.readTextFileSync(new URL("docs/protocol.md", ROOT));
/** Bits of vhost-user itself. */
const OWN = LOG_ALL_BIT | PROTOCOL_FEATURES_BIT;
/** First and last bit of those that belong to no device. */
const COMMON = [24, 49] as const;

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

/** What the constants and a table say of names and numbers is the same. */
function assertNames(
  rows: readonly Row[],
  names: Record<string, number>,
): void {
  assertEquals(
    rows.map(({ name, number }) => [name, number]),
    Object.entries(names).toSorted((a, b) => a[1] - b[1]),
  );
}

/** Every row names a test that there is, or says why not. */
function assertReasons(rows: readonly Row[]): void {
  for (const { name, offered, rest } of rows) {
    const where = rest.at(-1)!;
    const files = [...where.matchAll(/`((?:[a-z]+\/)+\w+(?:\.ts)?)`/g)];
    if (offered === "no") assert(where.length > 0, `no reason for ${name}`);
    else assert(files.length > 0, `no test is named for ${name}`);
    for (const [, file] of files) Deno.statSync(new URL(file, ROOT));
  }
}

/** Sends a message without a payload; what the session says of it. */
async function complaintAbout(request: number): Promise<string> {
  await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
  await h.frontEnd.handshake();
  await h.frontEnd.setFeatures(h.frontEnd.features);
  const flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
  await h.frontEnd.sendRaw(encodeMessage(request, flags));
  const reply = await h.frontEnd.receive();
  const { lastError } = h.status;
  if (lastError === null) {
    assert(reply !== null);
    reply.close();
    return "";
  }
  // A refusal is a number other than 0, or the end.
  if (reply !== null) {
    assertEquals(reply.payload, encodeU64(1n));
    reply.close();
  }
  return lastError;
}

Deno.test("messages of the front-end: served, or refused", async () => {
  const rows = tableOf("Messages of the front-end");
  assertNames(rows, FrontEndMessage);
  assertReasons(rows);
  for (const { number, name, offered } of rows) {
    const complaint = await complaintAbout(number);
    assertEquals(
      complaint.endsWith("it was not negotiated and is not served"),
      offered === "no",
      `${name}: ${complaint}`,
    );
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

Deno.test("messages of the back-end", () => {
  const rows = tableOf("Messages of the back-end");
  assertNames(rows, BackEndMessage);
  assertReasons(rows);
});

Deno.test("protocol features: offered, or refused by name", async () => {
  const rows = tableOf("Protocol features");
  assertNames(rows, ProtocolFeature);
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
  assertReasons(common);
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
      const names = [...deviceType(type)!.features];
      assertEquals(own.map(({ number, name }) => [number, name]), names);
      const rows = [...own, ...common];
      const plain = await featuresOf(type, least);
      const all = await featuresOf(type, { ...least, ...EVERYTHING[type] });
      const [first, last] = COMMON;
      for (let bit = 0; bit < 64; bit++) {
        const row = rows.find(({ number }) => number === bit);
        const place = bit >= first && bit <= last ? "common" : type;
        const has = (mask: bigint) => (mask >> BigInt(bit) & 1n) === 1n;
        const what = `bit ${bit} of ${type} (${place}, ${row?.name})`;
        assertEquals(has(plain), row?.offered === "yes", what);
        if (row?.offered !== "option") continue;
        if (row.name === "MQ" && type === "net") continue; // needs a TAP
        assert(has(all), `${what} is not offered with its option`);
      }
    });
  }
});

Deno.test("feature bits that are not offered are refused by number", async () => {
  for (const { number, offered } of tableOf("Feature bits of every device")) {
    if (offered === "yes") continue;
    await using h = Harness.open({ features: 1n << 32n });
    h.frontEnd.acks = false;
    await h.frontEnd.setFeatures(1n << BigInt(number));
    assert((await h.dropped())!.includes(`feature bits ${number} were`));
  }
});
