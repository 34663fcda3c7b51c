/**
 * The TAP backend and a switch's uplink, against the kernel's own network.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { dupFd } from "../../sys/fd.ts";
import { Tap } from "../../sys/tap.ts";
import { replaceFd } from "../../sys/testing/replace_fd.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { inNamespace, ip } from "../../tests/support/namespace.ts";
import { featureMask } from "../../virtqueue/constants.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";
import { fillIpv4Checksum, onesSum, pseudoSum } from "./checksum.ts";
import { NetBackendError } from "./error.ts";
import { CtrlClass, NetFeature } from "./protocol.ts";
import { EVERYTHING, NetBench } from "./testing/bench.ts";
import {
  ALICE,
  BROADCAST,
  type Packet,
  packet,
  partialHeader,
  sumsHold,
  virtioHeader,
} from "./testing/packets.ts";

const HOST = [10, 9, 0, 1], GUEST = [10, 9, 0, 2];

/** Brings an interface up, with an address, and makes the guest known to it. */
function configure(name: string): number[] {
  ip("link", "set", name, "mtu", "9000", "up");
  ip("addr", "add", `${HOST.join(".")}/24`, "dev", name);
  const station = ["lladdr", "02:00:00:00:00:0a", "dev", name];
  ip("neigh", "replace", GUEST.join("."), ...station);
  const shown = /link\/ether ([0-9a-f:]+)/.exec(ip("link", "show", name))!;
  return shown[1].split(":").map((pair) => parseInt(pair, 16));
}

/** A question who has the host's address. */
function arpRequest(): Uint8Array<ArrayBuffer> {
  return new Uint8Array([
    ...[...BROADCAST, ...ALICE, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ...[...ALICE, ...GUEST, 0, 0, 0, 0, 0, 0, ...HOST],
  ]);
}

/** Asks, and waits for the host's answer. */
async function asksAndHears(bench: NetBench, mac: number[]): Promise<void> {
  bench.fill(16);
  bench.run();
  bench.send(arpRequest());
  const replies: Uint8Array[] = [];
  await bench.until(() => {
    for (const { bytes } of bench.received()) {
      if (bytes[12] === 8 && bytes[13] === 6 && bytes[21] === 2) {
        replies.push(bytes);
      }
    }
    return replies.length > 0;
  });
  assertEquals([...replies[0].subarray(0, 12)], [...ALICE, ...mac]);
  assertEquals([...replies[0].subarray(28, 32)], HOST);
}

/** Makes a packet of the guest for the host. */
function toHost(made: Packet, mac: number[], port: number): Packet {
  const { bytes, network, transport, csumOffset } = made;
  const view = new DataView(bytes.buffer);
  bytes.set(mac);
  bytes.set([...GUEST, ...HOST], network + 12);
  fillIpv4Checksum(view, network, transport - network);
  view.setUint16(transport + 2, port);
  const length = bytes.length - transport;
  view.setUint16(
    transport + csumOffset,
    pseudoSum(view, network + 12, 8, 17, length),
  );
  return made;
}

async function udpSocket(): Promise<{ socket: Socket; port: number }> {
  const socket = createSocket("udp4");
  socket.bind(0, HOST.join("."));
  await once(socket, "listening");
  return { socket, port: socket.address().port };
}

function tapOf(bench: NetBench): Record<string, unknown> {
  return bench.device.status().tap as Record<string, unknown>;
}

if (inNamespace("TAPs in a namespace", import.meta.url)) {
  ringTest("host and guest reach each other over a TAP", async () => {
    using bench = new NetBench({ backend: "tap", ifname: "net%d" });
    const name = String(tapOf(bench).interface);
    assertEquals(name, "net0");
    await asksAndHears(bench, configure(name));
  });

  for (const udpSize of [1000, 8000, 20_000]) {
    ringTest(
      `a datagram of ${udpSize} bytes without checksum arrives`,
      async () => {
        using bench = new NetBench({ backend: "tap", ifname: "net0" });
        const mac = configure("net0");
        await asksAndHears(bench, mac);
        const { socket, port } = await udpSocket();
        const arrived = once(socket, "message");
        const made = toHost(packet({ udp: true, payload: udpSize }), mac, port);
        const large = udpSize > 8972;
        bench.send(
          made.bytes,
          partialHeader(made, large ? { gsoType: 3, gsoSize: 8000 } : {}),
        );
        const [message] = await arrived as [Uint8Array];
        assertEquals(
          new Uint8Array(message),
          made.bytes.slice(made.payload),
        );
        socket.close();
        assertEquals(tapOf(bench).refused, 0);
      },
    );
  }

  ringTest(
    "the kernel leaves checksums to guests that agreed to it",
    async () => {
      const { GUEST_CSUM } = NetFeature;
      for (const agreed of [true, false]) {
        const features = agreed
          ? EVERYTHING
          : EVERYTHING & ~featureMask(GUEST_CSUM);
        using bench = new NetBench({ backend: "tap", ifname: "net0" }, {
          features,
        });
        configure("net0");
        bench.fill(32);
        bench.run();
        const { socket } = await udpSocket();
        socket.send(new Uint8Array(500), 7, GUEST.join("."));
        let header: Uint8Array | null = null, bytes = new Uint8Array(0);
        await bench.until(() => {
          for (const got of bench.received()) {
            if (got.bytes.length !== 542) continue;
            ({ header, bytes } = got);
          }
          return header !== null;
        });
        socket.close();
        const like = packet({ udp: true });
        assertEquals(header![0] & 1, agreed ? 1 : 0);
        assertEquals(sumsHold(bytes, like), !agreed);
      }
    },
  );

  ringTest(
    "large frames of the kernel arrive whole, or in segments",
    async () => {
      using bench = new NetBench({ backend: "tap", ifname: "net0" });
      configure("net0");
      const { socket } = await udpSocket();
      // A datagram of the size of the MTU: more buffers than one.
      bench.fill(60, 512);
      bench.run();
      const payload = crypto.getRandomValues(new Uint8Array(8972));
      socket.send(payload, 7, GUEST.join("."));
      let found: { bytes: Uint8Array; buffers: number } | null = null;
      await bench.until(() => {
        found ??= bench.received().find(({ bytes }) => bytes.length > 9000) ??
          null;
        return found !== null;
      });
      socket.close();
      const { bytes, buffers } = found!;
      assertEquals(buffers, Math.ceil((9014 + 12) / 512));
      assertEquals(bytes.slice(42), payload);
    },
  );

  ringTest("frames wait in the kernel until there are buffers", async () => {
    using bench = new NetBench({ backend: "tap", ifname: "net0" });
    configure("net0");
    const { socket } = await udpSocket();
    for (let i = 0; i < 8; i++) {
      const sent = Promise.withResolvers<unknown>();
      const done = () => sent.resolve(null);
      socket.send(new Uint8Array(2000 + i), 7, GUEST.join("."), done);
      await sent.promise;
    }
    const sizes: number[] = [];
    // A frame takes two of these; they come one by one.
    await bench.until(() => {
      bench.fill(1, 1200);
      for (const { bytes } of bench.received()) {
        if (bytes.length > 2000) sizes.push(bytes.length);
      }
      return sizes.length === 8;
    });
    socket.close();
    assertEquals(sizes, [0, 1, 2, 3, 4, 5, 6, 7].map((i) => 2042 + i));
    assertEquals(bench.count("rxNoBuffer"), 0);
  });

  ringTest("queues are attached as the guest uses them", async () => {
    using bench = new NetBench(
      { backend: "tap", ifname: "many", queues: 3 },
      { features: ~0n, pairs: 3 },
    );
    const attached = () => tapOf(bench).attached;
    assertEquals([tapOf(bench).queues, attached()], [3, 1]);
    const mac = configure("many");
    await asksAndHears(bench, mac);
    // More than one, when the driver says so.
    assertEquals(bench.control(CtrlClass.MQ, 0, [3, 0]), 0);
    assertEquals(attached(), 3);
    assertEquals(bench.control(CtrlClass.MQ, 0, [2, 0]), 0);
    assertEquals(attached(), 2);
    // A pair that is not used any more still sends.
    bench.send(arpRequest(), virtioHeader(), 2);
    assertEquals(tapOf(bench).refused, 0);
    bench.stop(2);
    bench.stop(4);
    assertEquals(attached(), 1);
    await asksAndHears(bench, mac);
  });

  ringTest("what the interface does not take is counted", () => {
    using bench = new NetBench({ backend: "tap", ifname: "down0" });
    bench.send(arpRequest());
    assertEquals(bench.count("txFrames"), 1);
    assertEquals(tapOf(bench).down, 1);
  });

  ringTest(
    "frames for which there is no room are lost and counted",
    async () => {
      using tap = Tap.open("full0");
      const tapfd = dupFd(tap.fd);
      using bench = new NetBench({ backend: "tap", tapfd });
      const mac = configure("full0");
      // The kernel always has room in a TAP; a socket that nobody reads has not.
      const [ours, theirs] = UnixSocket.pair();
      using _ours = ours, _theirs = theirs;
      replaceFd(tapfd, ours.fd);
      const frame = packet({ payload: 1400 }).bytes;
      for (let sent = 1; tapOf(bench).full === 0; sent++) {
        assertEquals(bench.send(frame).length, 1);
        assert(sent < 10_000, "the socket takes all");
      }
      assertEquals(bench.send(frame).length, 1);
      assertEquals([tapOf(bench).full, tapOf(bench).refused], [2, 0]);
      replaceFd(tapfd, tap.fd);
      await asksAndHears(bench, mac);
    },
  );

  ringTest("an open descriptor is taken over", async () => {
    using tap = Tap.open("given0");
    using bench = new NetBench({ backend: "tap", tapfd: dupFd(tap.fd) });
    await asksAndHears(bench, configure("given0"));
    const error = assertThrows(
      () => new NetBench({ backend: "tap", tapfd: 0 }),
      NetBackendError,
      "Cannot use fd 0: it is no queue of a TAP",
    );
    assertEquals(error.kind, "tap");
    assert(!error.message.includes("flags"));
  });

  ringTest("a TAP without virtio headers gets finished frames", async () => {
    ip("tuntap", "add", "plain0", "mode", "tap");
    const error = assertThrows(
      () => new NetBench({ backend: "tap", ifname: "plain0", queues: 2 }),
      NetBackendError,
      'Cannot use TAP "plain0": ',
    );
    assertEquals(error.kind, "tap");
    assert(error.message.includes("it exists with other flags"));
    using bench = new NetBench({ backend: "tap", ifname: "plain0" });
    await asksAndHears(bench, configure("plain0"));
    ip("link", "delete", "plain0");
  });

  ringTest("guests of a switch reach the host over its uplink", async () => {
    using bench = new NetBench({ backend: "switch", uplink: "tap:up0" });
    using other = new NetBench({ backend: "switch" }, {
      features: EVERYTHING & ~featureMask(NetFeature.GUEST_CSUM),
    });
    const mac = configure("up0");
    other.fill(32);
    other.run();
    await asksAndHears(bench, mac);
    other.run();
    const seen = other.received().map(({ bytes }) => [...bytes.subarray(0, 6)]);
    // The question went to all, the answer did not.
    assert(seen.some((to) => to.every((byte) => byte === 255)));
    assert(!seen.some((to) => to.join() === ALICE.join()));
    const { socket } = await udpSocket();
    socket.setBroadcast(true);
    socket.send(new Uint8Array(300), 7, "10.9.0.255");
    let got: Uint8Array | null = null;
    await bench.until(() => {
      other.run();
      for (const { bytes } of other.received()) {
        if (bytes.length === 342) got = bytes;
      }
      return got !== null;
    });
    socket.close();
    const view = new DataView(got!.buffer);
    const pseudo = pseudoSum(view, 26, 8, 17, 308);
    assertEquals(onesSum(view, 34, 342, pseudo), 0xffff);
  });

  Deno.test("an uplink that cannot be had leaves nothing behind", () => {
    using _tap = Tap.open("busy0");
    assertThrows(
      () => new NetBench({ backend: "switch", uplink: "tap:busy0" }),
      NetBackendError,
      "another process has it",
    );
  });
}
