import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigRefusal } from "../virtqueue/config_refusal.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import {
  FrontEndMessage,
  ProtocolFeature,
  SERVED_PROTOCOL_FEATURES,
} from "./constants.ts";
import { encodeConfig } from "./message.ts";
import { FrontEndError } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { TestRing } from "./testing/test_ring.ts";

const { GET_CONFIG, SET_BACKEND_REQ_FD } = FrontEndMessage;
const CONFIG = Uint8Array.from({ length: 60 }, (_, i) => i + 1);

function without(feature: number): { protocolFeatures: bigint } {
  return {
    protocolFeatures: SERVED_PROTOCOL_FEATURES & ~(1n << BigInt(feature)),
  };
}

Deno.test("GET_CONFIG answers with exactly what was asked for", async () => {
  await using h = Harness.open({ config: CONFIG });
  const { frontEnd } = h;
  await frontEnd.handshake();
  for (const [offset, size] of [[0, 60], [0, 57], [8, 4], [59, 1]]) {
    assertEquals(
      await frontEnd.getConfig(offset, size),
      CONFIG.slice(offset, offset + size),
    );
  }
  // It is the configuration of now.
  h.plane.config = CONFIG.map((byte) => byte + 100);
  assertEquals(await frontEnd.getConfig(0, 1), new Uint8Array([101]));
});

Deno.test("GET_CONFIG reads zeroes beyond the device's own fields", async () => {
  await using h = Harness.open({ config: CONFIG });
  const { frontEnd } = h;
  await frontEnd.handshake();
  const whole = new Uint8Array(256);
  whole.set(CONFIG);
  assertEquals(await frontEnd.getConfig(0, 256), whole);
  assertEquals(await frontEnd.getConfig(0, 96), whole.slice(0, 96));
  assertEquals(await frontEnd.getConfig(58, 4), new Uint8Array([59, 60, 0, 0]));
  assertEquals(await frontEnd.getConfig(200, 56), new Uint8Array(56));
});

Deno.test("GET_CONFIG answers what cannot be read with no payload", async () => {
  await using h = Harness.open({ config: CONFIG });
  const { frontEnd } = h;
  await frontEnd.handshake();
  const asks: [number, number][] = [
    [0, 0],
    [0, 257],
    [1, 256],
    [256, 1],
    [0xffff_ffff, 1],
  ];
  for (const [offset, size] of asks) {
    assertEquals((await frontEnd.getConfig(offset, size)).length, 0);
  }
  // The same, with a size that no payload could hold.
  const head = encodeConfig(0, 0, new Uint8Array(0));
  new DataView(head.buffer).setUint32(4, 0xffff_ffff, true);
  assertEquals((await frontEnd.get(GET_CONFIG, head)).length, 0);
  assertEquals((await frontEnd.getConfig(0, 60)).length, 60);
});

Deno.test("GET_CONFIG keeps the fields of the request, and needs no bytes", async () => {
  await using h = Harness.open({ config: CONFIG });
  await h.frontEnd.handshake();
  const head = encodeConfig(4, 1, new Uint8Array(2)).subarray(0, 12);
  assertEquals(
    await h.frontEnd.get(GET_CONFIG, head),
    encodeConfig(4, 1, CONFIG.slice(4, 6)),
  );
});

Deno.test("SET_CONFIG hands on what the device has, wherever it is written", async () => {
  await using h = Harness.open({ config: CONFIG });
  const { frontEnd, plane } = h;
  await frontEnd.handshake();
  await frontEnd.setConfig(32, new Uint8Array([7]));
  await frontEnd.setConfig(58, new Uint8Array([1, 2, 3, 4]));
  await frontEnd.setConfig(60, new Uint8Array([9]));
  await frontEnd.setConfig(0xffff_ffff, new Uint8Array([9]));
  await frontEnd.setConfig(0, new Uint8Array(0));
  const whole = new Uint8Array(1000).fill(5);
  await frontEnd.setConfig(0, whole);
  assertEquals(plane.calls, [
    "writeConfig 32 [7]",
    "writeConfig 58 [1,2]",
    `writeConfig 0 [${whole.slice(0, 60)}]`,
  ]);
  assertEquals(h.status.refused, 0);
});

Deno.test("SET_CONFIG is refused where the device refuses the value", async () => {
  await using h = Harness.open({ config: CONFIG });
  const { frontEnd, plane } = h;
  await frontEnd.handshake();
  plane.fail("writeConfig", new ConfigRefusal("the field stays 1"));
  await assertRejects(
    () => frontEnd.setConfig(32, new Uint8Array([0])),
    FrontEndError,
  );
  // The session goes on.
  await frontEnd.setConfig(32, new Uint8Array([0]));
  assertEquals([h.status.refused, h.status.ignored], [1, 0]);
  assertStringIncludes(
    h.log.lines.join("\n"),
    "VHOST_USER_SET_CONFIG: the field stays 1",
  );
});

Deno.test("the configuration is closed to who did not negotiate CONFIG", async () => {
  await using h = Harness.open({ config: CONFIG });
  await h.frontEnd.handshake(without(ProtocolFeature.CONFIG));
  await assertRejects(
    () => h.frontEnd.setConfig(0, new Uint8Array(1)),
    FrontEndError,
  );
  await assertRejects(() => h.frontEnd.getConfig(0, 1), FrontEndError);
  assertStringIncludes(
    (await h.dropped())!,
    "VHOST_USER_GET_CONFIG: protocol feature CONFIG was not negotiated",
  );
});

Deno.test("a change of the configuration is told while a ring runs", async () => {
  await using ring = new TestRing({ config: CONFIG });
  const { frontEnd } = ring.h;
  await ring.run();
  ring.h.session.configChanged();
  using message = await frontEnd.receiveFromChannel();
  assertEquals(message?.request, 2);
  assertEquals(message?.flags, 1);
  assertEquals(message?.payload.length, 0);
});

Deno.test("a change before a ring runs is told when one does", async () => {
  await using ring = new TestRing({ config: CONFIG });
  const { frontEnd } = ring.h;
  await ring.prepare();
  ring.h.session.configChanged();
  ring.h.session.configChanged();
  await ring.h.settled();
  // What is read before it is told is known.
  await frontEnd.getConfig(0, 60);
  await ring.start();
  ring.h.session.configChanged();
  await frontEnd.configChange();
  await frontEnd.setVringEnable(0, false);
  ring.h.session.configChanged();
  await frontEnd.setVringEnable(0, true);
  await frontEnd.configChange();
  // These were all.
  const last = frontEnd.receiveFromChannel();
  await ring.h.session.stop();
  assertEquals(await last, null);
  ring.h.session.configChanged();
});

Deno.test("a change is not told to who does not understand it", async () => {
  await using ring = new TestRing({ config: CONFIG });
  const { frontEnd, session } = ring.h;
  await ring.run(without(ProtocolFeature.CONFIG));
  session.configChanged();
  // The channel ends before anything came over it.
  const last = frontEnd.receiveFromChannel();
  await session.stop();
  assertEquals(await last, null);
});

Deno.test("a second back-end channel replaces and closes the first", async () => {
  await using ring = new TestRing({ config: CONFIG });
  const { frontEnd, session, reactor } = ring.h;
  await ring.run();
  const [first, firstTheirs] = UnixSocket.pair();
  const [second, secondTheirs] = UnixSocket.pair();
  for (const end of [firstTheirs, secondTheirs]) {
    await frontEnd.set(SET_BACKEND_REQ_FD, undefined, [end.fd]);
    end.close();
  }
  const bytes = new Uint8Array(64);
  assertEquals(first.tryReceive(bytes, []), 0);
  session.configChanged();
  await reactor.readable(second.fd);
  assertEquals(second.tryReceive(bytes, []), 12);
  first.close();
  second.close();
});
