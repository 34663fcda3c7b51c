import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { Reactor } from "../sys/reactor.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { Connection } from "./connection.ts";
import {
  FrontEndMessage,
  ProtocolFeature,
  SERVED_PROTOCOL_FEATURES,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "./constants.ts";
import { encodeMessage, encodeU64 } from "./message.ts";
import { FrontEndError, SharedRegion } from "./testing/front_end.ts";
import { Session } from "./session.ts";
import { LOG_ALL_BIT } from "./state.ts";
import { Harness } from "./testing/harness.ts";
import { RecordingPlane } from "./testing/recording_plane.ts";
import { TestRing } from "./testing/test_ring.ts";

const VERSION_1 = 1n << 32n;
const EVENT_IDX = 1n << 29n;
const BIT_30 = 1n << 30n;

Deno.test("the features offered are those of the device and bits 26 and 30", async () => {
  await using h = Harness.open({ features: VERSION_1 | 5n });
  assertEquals(
    await h.frontEnd.getFeatures(),
    VERSION_1 | LOG_ALL_BIT | BIT_30 | 5n,
  );
});

Deno.test("the protocol features offered are exactly those served", async () => {
  await using h = Harness.open();
  const bits = [0, 1, 3, 5, 9, 12, 13, 15, 16, 20];
  assertEquals(
    await h.frontEnd.getProtocolFeatures(),
    bits.reduce((mask, bit) => mask | 1n << BigInt(bit), 0n),
  );
});

Deno.test("a handshake in QEMU's order is served", async () => {
  await using h = Harness.open({ features: VERSION_1, queueCount: 3 });
  await h.frontEnd.handshake();
  assertEquals(h.frontEnd.queueCount, 3);
  assertEquals(await h.frontEnd.getMaxMemSlots(), 512);
  const { status } = h;
  assertEquals(status.owned, true);
  assertEquals(status.protocolFeatures.length, 10);
  assertEquals(status.backendChannel, true);
  assertEquals(status.messages.VHOST_USER_GET_FEATURES, 2);
  assertEquals(status.messages.VHOST_USER_SET_VRING_ERR, 3);
  assertEquals(status.lastError, null);
  assertEquals(h.plane.calls, []);
});

Deno.test("an owner may come first, last or again", async () => {
  await using h = Harness.open();
  await h.frontEnd.setOwner();
  await h.frontEnd.handshake();
  await h.frontEnd.setOwner();
  assertEquals(h.status.owned, true);
});

Deno.test("SET_FEATURES refuses bits that were not offered, and names them", async () => {
  await using h = Harness.open({ features: VERSION_1 });
  await h.frontEnd.handshake();
  await assertRejects(
    () => h.frontEnd.setFeatures(VERSION_1 | 1n << 5n | 1n << 34n),
    FrontEndError,
    "refused VHOST_USER_SET_FEATURES",
  );
  assertStringIncludes(
    h.status.lastError!,
    "VHOST_USER_SET_FEATURES: feature bits 5, 34 were not offered",
  );
  assertEquals(h.status.refused, 1);
  assertEquals(h.plane.calls, []);
  // The connection goes on.
  await h.frontEnd.setFeatures(VERSION_1 | BIT_30);
  assertEquals(h.plane.calls, ["negotiate 0x100000000"]);

  await using without = Harness.open();
  without.frontEnd.acks = false;
  await without.frontEnd.setFeatures(1n);
  assertStringIncludes((await without.dropped())!, "feature bits 0");
});

Deno.test("SET_PROTOCOL_FEATURES refuses bits that were not offered", async () => {
  await using h = Harness.open();
  await h.frontEnd.setProtocolFeatures(
    SERVED_PROTOCOL_FEATURES | 1n << BigInt(ProtocolFeature.XEN_MMAP) |
      1n << 63n,
  );
  assertStringIncludes(
    (await h.dropped())!,
    "protocol features XEN_MMAP, bit 63 were not offered",
  );
});

Deno.test("a legacy driver acknowledges no VERSION_1", async () => {
  await using h = Harness.open({ features: VERSION_1 | EVENT_IDX | 0x40n });
  await h.frontEnd.handshake({ features: 0x40n | BIT_30 });
  await h.frontEnd.setFeatures(h.frontEnd.features);
  assertEquals(h.plane.negotiated, 0x40n);
});

Deno.test("need_reply is obeyed once REPLY_ACK is negotiated, not before", async () => {
  await using h = Harness.open();
  const { frontEnd } = h;
  const flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
  // Some front-ends set the flag from the start, and wait for no answer.
  await frontEnd.sendRaw(encodeMessage(FrontEndMessage.SET_OWNER, flags));
  await frontEnd.getFeatures();
  const reply = async (): Promise<[number, number, bigint] | null> => {
    using message = await frontEnd.receive();
    if (message === null) return null;
    const { buffer, byteOffset } = message.payload;
    return [
      message.request,
      message.flags,
      new DataView(buffer, byteOffset).getBigUint64(0, true),
    ];
  };
  // The message that negotiates it is the first to be answered.
  await frontEnd.sendRaw(encodeMessage(
    FrontEndMessage.SET_PROTOCOL_FEATURES,
    flags,
    encodeU64(1n << BigInt(ProtocolFeature.REPLY_ACK)),
  ));
  assertEquals(await reply(), [FrontEndMessage.SET_PROTOCOL_FEATURES, 5, 0n]);
  await frontEnd.sendRaw(encodeMessage(FrontEndMessage.SET_OWNER, flags));
  assertEquals(await reply(), [FrontEndMessage.SET_OWNER, 5, 0n]);
  // Without the flag there is none; with it a reply of its own comes once.
  await frontEnd.sendRaw(
    encodeMessage(FrontEndMessage.SET_OWNER, VHOST_USER_VERSION),
  );
  await frontEnd.sendRaw(encodeMessage(FrontEndMessage.GET_QUEUE_NUM, flags));
  assertEquals(await reply(), [FrontEndMessage.GET_QUEUE_NUM, 5, 1n]);
  await frontEnd.sendRaw(encodeMessage(FrontEndMessage.GET_QUEUE_NUM, flags));
  assertEquals(await reply(), [FrontEndMessage.GET_QUEUE_NUM, 5, 1n]);
});

Deno.test("the status is kept, gates nothing, and starts at 0", async () => {
  await using ring = new TestRing();
  const { plane } = ring.h;
  {
    const { frontEnd } = ring.h;
    await ring.run();
    assertEquals(plane.running.size, 1);
    assertEquals(await frontEnd.getStatus(), 0);
    await frontEnd.setStatus(0xf);
    assertEquals(await frontEnd.getStatus(), 0xf);
    await frontEnd.setStatus(8);
    await frontEnd.setStatus(0);
    assertEquals(plane.running.size, 1);
    assert(!plane.calls.includes("reset"));
    await frontEnd.setStatus(0x80);
    await frontEnd.resetDevice();
    assertEquals(await frontEnd.getStatus(), 0);
    await frontEnd.setStatus(1);
    await assertRejects(() => frontEnd.setStatus(0x100), FrontEndError);
    assertEquals(await frontEnd.getStatus(), 1);
    frontEnd.close();
    await ring.h.done;
  }
  await using again = Harness.reopen(plane);
  await again.frontEnd.handshake();
  assertEquals(await again.frontEnd.getStatus(), 0);
});

Deno.test("RESET_DEVICE stops and forgets, but not what is handed over once", async () => {
  await using ring = new TestRing();
  const { frontEnd, plane } = ring.h;
  await ring.run();
  const { callFd, errorFd } = plane.running.get(0)!;
  plane.takeCalls();
  await frontEnd.resetDevice();
  assertEquals(plane.takeCalls(), ["stopRing 0", "reset"]);
  await frontEnd.resetDevice();
  assertEquals(plane.takeCalls(), ["reset"]);
  const { status } = ring.h;
  assertEquals(status.regions.length, 1);
  assertEquals(status.owned, true);
  assertEquals(status.protocolFeatures.length, 10);
  assertEquals(status.features, "0x0");
  assertEquals(status.rings[0], {
    index: 0,
    size: 0,
    enabled: false,
    started: false,
    running: false,
    activity: "stopped",
    position: 0,
  });
  assertEquals(plane.regions.size, 1);

  // The next start brings no memory and no call descriptor.
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.setupRing(0, ring.layout, 3);
  assertEquals(plane.running.size, 0);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.running.get(0)!.position, 3);
  assertEquals(plane.running.get(0)!.callFd, callFd);
  assertEquals(plane.running.get(0)!.errorFd, errorFd);
});

Deno.test("after RESET_DEVICE the features are told anew", async () => {
  await using ring = new TestRing({ features: VERSION_1 });
  const { frontEnd, plane } = ring.h;
  await ring.run();
  await frontEnd.resetDevice();
  plane.takeCalls();
  await frontEnd.setupRing(0, ring.layout);
  // Bit 30 is the transport's: the ring waits to be enabled.
  assertEquals(plane.takeCalls(), []);
  await frontEnd.setVringEnable(0, true);
  assertEquals(plane.takeCalls(), ["negotiate 0x0", "startRing 0 @0"]);
});

Deno.test("RESET_OWNER is accepted and ignored", async () => {
  await using ring = new TestRing();
  await ring.run();
  ring.h.plane.takeCalls();
  await ring.h.frontEnd.set(FrontEndMessage.RESET_OWNER);
  assertEquals(ring.h.plane.calls, []);
  assertEquals(ring.h.plane.running.size, 1);
});

Deno.test("QEMU's life of a disk: connect, start, stop, start again", async () => {
  await using h = Harness.open({
    features: VERSION_1 | EVENT_IDX,
    queueCount: 2,
    config: new Uint8Array(60),
  });
  const { frontEnd, plane } = h;
  using region = SharedRegion.create(0, 1 << 20);
  await frontEnd.handshake();
  assertEquals((await frontEnd.getConfig(0, 57)).length, 57);
  await frontEnd.resetDevice();
  await frontEnd.resetDevice();
  plane.takeCalls();
  const layout = {
    size: 128,
    descriptorTable: 0x1000,
    availableRing: 0x2000,
    usedRing: 0x3000,
  };
  for (const at of [0, 5]) {
    plane.positions.set(0, at + 5);
    await frontEnd.start([region], new Map([[0, layout]]), {
      positions: { 0: at },
    });
    assertEquals(plane.running.get(0)!.position, at);
    assertEquals([...plane.running.keys()], [0]);
    assertEquals(await frontEnd.stop(), { 0: at + 5 });
    assertEquals(plane.running.size, 0);
  }
  assertEquals(plane.calls, [
    "negotiate 0x120000000",
    "addRegion 0x0",
    "startRing 0 @0",
    "stopRing 0",
    "reset",
    "negotiate 0x120000000",
    "startRing 0 @5",
    "stopRing 0",
    "reset",
  ]);
  assertEquals(h.status.refused, 0);
});

Deno.test("QEMU's network order: queues are enabled before all else", async () => {
  await using h = Harness.open({ features: VERSION_1, queueCount: 4 });
  const { frontEnd, plane } = h;
  using region = SharedRegion.create(0, 1 << 20);
  await frontEnd.handshake();
  for (const index of [0, 1, 2, 3]) {
    await frontEnd.setVringEnable(index, index < 2);
  }
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.addMemReg(region);
  for (const index of [0, 1]) {
    await frontEnd.setupRing(index, {
      size: 256,
      descriptorTable: 0x10000 * index,
      availableRing: 0x10000 * index + 0x2000,
      usedRing: 0x10000 * index + 0x4000,
    });
    await frontEnd.setVringCall(index);
  }
  assertEquals([...plane.running.keys()], [0, 1]);
  // Stopped without being disabled, and started without being enabled.
  assertEquals(await frontEnd.getVringBase(0), 0);
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.setVringKick(0);
  assertEquals([...plane.running.keys()], [1, 0]);
});

Deno.test("a session serves 256 queues and no more", async () => {
  await using h = Harness.open({ queueCount: 256 });
  await h.frontEnd.handshake();
  assertEquals(h.frontEnd.queueCount, 256);
  const [ours, theirs] = UnixSocket.pair();
  using connection = new Connection(ours, new Reactor());
  theirs.close();
  assertThrows(
    () => new Session(connection, new RecordingPlane({ queueCount: 257 })),
    RangeError,
    "Cannot serve 257 queues",
  );
});
