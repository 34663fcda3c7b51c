/**
 * Linux's virtio_net over TAPs, in a namespace with interfaces of its own.
 */

import { assert, assertEquals } from "@std/assert";
import { ServedNet } from "../protocol/net.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  bulk,
  Datagrams,
  DHCP,
  genericNet,
  Sink,
  Source,
  vhostUserNet,
} from "./network.ts";
import { runLinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { startDhcpServer } from "./rig/network.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const HOST = "10.9.0.1", GUEST = "10.9.0.2";
/** What a DHCP server gives. */
const LEASE = "10.9.0.50";
/** Nobody's address, a group that nobody joined, and one that all are in. */
const STRANGER = "10.9.0.77", GROUP = "239.9.9.9", ALL_HOSTS = "224.0.0.1";
const SIZE = 16 << 20;

// Before the namespace, which reaches no mirror.
const reason = await prepareOrReason();

/** Brings an interface of the host up. */
function configure(name: string, mtu = 1500): void {
  ip("link", "set", name, "mtu", String(mtu), "up");
  ip("addr", "add", `${HOST}/24`, "dev", name);
}

/** A script's part that gives eth0 its address. */
const ADDRESS = `
  ip link set eth0 up
  ip addr add ${GUEST}/24 dev eth0
`;

/** Features of the device, as the guest's driver has them. */
const FEATURES = "say FEATURES $(cat /sys/bus/virtio/devices/virtio0/features)";

/** How frames are handed over, with what it takes. */
const MATRIX = [
  {
    name: "modern, everything",
    options: {},
    devices: (socket: string) => vhostUserNet(socket),
    on: [0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 15, 32],
    off: [],
  },
  {
    name: "legacy, unmerged",
    options: { mrgRxbuf: false },
    devices: (socket: string) =>
      vhostUserNet(socket, {
        properties: ",disable-modern=on,disable-legacy=off",
      }),
    on: [0, 1, 7, 11],
    off: [15, 32],
  },
  {
    name: "segments whole to the guest, none from it",
    options: { tso: false, ufo: false },
    devices: (socket: string) => vhostUserNet(socket),
    on: [0, 1, 7, 8],
    off: [11, 12, 13, 14],
  },
  {
    name: "segments whole from the guest, none to it",
    options: { guestTso: false, guestUfo: false },
    devices: (socket: string) => vhostUserNet(socket),
    on: [0, 1, 11, 12],
    off: [7, 8, 9, 10],
  },
  {
    name: "nothing is left undone",
    options: { csum: false, guestCsum: false, mrgRxbuf: false },
    devices: (socket: string) => vhostUserNet(socket),
    on: [32],
    off: [0, 1, 7, 8, 11, 12, 15],
  },
];

if (inNamespace("Linux guests on TAPs", import.meta.url)) {
  const guests = skipUnless(reason === null, reason ?? "");

  for (const { name, options, devices, on, off } of MATRIX) {
    guests.test(`ping, TCP both ways: ${name}`, async () => {
      await using net = await ServedNet.start({
        backend: "tap",
        ifname: "guest0",
        ...options,
      });
      configure("guest0");
      await using sink = new Sink(HOST);
      await using source = new Source(HOST, SIZE);
      const { values, checks } = await runLinuxGuest({
        devices: devices(net.socket),
        timeout: 90_000,
        script: `
          ${ADDRESS}
          ${FEATURES}
          check ping ping -c 3 -W 5 ${HOST}
          check large ping -c 1 -W 5 -s 20000 ${HOST}
          ${bulk(HOST, sink.port, source.port)}
        `,
      });
      assertEquals(checks, ["ping", "large", "send"]);
      assertEquals(sink.digests, [values.SENT.split(" ")[0]]);
      assertEquals(values.RECEIVED.split(" ")[0], source.digest);
      const bits = values.FEATURES;
      assertEquals(on.filter((bit) => bits[bit] === "0"), []);
      assertEquals(off.filter((bit) => bits[bit] === "1"), []);
      const { frames, tap } = await net.device() as {
        frames: Record<string, unknown>;
        tap: Record<string, number>;
      };
      assertEquals([tap.refused, tap.full], [0, 0]);
      assertEquals(frames.badHeaders, {});
      // Whole segments are many times an Ethernet frame.
      const average = Number(frames.txBytes) / Number(frames.txFrames);
      if (on.includes(11)) assert(average > 1514, `${average} bytes a frame`);
      else assert(average <= 1514, `${average} bytes a frame`);
    });
  }

  guests.test("an address by DHCP, then ping and TCP both ways with it", async () => {
    using directory = TemporaryDirectory.make("dhcp");
    await using net = await ServedNet.start({
      backend: "tap",
      ifname: "lease0",
    });
    configure("lease0");
    await using server = await startDhcpServer(directory, {
      interface: "lease0",
      router: HOST,
      address: LEASE,
    });
    await using sink = new Sink(HOST);
    await using source = new Source(HOST, SIZE);
    const { values, checks } = await runLinuxGuest({
      devices: vhostUserNet(net.socket),
      timeout: 90_000,
      script: `
        ${DHCP}
        say LEASE $(cat /address)
        say ROUTER $(cat /router)
        check ping ping -c 3 -W 5 $(cat /router)
        ${bulk("$(cat /router)", sink.port, source.port)}
      `,
    });
    assertEquals(checks, ["dhcp", "ping", "send"]);
    assertEquals([values.LEASE, values.ROUTER], [LEASE, HOST]);
    await server.expect(new RegExp(`sending ACK to ${LEASE}`));
    assertEquals(sink.peers, [LEASE]);
    assertEquals(sink.digests, [values.SENT.split(" ")[0]]);
    assertEquals(values.RECEIVED.split(" ")[0], source.digest);
  });

  guests.test("a control queue of ours, two Workers: pairs, MTU 9000, filters, link", async () => {
    await using net = await ServedNet.start({
      backend: "tap",
      ifname: "multi0",
      queues: 2,
      mac: "52:54:00:00:00:07",
      mtu: 9000,
      speed: 25_000,
    }, { workers: 2 });
    configure("multi0", 9000);
    await using sink = new Sink(HOST);
    await using guest = await startLinuxGuest({
      smp: 2,
      devices: genericNet(net.socket, 2),
    });
    const read = (name: string) =>
      guest.check(`cat /sys/class/net/eth0/${name}`);
    await guest.check("ip link set eth0 up");
    await guest.check(`ip addr add ${GUEST}/24 dev eth0`);
    assertEquals(await read("address"), "52:54:00:00:00:07");
    assertEquals(await read("mtu"), "9000");
    assertEquals(await read("speed"), "25000");
    assertEquals(await read("duplex"), "full");
    assertEquals(
      await guest.check("ls /sys/class/net/eth0/queues | wc -l"),
      "4",
    );
    await guest.check(`ping -c 2 -W 5 -s 8900 ${HOST}`);
    // A thread for each pair, and commands reach both.
    const workers = async () =>
      (await net.device()).workers as {
        queuePairs: number;
        filter: Record<string, unknown>;
      }[];
    const pairs = async () =>
      (await workers()).map(({ queuePairs }) => queuePairs);
    assertEquals(await pairs(), [1, 1]);
    // The number of pairs, and what it takes unfinished, while it runs.
    await guest.check("ethtool -L eth0 combined 1");
    assertEquals(await pairs(), [1, 0]);
    await guest.check(`ping -c 2 -W 5 ${HOST}`);
    await guest.check("ethtool -L eth0 combined 2");
    assertEquals(await pairs(), [1, 1]);
    const takes = async () =>
      (await net.device()).receiveOffloads as readonly string[];
    const all = await takes();
    assert(all.includes("tso4"), `${all}`);
    await guest.check("ethtool -K eth0 rx-gro-hw off");
    assertEquals(await takes(), ["csum"]);
    await guest.check("ethtool -K eth0 rx-gro-hw on");
    assertEquals(await takes(), all);
    // Frames for the guest that it did not ask for are kept away.
    await using host = await Datagrams.bind(HOST);
    ip("route", "add", "224.0.0.0/4", "dev", "multi0");
    ip(
      ...["neigh", "replace", STRANGER, "lladdr", "02:00:00:00:00:77"],
      ...["dev", "multi0"],
    );
    const filtered = async () =>
      (await net.device() as { workers: { frames: { rxFiltered: number } }[] })
        .workers.reduce((sum, { frames }) => sum + frames.rxFiltered, 0);
    const heard = async () =>
      Number(
        await guest.check("cat /sys/class/net/eth0/statistics/rx_packets"),
      );
    /** Sends until the guest, or the filter, has seen all of it. */
    const goesTo = async (address: string, count: () => Promise<number>) => {
      const before = await count();
      for (let i = 0; i < 5; i++) await host.send(address);
      await waitUntil(async () => await count() >= before + 5, {
        what: `five datagrams for ${address}`,
      });
    };
    const filter = async () => {
      const [one, other] = await workers();
      assertEquals(one.filter, other.filter);
      return one.filter;
    };
    assertEquals((await filter()).promisc, false);
    await goesTo(STRANGER, filtered);
    await goesTo(GROUP, filtered);
    await goesTo(ALL_HOSTS, heard);
    await guest.check("ip link set eth0 promisc on");
    assertEquals((await filter()).promisc, true);
    await goesTo(STRANGER, heard);
    await goesTo(GROUP, heard);
    await guest.check("ifconfig eth0 -promisc allmulti");
    await goesTo(STRANGER, filtered);
    await goesTo(GROUP, heard);
    const { promisc, allmulti, vlans } = await filter();
    assertEquals([promisc, allmulti, vlans], [false, true, true]);
    await guest.check("ifconfig eth0 -allmulti");
    assert(Number((await filter()).multicast) > 0, "no group is known");
    await guest.check("ip link set eth0 address 52:54:00:00:00:08");
    assertEquals((await net.device()).mac, "52:54:00:00:00:08");
    await guest.check(`ping -c 2 -W 5 ${HOST}`);

    await net.server.command("link", { up: false });
    await waitUntil(async () => await read("carrier") === "0", {
      what: "the guest to see the link down",
    });
    const commands = async () => {
      const { frames } = await net.device() as {
        frames: Record<string, number>;
      };
      assertEquals(frames.refusedCommands, 0);
      return frames.commands;
    };
    const before = await commands();
    await net.server.command("link", { up: true });
    await waitUntil(async () => await read("carrier") === "1", {
      what: "the guest to see the link up",
    });
    // Asked to announce itself, it did, and said so.
    await waitUntil(async () => await commands() === before + 1, {
      what: "the announcement",
    });
    await guest.check(`ping -c 2 -W 5 ${HOST}`);

    await guest.check(
      "dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null",
    );
    await guest.check(
      `nc ${HOST} ${sink.port} < /tmp/data & nc ${HOST} ${sink.port} < /tmp/data; wait`,
      60_000,
    );
    const [sum] = (await guest.check("sha256sum < /tmp/data")).split(" ");
    assertEquals(sink.digests, [sum, sum]);
    assertEquals(await guest.powerOff(), 0);
  });

  guests.test("two pairs and two processors, QEMU answers the control queue", async () => {
    await using net = await ServedNet.start({
      backend: "tap",
      ifname: "pairs0",
      queues: 2,
    });
    configure("pairs0");
    await using sink = new Sink(HOST);
    const { values, checks } = await runLinuxGuest({
      smp: 2,
      devices: vhostUserNet(net.socket, { queues: 2 }),
      timeout: 90_000,
      script: `
        ${ADDRESS}
        ${FEATURES}
        say QUEUES $(ls /sys/class/net/eth0/queues | wc -l)
        check ping ping -c 3 -W 5 ${HOST}
        dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
        say SENT $(sha256sum < /tmp/data)
        for i in 1 2 3 4; do nc ${HOST} ${sink.port} < /tmp/data & done
        check all wait
        say INTERRUPTS $(grep -c 'virtio.*-input' /proc/interrupts)
      `,
    });
    assertEquals(checks, ["ping", "all"]);
    assertEquals(values.FEATURES[22], "1");
    assertEquals([values.QUEUES, values.INTERRUPTS], ["4", "2"]);
    const [sum] = values.SENT.split(" ");
    assertEquals(sink.digests, [sum, sum, sum, sum]);
  });

  guests.test("traffic goes on when the back-end is started again", async () => {
    ip("tuntap", "add", "stays0", "mode", "tap", "vnet_hdr");
    configure("stays0");
    const options = { backend: "tap", ifname: "stays0" };
    using directory = TemporaryDirectory.make("restart");
    const socket = directory.file("net.sock");
    let net = await ServedNet.start(options, { socket });
    try {
      await using sink = new Sink(HOST);
      await using guest = await startLinuxGuest({
        devices: vhostUserNet(socket, { reconnect: 100 }),
      });
      await guest.check("ip link set eth0 up");
      await guest.check(`ip addr add ${GUEST}/24 dev eth0`);
      await guest.check(
        "dd if=/dev/urandom of=/tmp/data bs=1M count=48 2>/dev/null",
      );
      const [sum] = (await guest.check("sha256sum < /tmp/data")).split(" ");
      await guest.check(
        `(nc ${HOST} ${sink.port} < /tmp/data; touch /tmp/finished) & true`,
      );
      for (const share of [1, 2]) {
        await waitUntil(() => sink.bytes > share * (12 << 20), {
          what: "traffic",
          timeout: 30_000,
        });
        await net.server.stop();
        net = await ServedNet.start(options, { socket });
      }
      await waitUntil(() => sink.digests.length === 1, {
        what: "the end of the traffic",
        timeout: 60_000,
      });
      assertEquals(sink.digests, [sum]);
      await guest.check(`ping -c 2 -W 5 ${HOST}`);
      // The link of QEMU's device is QEMU's: rings stop with it and go on, and
      // nothing is reset.
      const { qmp } = guest.qemu;
      for (const up of [false, true]) {
        await qmp.execute("set_link", { name: "n0", up });
        await waitUntil(
          async () =>
            await guest.check("cat /sys/class/net/eth0/carrier") ===
              (up ? "1" : "0"),
          { what: `the link to be ${up ? "up" : "down"}` },
        );
        const { rings } = await net.server.status() as { rings: unknown[] };
        assertEquals(rings.length, up ? 2 : 0);
      }
      await guest.check(`ping -c 2 -W 5 ${HOST}`);
      assertEquals(await guest.powerOff(), 0);
    } finally {
      await net[Symbol.asyncDispose]();
      ip("link", "delete", "stays0");
    }
  });

  guests.test("a guest on a switch, and the host at its uplink", async () => {
    await using net = await ServedNet.start({
      backend: "switch",
      uplink: "tap:up0",
    });
    configure("up0");
    await using sink = new Sink(HOST);
    await using source = new Source(HOST, SIZE);
    const { values, checks } = await runLinuxGuest({
      devices: vhostUserNet(net.socket),
      timeout: 90_000,
      script: `
        ${ADDRESS}
        check ping ping -c 3 -W 5 ${HOST}
        ${bulk(HOST, sink.port, source.port)}
      `,
    });
    assertEquals(checks, ["ping", "send"]);
    assertEquals(sink.digests, [values.SENT.split(" ")[0]]);
    assertEquals(values.RECEIVED.split(" ")[0], source.digest);
    const { switch: lan } = await net.device() as {
      switch: { ports: unknown[]; addresses: { mac: string }[] };
    };
    assertEquals(lan.ports.length, 2);
    assert(lan.addresses.some(({ mac }) => mac === "52:54:00:12:34:56"));
  });
}
