/**
 * The virtio network device, as the command knows it.
 *
 * @module
 */

import { NET_OPTIONS, resolveNetOptions } from "../../backends/net/options.ts";
import {
  type DeviceOptions,
  type DeviceType,
  featureMap,
  type QemuOption,
  queueHint,
} from "./device_type.ts";

/** The virtio network device. Feature bits: virtio 1.4, section 5.1.3. */
export const NET: DeviceType = {
  name: "net",
  title: "virtio network device",
  module: new URL("../../backends/net/mod.ts", import.meta.url).href,
  options: NET_OPTIONS,
  descriptors: ["tapfd"],
  check: (options) => void resolveNetOptions(options),
  features: featureMap({
    0: "CSUM",
    1: "GUEST_CSUM",
    2: "CTRL_GUEST_OFFLOADS",
    3: "MTU",
    5: "MAC",
    6: "GSO",
    7: "GUEST_TSO4",
    8: "GUEST_TSO6",
    9: "GUEST_ECN",
    10: "GUEST_UFO",
    11: "HOST_TSO4",
    12: "HOST_TSO6",
    13: "HOST_ECN",
    14: "HOST_UFO",
    15: "MRG_RXBUF",
    16: "STATUS",
    17: "CTRL_VQ",
    18: "CTRL_RX",
    19: "CTRL_VLAN",
    20: "CTRL_RX_EXTRA",
    21: "GUEST_ANNOUNCE",
    22: "MQ",
    23: "CTRL_MAC_ADDR",
    41: "GUEST_RSC4",
    42: "GUEST_RSC6",
    50: "DEVICE_STATS",
    51: "HASH_TUNNEL",
    52: "VQ_NOTF_COAL",
    53: "NOTF_COAL",
    54: "GUEST_USO4",
    55: "GUEST_USO6",
    56: "HOST_USO",
    57: "HASH_REPORT",
    59: "GUEST_HDRLEN",
    60: "RSS",
    61: "RSC_EXT",
    62: "STANDBY",
    63: "SPEED_DUPLEX",
  }),
  commands: ["link", "announce", "mtu"],
  qemu: (id, { queues, mac, mtu }) => {
    const several = Number(queues) > 1;
    const netdev: QemuOption[] = [
      ["vhost-user", null],
      ["id", `${id}-net`],
      ["chardev", id],
    ];
    const device: QemuOption[] = [
      ["virtio-net-pci", null],
      ["netdev", `${id}-net`],
    ];
    if (several) {
      netdev.push(["queues", String(queues)]);
      device.push(["mq", "on"]);
    }
    if (mac !== undefined) device.push(["mac", String(mac)]);
    if (mtu !== undefined) device.push(["host_mtu", String(mtu)]);
    return [["-netdev", netdev], ["-device", device]];
  },
  ringHint: ({ queues, ctrlVq }) =>
    queueHint(queues, "queue pair", "queues") +
    (ctrlVq === false ? "; it has no control queue: ctrl_vq=off in QEMU" : ""),
  describe: ({ backend, ifname, tapfd, name }, { tap }) => {
    // `vhostd%d` has become a number.
    const made = (tap as { interface?: string } | undefined)?.interface;
    const to: Record<string, string> = {
      tap: tapfd === undefined
        ? `the TAP "${made ?? ifname}"`
        : `the TAP of descriptor ${tapfd}`,
      passt: "passt",
      switch: `the switch "${name}"`,
      echo: "an echo",
    };
    return `a network port of ${to[String(backend)]}`;
  },
  images: () => [],
  process: switchOf,
  meeting: ({ backend, name }) =>
    backend === "switch" ? `the switch "${name}"` : null,
  workerGroup: switchOf,
  program: {
    type: "net",
    options: [
      {
        name: "backend",
        type: "choice",
        choices: ["tap", "passt", "switch", "echo"],
        default: "passt",
        help: "what frames go to",
      },
      {
        name: "ifname",
        type: "string",
        maximumLength: 15,
        help: "tap: the interface, made if there is none",
      },
      { name: "mac", type: "string", help: "MAC address" },
    ],
    pairs: ({ backend = "passt", ifname, mac }) => [
      ["backend", String(backend)],
      ...(ifname === undefined
        ? []
        : [["ifname", String(ifname)] as [string, string]]),
      ...(mac === undefined ? [] : [["mac", String(mac)] as [string, string]]),
    ],
  },
};

/** The ports of a switch live together. */
function switchOf({ backend, name }: DeviceOptions): string | null {
  return backend === "switch" ? `switch-${name}` : null;
}
