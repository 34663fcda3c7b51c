import { assertEquals } from "@std/assert";
import { featureMask, VIRTIO_F_VERSION_1 } from "../../virtqueue/constants.ts";
import {
  CtrlClass,
  CtrlMac,
  CtrlRx,
  CtrlVlan,
  NetFeature,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "./protocol.ts";
import { EVERYTHING, NetBench } from "./testing/bench.ts";
import {
  ALICE,
  BOB,
  BROADCAST,
  packet,
  partialHeader,
} from "./testing/packets.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const OK = VIRTIO_NET_OK, ERR = VIRTIO_NET_ERR;
const GROUP = [0x33, 0x33, 0, 0, 0, 1];

/** Whether a frame with this source comes back from the echo: to that address. */
function passes(
  bench: NetBench,
  to: readonly number[],
  vlan?: number,
): boolean {
  bench.fill(1);
  bench.send(packet({ from: to, vlan }).bytes);
  return bench.received().length === 1;
}

/** A table of addresses. */
function table(...addresses: (readonly number[])[]): number[] {
  return [addresses.length, 0, 0, 0, ...addresses.flat()];
}

ringTest("modes and tables of addresses filter what is received", () => {
  using bench = new NetBench({ backend: "echo", mac: "02:00:00:00:00:0a" });
  assertEquals(passes(bench, BOB), true);
  assertEquals(bench.control(CtrlClass.RX, CtrlRx.PROMISC, [0]), OK);
  const all = () =>
    [ALICE, BOB, GROUP, BROADCAST].map((to) => passes(bench, to));
  assertEquals(all(), [true, false, false, true]);
  assertEquals(
    bench.control(CtrlClass.MAC, CtrlMac.TABLE_SET, [
      ...table(BOB),
      ...table(GROUP),
    ]),
    OK,
  );
  assertEquals(all(), [true, true, true, true]);
  assertEquals(
    bench.control(CtrlClass.MAC, CtrlMac.TABLE_SET, [...table(), ...table()]),
    OK,
  );
  assertEquals(bench.control(CtrlClass.RX, CtrlRx.NOBCAST, [1]), OK);
  assertEquals(bench.control(CtrlClass.RX, CtrlRx.ALLMULTI, [1]), OK);
  assertEquals(all(), [true, false, true, false]);
  assertEquals(bench.count("rxFiltered") > 0, true);
});

ringTest(
  "a table that is longer than ours lets everything of its kind pass",
  () => {
    using bench = new NetBench({ backend: "echo", mac: "02:00:00:00:00:0a" });
    bench.control(CtrlClass.RX, CtrlRx.PROMISC, [0]);
    const long = Array.from({ length: 70 }, (_, i) => [2, 0, 0, 0, 1, i]);
    const data = [...table(...long), ...table()];
    assertEquals(bench.control(CtrlClass.MAC, CtrlMac.TABLE_SET, data), OK);
    assertEquals([BOB, GROUP].map((to) => passes(bench, to)), [true, false]);
  },
);

ringTest("a driver sets its address", () => {
  using bench = new NetBench({ backend: "echo" });
  const mac = [2, 9, 8, 7, 6, 5];
  assertEquals(bench.control(CtrlClass.MAC, CtrlMac.ADDR_SET, mac), OK);
  assertEquals([...bench.device.config.subarray(0, 6)], mac);
  bench.control(CtrlClass.RX, CtrlRx.PROMISC, [0]);
  assertEquals([mac, ALICE].map((to) => passes(bench, to)), [true, false]);
});

ringTest("VLANs are filtered once the driver can say which it wants", () => {
  using bench = new NetBench({ backend: "echo" });
  assertEquals(bench.control(CtrlClass.VLAN, CtrlVlan.ADD, [7, 0]), OK);
  assertEquals([7, 8].map((id) => passes(bench, BOB, id)), [true, false]);
  assertEquals(bench.control(CtrlClass.VLAN, CtrlVlan.ADD, [8, 0]), OK);
  assertEquals(bench.control(CtrlClass.VLAN, CtrlVlan.DEL, [7, 0]), OK);
  assertEquals([7, 8].map((id) => passes(bench, BOB, id)), [false, true]);
});

ringTest(
  "where a front-end answers the control queue, VLANs are its affair",
  () => {
    using bench = new NetBench({ backend: "echo" });
    assertEquals(passes(bench, BOB, 99), true);
  },
);

ringTest("a driver turns offloads off and on", () => {
  using bench = new NetBench({ backend: "echo" });
  const made = packet({ payload: 3000 });
  const buffers = () => {
    bench.fill(6);
    bench.send(made.bytes, partialHeader(made, { gsoType: 1, gsoSize: 1000 }));
    return bench.received().map(({ buffers }) => buffers);
  };
  const set = (...features: number[]) => {
    const bits = Number(featureMask(...features));
    return bench.control(CtrlClass.GUEST_OFFLOADS, 0, [
      ...[bits & 255, bits >> 8, 0, 0],
      ...[0, 0, 0, 0],
    ]);
  };
  const { GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, CSUM } = NetFeature;
  assertEquals(buffers(), [3]);
  assertEquals(set(GUEST_CSUM, GUEST_TSO6), OK);
  assertEquals(buffers(), [1, 1, 1]);
  assertEquals(set(GUEST_CSUM, GUEST_TSO4, GUEST_TSO6), OK);
  assertEquals(buffers(), [3]);
  assertEquals(set(), OK);
  assertEquals(buffers(), [1, 1, 1]);
  // TSO without checksums; no receive offload; beyond 32 bits.
  assertEquals([set(GUEST_TSO4), set(CSUM)], [ERR, ERR]);
  assertEquals(
    bench.control(CtrlClass.GUEST_OFFLOADS, 0, [0, 0, 0, 0, 1, 0, 0, 0]),
    ERR,
  );
});

ringTest("a driver is asked to announce itself, and says when it did", () => {
  using bench = new NetBench({ backend: "echo" });
  const announces = () => bench.device.config[6] >> 1 & 1;
  // No command came yet: the control queue may be a front-end's.
  bench.device.command("announce", {});
  assertEquals(announces(), 0);
  bench.control(CtrlClass.RX, CtrlRx.PROMISC, [1]);
  const changes = bench.configChanges;
  bench.device.command("announce", {});
  assertEquals([announces(), bench.configChanges], [1, changes + 1]);
  assertEquals(bench.control(CtrlClass.ANNOUNCE, 0, []), OK);
  assertEquals(announces(), 0);
  bench.device.command("link", { up: false });
  assertEquals(announces(), 0);
  bench.device.command("link", { up: true });
  assertEquals(announces(), 1);
});

ringTest("an announcement for an address goes to the network", () => {
  using bench = new NetBench({ backend: "echo" });
  bench.fill(1);
  bench.run();
  bench.device.command("announce", { mac: "02:00:00:00:00:0a" });
  const [{ bytes }] = bench.received();
  assertEquals(bytes.length, 60);
  // The echo exchanged the addresses.
  assertEquals([...bytes.subarray(0, 14)], [
    ...ALICE,
    ...BROADCAST,
    0x80,
    0x35,
  ]);
  assertEquals([...bytes.subarray(14, 22)], [0, 1, 8, 0, 6, 4, 0, 3]);
  assertEquals([...bytes.subarray(22, 28)], ALICE);
  assertEquals([...bytes.subarray(32, 38)], ALICE);
});

ringTest("commands that cannot be are refused, and the queue goes on", () => {
  using bench = new NetBench({ backend: "echo" });
  const { RX, MAC, VLAN, ANNOUNCE, MQ } = CtrlClass;
  const refused: [number, number, number[]][] = [
    [RX, 6, [1]],
    [RX, 0, []],
    [RX, 0, [2]],
    [MAC, 2, [...ALICE]],
    [MAC, CtrlMac.ADDR_SET, [1, 2, 3]],
    [MAC, CtrlMac.TABLE_SET, [1, 0]],
    [MAC, CtrlMac.TABLE_SET, [1, 0, 0, 0, ...ALICE]],
    [MAC, CtrlMac.TABLE_SET, [255, 255, 255, 255, ...ALICE]],
    [VLAN, 0, [0, 16]],
    [VLAN, 2, [0, 0]],
    [VLAN, 0, [1]],
    [ANNOUNCE, 1, []],
    [MQ, 0, [1, 0]], // not negotiated
    [9, 0, [0]],
  ];
  for (const [kind, command, data] of refused) {
    assertEquals(bench.control(kind, command, data), ERR, `${kind} ${command}`);
  }
  assertEquals(bench.count("refusedCommands"), refused.length);
  assertEquals(bench.control(RX, CtrlRx.ALLMULTI, [1]), OK);
  // Without room for the answer, and without a command.
  const driver = bench.drivers.get(2)!;
  driver.submit([{ readable: new Uint8Array([RX, 0, 1]) }]);
  driver.submit([{ writable: 1 }]);
  bench.run();
  assertEquals(driver.reap().map(({ length, data }) => [length, ...data]), [
    [0],
    [1, ERR],
  ]);
});

ringTest("commands of features that were not negotiated are refused", () => {
  const { CTRL_RX_EXTRA, CTRL_RX, CTRL_VLAN, CTRL_MAC_ADDR } = NetFeature;
  const features = EVERYTHING &
    ~featureMask(CTRL_RX_EXTRA, CTRL_RX, CTRL_VLAN, CTRL_MAC_ADDR);
  using bench = new NetBench({ backend: "echo" }, { features });
  const { RX, MAC, VLAN } = CtrlClass;
  assertEquals(
    [
      bench.control(RX, CtrlRx.PROMISC, [1]),
      bench.control(RX, CtrlRx.ALLUNI, [1]),
      bench.control(MAC, CtrlMac.ADDR_SET, [...ALICE]),
      bench.control(MAC, CtrlMac.TABLE_SET, [...table(), ...table()]),
      bench.control(VLAN, CtrlVlan.ADD, [1, 0]),
    ],
    [ERR, ERR, ERR, ERR, ERR],
  );
  using legacy = new NetBench(
    { backend: "echo" },
    { features: EVERYTHING & ~featureMask(VIRTIO_F_VERSION_1) },
  );
  assertEquals(legacy.control(RX, CtrlRx.PROMISC, [0]), OK);
});
