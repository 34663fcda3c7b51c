import { assertEquals, assertThrows } from "@std/assert";
import { OptionError } from "../option_reader.ts";
import {
  formatMac,
  NET_OPTIONS,
  parseMac,
  resolveNetOptions,
} from "./options.ts";

Deno.test("defaults", () => {
  const { mac, passtArgs, ...rest } = resolveNetOptions({ backend: "tap" });
  assertEquals([mac, passtArgs], [null, []]);
  assertEquals(rest, {
    backend: "tap",
    ifname: "vhostd%d",
    tapfd: -1,
    passt: "passt",
    passtSocket: "",
    name: "lan0",
    uplink: "",
    pcap: "",
    pcapSize: 64 * 2 ** 20,
    queues: 1,
    workers: 1,
    mtu: 0,
    speed: 0,
    link: true,
    csum: true,
    tso: true,
    ufo: true,
    guestCsum: true,
    guestTso: true,
    guestUfo: true,
    mrgRxbuf: true,
    ctrlVq: true,
    announce: true,
  });
});

Deno.test("values are taken over", () => {
  const options = resolveNetOptions({
    backend: "switch",
    name: "dmz",
    uplink: "tap:tap7",
    mac: "52:54:00:AB:cd:ef",
    link: "down",
  });
  assertEquals([options.name, options.uplink, options.link], [
    "dmz",
    "tap7",
    false,
  ]);
  assertEquals(formatMac(options.mac!), "52:54:00:ab:cd:ef");
  const passt = { backend: "passt", passtArgs: "-t 22  --mtu 1500" };
  assertEquals(resolveNetOptions(passt).passtArgs, [
    ...["-t", "22", "--mtu", "1500"],
  ]);
});

Deno.test("what a parser fills in is no contradiction", () => {
  const filled = Object.fromEntries(
    NET_OPTIONS.filter((spec) => spec.default !== undefined).map((spec) => [
      spec.name.replaceAll(/-(.)/g, (_, letter) => letter.toUpperCase()),
      spec.default,
    ]),
  );
  for (const backend of ["tap", "passt", "switch", "echo"]) {
    assertEquals(resolveNetOptions({ ...filled, backend }).backend, backend);
  }
});

Deno.test("what cannot be is refused, with what would be right", () => {
  const refused: [Record<string, unknown>, string][] = [
    [{}, '"backend" is missing: add backend=tap|passt|switch|echo'],
    [{ backend: "slirp" }, "Cannot use backend=slirp: it is one of tap, "],
    [
      { backend: "tap", name: "x" },
      "Cannot use name=x: it is for backend=switch",
    ],
    [{ backend: "echo", ifname: "tap0" }, "it is for backend=tap"],
    [{ backend: "switch", uplink: "eth0" }, "uplink=eth0: it is tap:IFNAME"],
    [{ backend: "echo", queues: 128 }, "it is an integer from 1 to 127"],
    [{ backend: "echo", queues: 1.5 }, "Cannot use queues=1.5"],
    [
      { backend: "echo", queues: 2, ctrlVq: false },
      "several pairs need ctrl-vq=on",
    ],
    [{ backend: "passt", queues: 2 }, "passt has one queue pair"],
    [{ backend: "tap", tapfd: 5, queues: 2 }, "a descriptor is one queue pair"],
    [{ backend: "switch", queues: 2, workers: 2 }, "backend=switch has one"],
    [
      { backend: "tap", ifname: "tap0", queues: 2, workers: 3 },
      "there are 2 pairs to share (queues=)",
    ],
    [
      { backend: "tap", ifname: "tap0", workers: 2 },
      "there is 1 pair to share (queues=)",
    ],
    [
      { backend: "tap", queues: 2, workers: 2 },
      "all of them need the name of the TAP (ifname=)",
    ],
    [
      { backend: "tap", ifname: "tap0", pcap: "x", queues: 2, workers: 2 },
      "a capture (pcap=) has one",
    ],
    [{ backend: "echo", mtu: 67 }, "it is an integer from 68 to 65535"],
    [
      { backend: "echo", csum: "maybe" },
      "Cannot use csum=maybe: it is on or off",
    ],
    [{ backend: "echo", link: "sideways" }, "it is one of up, down"],
    [{ backend: "echo", pcap: 5 }, "Cannot use pcap=5"],
    [
      { backend: "passt", passtSocket: "/s", passtArgs: "-t 1" },
      "the one on passt-socket runs",
    ],
    [{ backend: "tap", ifname: "a-name-that-is-too-long" }, "at most 15"],
    [{ backend: "echo", passtsocket: "s" }, 'did you mean "passtSocket"?'],
  ];
  for (const [options, message] of refused) {
    const error = assertThrows(
      () => resolveNetOptions(options),
      OptionError,
      message,
    );
    assertEquals(error.kind, "usage");
  }
});

Deno.test("parseMac() takes addresses of stations alone", () => {
  assertEquals([...parseMac("fe:00:00:00:00:ff")], [254, 0, 0, 0, 0, 255]);
  for (
    const mac of [
      ...["", "52:54:00:12:34", "52:54:00:12:34:5g", "525400123456", 5],
      ...["00:00:00:00:00:00", "53:54:00:12:34:56", "ff:ff:ff:ff:ff:ff"],
    ]
  ) assertThrows(() => parseMac(mac), OptionError, "Cannot use mac=");
});
