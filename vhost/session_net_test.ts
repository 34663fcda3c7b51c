import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  FrontEndMessage,
  ProtocolFeature,
  SERVED_NET_FEATURES,
  SERVED_PROTOCOL_FEATURES,
  VHOST_USER_VERSION,
  VIRTIO_ID_NET,
} from "./constants.ts";
import { encodeMessage, encodeU64 } from "./message.ts";
import { FrontEndError } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";

const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

function sendRarp(h: Harness): Promise<void> {
  const payload = new Uint8Array([...MAC, 0, 0]);
  return h.frontEnd.set(FrontEndMessage.SEND_RARP, payload);
}

function netSetMtu(h: Harness, mtu: number): Promise<void> {
  return h.frontEnd.set(FrontEndMessage.NET_SET_MTU, encodeU64(BigInt(mtu)));
}

Deno.test("what is for network devices is offered for them alone", async () => {
  for (const deviceId of [VIRTIO_ID_NET, 2, 5, 8]) {
    await using h = Harness.open({ deviceId });
    assertEquals(
      await h.frontEnd.getProtocolFeatures(),
      deviceId === VIRTIO_ID_NET
        ? SERVED_PROTOCOL_FEATURES | SERVED_NET_FEATURES
        : SERVED_PROTOCOL_FEATURES,
    );
  }
});

Deno.test("SEND_RARP and NET_SET_MTU become commands of the device", async () => {
  await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
  await h.frontEnd.handshake();
  h.plane.takeCalls();
  await sendRarp(h);
  await netSetMtu(h, 9000);
  assertEquals(h.plane.takeCalls(), [
    'command announce {"mac":"52:54:00:12:34:56"}',
    'command mtu {"mtu":9000}',
  ]);
});

Deno.test("what the device refuses is answered, and the session goes on", async () => {
  await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
  await h.frontEnd.handshake();
  h.plane.fail("command", new Error("Cannot use an MTU of 5"));
  await assertRejects(() => netSetMtu(h, 5), FrontEndError);
  assertEquals(h.status.refused, 1);
  assertStringIncludes(
    h.status.lastError!,
    "Cannot serve VHOST_USER_NET_SET_MTU: Cannot use an MTU of 5",
  );
  // Without an answer to wait for, it is ignored.
  h.plane.fail("command", new Error("no"));
  await h.frontEnd.sendRaw(encodeMessage(
    FrontEndMessage.NET_SET_MTU,
    VHOST_USER_VERSION,
    encodeU64(5n),
  ));
  await h.settled();
  assertEquals(h.status.ignored, 1);
});

Deno.test("they are not served unless they were negotiated, nor in other sizes", async () => {
  const features = SERVED_PROTOCOL_FEATURES | SERVED_NET_FEATURES;
  {
    await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
    await h.frontEnd.handshake({
      protocolFeatures: features & ~(1n << BigInt(ProtocolFeature.RARP)),
    });
    await assertRejects(() => sendRarp(h), FrontEndError);
  }
  await using h = Harness.open({ deviceId: VIRTIO_ID_NET });
  await h.frontEnd.handshake();
  await h.frontEnd.sendRaw(encodeMessage(
    FrontEndMessage.SEND_RARP,
    VHOST_USER_VERSION,
    new Uint8Array(6),
  ));
  assertStringIncludes((await h.dropped())!, "VHOST_USER_SEND_RARP");
});
