import { assert, assertEquals, assertRejects } from "@std/assert";
import { packet } from "../../backends/net/testing/packets.ts";
import { featureMask } from "../../virtqueue/constants.ts";
import { CtrlClass, NetFeature } from "../../backends/net/protocol.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { encodeU64 } from "../../vhost/message.ts";
import { assertNoLeaks } from "../support/leaks.ts";
import { waitUntil } from "../support/deadline.ts";
import { DRIVERS, NetGuest, ServedNet } from "./net.ts";

/** Frames that differ, with their addresses exchanged. */
function frames(count: number, payload = 100): [Uint8Array[], Uint8Array[]] {
  const sent = Array.from({ length: count }, (_, i) => {
    const { bytes } = packet({ payload: payload + i });
    bytes[14] = i;
    return bytes;
  });
  const back = sent.map((bytes) => {
    const copy = bytes.slice();
    copy.set(bytes.subarray(6, 12));
    copy.set(bytes.subarray(0, 6), 6);
    return copy;
  });
  return [sent, back];
}

for (const { name, features } of DRIVERS) {
  Deno.test(`frames go out and come back: a driver that is ${name}`, async () => {
    await using net = await ServedNet.start({ backend: "echo" });
    using guest = await NetGuest.run(net.socket, { features });
    for (let round = 0; round < 20; round++) {
      const [sent, back] = frames(60, 10 * round);
      guest.fill(sent.length);
      guest.send(sent);
      await guest.sent(sent.length);
      assertEquals(await guest.receive(back.length), back);
    }
    assertEquals(await net.count("rxFrames"), 1200);
    assertEquals(await net.count("rxNoBuffer"), 0);
  });
}

Deno.test("a front-end that comes again finds everything as it was at first", async () => {
  await using net = await ServedNet.start({ backend: "echo" });
  for (let i = 0; i < 5; i++) {
    using guest = await NetGuest.run(net.socket);
    const [sent, back] = frames(3);
    guest.fill(3);
    guest.send(sent);
    assertEquals(await guest.receive(3), back);
    await guest.control(2, CtrlClass.RX, 0, [0]);
  }
  await waitUntil(async () => {
    const { filter } = await net.device() as { filter: { promisc: boolean } };
    return filter.promisc;
  }, { what: "the filter to be forgotten" });
});

Deno.test("several pairs, and the control queue behind them", async () => {
  await using net = await ServedNet.start({ backend: "echo", queues: 4 });
  using guest = await NetGuest.run(net.socket, { features: ~0n, rings: 9 });
  for (let pair = 0; pair < 4; pair++) guest.fill(20, 1526, pair);
  const [sent, back] = frames(10);
  assertEquals((await net.device()).queuePairs, 1);
  assertEquals(await guest.control(8, CtrlClass.MQ, 0, [4, 0]), 0);
  for (let pair = 0; pair < 4; pair++) {
    guest.send(sent, pair);
    assertEquals(await guest.receive(10, pair), back);
  }
  assertEquals(await guest.control(8, CtrlClass.MQ, 0, [2, 0]), 0);
  assertEquals((await net.device()).queuePairs, 2);
  guest.send(sent.slice(0, 5), 3);
  assertEquals(await guest.receive(5, 1), back.slice(0, 5));
});

Deno.test("memory goes and comes while rings run", async () => {
  await using net = await ServedNet.start({ backend: "echo", queues: 2 });
  using guest = await NetGuest.run(net.socket, { features: ~0n, rings: 5 });
  assertEquals(await guest.control(4, CtrlClass.MQ, 0, [2, 0]), 0);
  const { frontEnd, region } = guest.guest;
  const [sent, back] = frames(10);
  for (let round = 0; round < 3; round++) {
    await frontEnd.remMemReg(region);
    await frontEnd.addMemReg(region);
    for (const pair of [0, 1]) {
      guest.fill(10, 1526, pair);
      guest.send(sent, pair);
      assertEquals(await guest.receive(10, pair), back);
    }
  }
  assertEquals(await net.count("rxNoBuffer"), 0);
});

Deno.test("the link changes at run time, and the driver is told", async () => {
  await using net = await ServedNet.start({ backend: "echo" });
  using guest = await NetGuest.run(net.socket);
  const { frontEnd } = guest.guest;
  const status = async () => (await frontEnd.getConfig(6, 2))[0];
  assertEquals(await status(), 1);
  await net.server.command("link", { up: false });
  await frontEnd.configChange();
  assertEquals(await status(), 0);
  guest.fill(2);
  guest.send(frames(1)[0]);
  await guest.sent(1);
  assertEquals(await net.count("txLinkDown"), 1);
  await net.server.command("link", { up: true });
  await frontEnd.configChange();
  assertEquals(await status(), 1);
  const [sent, back] = frames(1);
  guest.send(sent);
  assertEquals(await guest.receive(1), back);
});

Deno.test("a driver that can is asked to announce itself", async () => {
  await using net = await ServedNet.start({ backend: "echo" });
  using guest = await NetGuest.run(net.socket);
  const { frontEnd } = guest.guest;
  const status = async () => (await frontEnd.getConfig(6, 2))[0];
  await guest.control(2, CtrlClass.RX, 0, [1]);
  await net.server.command("announce", {});
  await frontEnd.configChange();
  assertEquals(await status(), 3);
  assertEquals(await guest.control(2, CtrlClass.ANNOUNCE, 0, []), 0);
  await frontEnd.configChange();
  assertEquals(await status(), 1);
});

Deno.test("SEND_RARP and NET_SET_MTU are served", async () => {
  await using net = await ServedNet.start({ backend: "echo", mtu: 1500 });
  using guest = await NetGuest.run(net.socket);
  const { frontEnd } = guest.guest;
  const setMtu = (mtu: bigint) =>
    frontEnd.set(FrontEndMessage.NET_SET_MTU, encodeU64(mtu));
  await setMtu(9000n);
  const [low, high] = await frontEnd.getConfig(10, 2);
  assertEquals(low | high << 8, 9000);
  await assertRejects(() => setMtu(67n));
  await assertRejects(() => setMtu(2n ** 32n + 1500n));
  guest.fill(1);
  const payload = new Uint8Array([2, 0, 0, 0, 0, 9, 0, 0]);
  await frontEnd.set(FrontEndMessage.SEND_RARP, payload);
  const [rarp] = await guest.receive(1);
  assertEquals([rarp.length, rarp[12], rarp[13]], [60, 0x80, 0x35]);
});

Deno.test("a ring without buffers, and one without frames, cost nothing", async () => {
  await using net = await ServedNet.start({ backend: "echo" }, { poll: "off" });
  using guest = await NetGuest.run(net.socket);
  const [sent] = frames(40);
  guest.send(sent);
  await guest.sent(40);
  assertEquals(await net.count("rxNoBuffer"), 40);
  // Buffers without frames: the ring is parked.
  guest.fill(100);
  const { rings } = await net.server.status() as { rings: { kicks: number }[] };
  const before = rings[0].kicks;
  const [again, back] = frames(40);
  guest.send(again);
  assertEquals(await guest.receive(40), back);
  guest.fill(40);
  const { rings: after } = await net.server.status() as {
    rings: { kicks: number }[];
  };
  assert(after[0].kicks - before <= 1, "buffers were notified of");
});

Deno.test("frames of all sizes, as fast as they come", async () => {
  await using net = await ServedNet.start({ backend: "echo" });
  using guest = await NetGuest.run(net.socket);
  let total = 0;
  guest.fill(128);
  for (let round = 0; round < 100; round++) {
    const [sent, back] = frames(64, (round * 37) % 1300);
    guest.send(sent);
    const received = await guest.receive(64);
    guest.fill(64);
    assertEquals(received, back);
    await guest.sent(64);
    total += 64;
  }
  assertEquals(await net.count("rxFrames"), total);
});

Deno.test("features that were turned off are not offered", async () => {
  await using net = await ServedNet.start({
    backend: "echo",
    mrgRxbuf: false,
    ctrlVq: false,
    csum: false,
    guestCsum: false,
  });
  using guest = await NetGuest.run(net.socket, { rings: 2 });
  assertEquals(guest.features & 0xff_ffffn, featureMask(NetFeature.STATUS));
});

Deno.test("nothing is left of a device that was served", async () => {
  await assertNoLeaks(async () => {
    await using net = await ServedNet.start({ backend: "switch" });
    using guest = await NetGuest.run(net.socket);
    guest.fill(4);
    guest.send(frames(4)[0]);
    await guest.sent(4);
  });
});
